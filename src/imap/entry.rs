//! Names of annotations (RFC 5464 section 3.2), and how deep one looks below them.
//!
//!     /private/comment    /shared/vendor/lemonade/x    /private/vendor/lemonade/notify/outband/channel
//!
//! Names are case-insensitive; they are kept in lower case, so that one name is one key. Requirements N12, N15.

use std::fmt;

/// The name of an annotation, or of a place in the tree of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Box<str>);

/// What is wrong with a name: the command that holds it is BAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryNameError {
    /// It is no path of components with something in each.
    #[error("an entry name begins with / and has no empty component")]
    Path,
    /// An octet that may not stand in a name.
    #[error("an entry name is ASCII, without controls, * and %")]
    Octet,
    /// Not below one of the two roots.
    #[error("an entry name begins with /private/ or /shared/")]
    Root,
    /// More than anybody needs.
    #[error("an entry name has at most 256 octets")]
    TooLong,
}

/// How much of what stands below an entry is meant as well (RFC 5464 section 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// The entry itself.
    #[default]
    Zero,
    /// It, and what stands directly below it.
    One,
    /// It, and all that stands below it.
    Infinity,
}

const ROOTS: [&str; 2] = ["/private", "/shared"];

impl EntryName {
    /// No name is longer, in octets. The RFC sets no bound; ours is four times the longest name that anybody writes.
    pub const LONGEST: usize = 256;

    /// Reads a name.
    pub fn parse(octets: &[u8]) -> Result<Self, EntryNameError> {
        if octets.len() > Self::LONGEST {
            return Err(EntryNameError::TooLong);
        }
        // RFC 5464: 0x00 to 0x19. The six controls behind them, and DEL, have no business in a name either.
        let name = std::str::from_utf8(octets).map_err(|_| EntryNameError::Octet)?;
        if !name.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b'*' && octet != b'%') {
            return Err(EntryNameError::Octet);
        }
        if !name.strip_prefix('/').is_some_and(|path| path.split('/').all(|component| !component.is_empty())) {
            return Err(EntryNameError::Path);
        }
        let name = Self(name.to_ascii_lowercase().into());
        match name.0.starts_with("/private/") || name.0.starts_with("/shared/") {
            true => Ok(name),
            false => Err(EntryNameError::Root),
        }
    }

    /// Reads a name to look below: one of the two roots as well, where nothing stands itself.
    pub fn place(octets: &[u8]) -> Result<Self, EntryNameError> {
        let root = ROOTS.iter().find(|root| root.as_bytes().eq_ignore_ascii_case(octets));
        root.map_or_else(|| Self::parse(octets), |root| Ok(Self((*root).into())))
    }

    /// Whether it is one of the two roots.
    pub fn is_root(&self) -> bool {
        ROOTS.contains(&&*self.0)
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether it can hold a value: below a vendor's token there must be one more component.
    pub fn is_leaf(&self) -> bool {
        self.components().nth(1) != Some("vendor") || self.components().count() > 3
    }

    /// Whether this is `of`, or stands below it so deep.
    pub fn is_within(&self, of: &Self, depth: Depth) -> bool {
        let Some(below) = self.0.strip_prefix(&*of.0) else { return false };
        match (below.strip_prefix('/'), depth) {
            (None, _) => below.is_empty(),
            (Some(_), Depth::Zero) => false,
            (Some(below), Depth::One) => !below.contains('/'),
            (Some(_), Depth::Infinity) => true,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EntryName {
        EntryName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_is_a_path_below_one_of_two_roots() {
        let table = [
            ("/private/Comment", Ok("/private/comment")),
            ("/SHARED/vendor/x/Y z", Ok("/shared/vendor/x/y z")),
            ("", Err(EntryNameError::Path)),
            ("private/comment", Err(EntryNameError::Path)),
            ("/private//comment", Err(EntryNameError::Path)),
            ("/private/comment/", Err(EntryNameError::Path)),
            ("/private", Err(EntryNameError::Root)),
            ("/comment/private", Err(EntryNameError::Root)),
            ("/private/*", Err(EntryNameError::Octet)),
            ("/private/%", Err(EntryNameError::Octet)),
            ("/private/a\r\nb", Err(EntryNameError::Octet)),
            ("/private/\u{e9}", Err(EntryNameError::Octet)),
        ];
        for (text, expected) in table {
            assert_eq!(
                EntryName::parse(text.as_bytes()).as_ref().map(EntryName::as_str),
                expected.as_ref().copied(),
                "{text:?}"
            );
        }
        let longest = format!("/private/{}", "a".repeat(EntryName::LONGEST - 9));
        assert!(EntryName::parse(longest.as_bytes()).is_ok());
        assert_eq!(EntryName::parse(format!("{longest}a").as_bytes()), Err(EntryNameError::TooLong));
        assert_eq!(EntryName::parse(b"/private/\xff"), Err(EntryNameError::Octet));
    }

    #[test]
    fn one_can_look_below_a_root() {
        for text in ["/private", "/SHARED"] {
            let root = EntryName::place(text.as_bytes()).unwrap();
            assert!(root.is_root() && !name(&format!("{text}/x")).is_root());
            assert!(name(&format!("{text}/x/y")).is_within(&root, Depth::Infinity));
        }
        assert_eq!(EntryName::place(b"/privat"), Err(EntryNameError::Root));
        assert!(!name("/private/x").is_within(&EntryName::place(b"/shared").unwrap(), Depth::Infinity));
    }

    #[test]
    fn below_a_vendor_a_value_stands_one_deeper() {
        for (text, leaf) in [
            ("/private/comment", true),
            ("/private/vendor", false),
            ("/private/vendor/x", false),
            ("/shared/vendor/x/y", true),
            ("/private/filters/vendor", true),
        ] {
            assert_eq!(name(text).is_leaf(), leaf, "{text}");
        }
    }

    #[test]
    fn depth_is_counted_in_components() {
        // RFC 5464 4.2.2.
        let of = name("/private/filters/values");
        for (text, depths) in [
            ("/private/filters/values", [true, true, true]),
            ("/private/filters/values/small", [false, true, true]),
            ("/private/filters/values/small/er", [false, false, true]),
            ("/private/filters/valuesx", [false, false, false]),
            ("/private/filters", [false, false, false]),
        ] {
            let found = [Depth::Zero, Depth::One, Depth::Infinity].map(|depth| name(text).is_within(&of, depth));
            assert_eq!(found, depths, "{text}");
        }
    }
}
