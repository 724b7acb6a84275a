//! The names of source document 001 and of the draft it leans on (annotatemore-10), and those of RFC 5464 for the same rows.
//!
//! | the draft | RFC 5464 |
//! |---|---|
//! | `/E` value.priv, value.shared | `/private/E`, `/shared/E` |
//! | `/notify/G` A.priv, A.shared | `/private/vendor/lemonade/notify/G/A`, `/shared/vendor/...` |
//! | `/E` size.priv, size.shared | none: the length of the value |
//!
//! `/notify/G` has no value of its own, so no two names mean one row in two ways. Requirement N15.

use crate::imap::{
    entry::{EntryName, EntryNameError},
    metadata::{Attribute, Scope},
};

/// An entry and an attribute, as the draft names a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DraftName {
    /// `/comment`, `/notify/outband`
    pub entry: String,
    /// `value`, `channel`
    pub attribute: String,
    /// `.priv` rather than `.shared`
    pub private: bool,
}

/// Why an attribute is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// What is written needs `.priv` or `.shared`.
    #[error("an attribute is written with .priv or .shared")]
    Scope,
    /// Only `/notify/...` has attributes of other names.
    #[error("an entry has the attributes value and size")]
    Attribute,
    /// The length of a value follows from the value.
    #[error("size cannot be set")]
    Size,
    /// `/notify/G` has attributes, and no value.
    #[error("this entry has no value of its own")]
    NoValue,
    /// The name is none in RFC 5464 either.
    #[error(transparent)]
    Name(#[from] EntryNameError),
}

const GROUPS: &str = "/notify/";
const VENDOR: &str = "/vendor/lemonade/notify/";

/// The row that an attribute of an entry is.
pub fn row(entry: &str, attribute: &Attribute) -> Result<EntryName, DraftError> {
    let root = match attribute.scope.ok_or(DraftError::Scope)? {
        Scope::Private => "/private",
        Scope::Shared => "/shared",
    };
    let group = entry.strip_prefix(GROUPS);
    let name = match (&*attribute.name, group) {
        ("size", _) => return Err(DraftError::Size),
        ("value", Some(group)) if group.contains('/') => format!("{root}{VENDOR}{group}"),
        ("value", Some(_)) => return Err(DraftError::NoValue),
        ("value", None) => format!("{root}{entry}"),
        (name, Some(group)) => format!("{root}{VENDOR}{group}/{name}"),
        (_, None) => return Err(DraftError::Attribute),
    };
    Ok(EntryName::parse(name.as_bytes())?)
}

/// How the draft names this row. A row below `/notify` is an attribute of its group, whichever way it was written.
pub fn name(row: &EntryName) -> DraftName {
    let (private, path) = match row.as_str().strip_prefix("/private") {
        Some(path) => (true, path),
        None => (false, row.as_str().strip_prefix("/shared").unwrap_or_default()),
    };
    let of_group = path.strip_prefix(VENDOR).and_then(|rest| rest.rsplit_once('/'));
    let (entry, attribute) = match of_group {
        Some((group, attribute)) => (format!("{GROUPS}{group}"), attribute.to_owned()),
        None => (path.to_owned(), "value".to_owned()),
    };
    DraftName { entry, attribute, private }
}

impl DraftName {
    /// Whether an attribute that was asked for is this one: without a suffix both are.
    pub fn is(&self, asked: &Attribute) -> bool {
        *asked.name == *self.attribute && self.has_scope(asked)
    }

    /// Whether its length was asked for. Attributes that are no value have none.
    pub fn is_size(&self, asked: &Attribute) -> bool {
        &*asked.name == "size" && self.attribute == "value" && self.has_scope(asked)
    }

    fn has_scope(&self, asked: &Attribute) -> bool {
        asked.scope.is_none_or(|scope| (scope == Scope::Private) == self.private)
    }

    /// `.priv` or `.shared`.
    pub fn suffix(&self) -> &'static str {
        if self.private { ".priv" } else { ".shared" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(text: &str) -> Attribute {
        let (name, scope) = match text.rsplit_once('.') {
            Some((name, "priv")) => (name, Some(Scope::Private)),
            Some((name, _)) => (name, Some(Scope::Shared)),
            None => (text, None),
        };
        Attribute { name: name.into(), scope }
    }

    #[test]
    fn a_row_has_one_name_in_each_dialect() {
        for (entry, name_of_attribute, expected) in [
            ("/comment", "value.priv", "/private/comment"),
            ("/vendor/kmail/x", "value.shared", "/shared/vendor/kmail/x"),
            ("/notify/outband", "channel.priv", "/private/vendor/lemonade/notify/outband/channel"),
            ("/notify/inband", "push.shared", "/shared/vendor/lemonade/notify/inband/push"),
            ("/notify/default", "limit.priv", "/private/vendor/lemonade/notify/default/limit"),
        ] {
            let row = row(entry, &attribute(name_of_attribute)).unwrap();
            assert_eq!(row.as_str(), expected);
            let back = name(&row);
            assert_eq!((&*back.entry, back.is(&attribute(name_of_attribute))), (entry, true));
            assert_eq!(format!("{}{}", back.attribute, back.suffix()), name_of_attribute);
        }
    }

    #[test]
    fn an_attribute_of_a_group_can_also_be_written_as_an_entry() {
        let as_entry = row("/notify/event/filter", &attribute("value.priv")).unwrap();
        assert_eq!(as_entry, row("/notify/event", &attribute("filter.priv")).unwrap());
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (entry, text, why) in [
            ("/comment", "value", DraftError::Scope),
            ("/comment", "channel.priv", DraftError::Attribute),
            ("/comment", "size.priv", DraftError::Size),
            ("/notify/outband", "value.priv", DraftError::NoValue),
            ("comment", "value.priv", DraftError::Name(EntryNameError::Root)),
            ("/", "value.priv", DraftError::Name(EntryNameError::Path)),
            ("/a*", "value.priv", DraftError::Name(EntryNameError::Octet)),
        ] {
            assert_eq!(row(entry, &attribute(text)), Err(why), "{entry} {text}");
        }
    }
}
