//! Capability words, and for each: ours, relayed, or never relayed (`Class`).
//!
//!     S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR STARTTLS AUTH=PLAIN] ready
//!
//! What a backend says of the hop to us is not true of the hop to the client; what it says of the mail is, unless it would
//! change how responses must be read. Words that stand in no row are not relayed: they may do just that (architecture 12).

/// What becomes of a backend's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// True of one hop only: the client is told our own, if we have it.
    Ours,
    /// The client is told what the backend says.
    Relayed,
    /// Kept from the client, with a reason in the table.
    Never,
}

/// The rows. A name that ends with `=` stands for all words that begin so.
#[rustfmt::skip]
const TABLE: &[(&str, Class)] = &[
    ("IMAP4REV1", Class::Ours),
    ("STARTTLS", Class::Ours), ("LOGINDISABLED", Class::Ours), ("AUTH=", Class::Ours), ("SASL-IR", Class::Ours),
    ("LITERAL+", Class::Ours), ("LITERAL-", Class::Ours), ("COMPRESS=", Class::Ours), ("ID", Class::Ours),
    ("ENABLE", Class::Ours), ("IDLE", Class::Ours), ("UNAUTHENTICATE", Class::Ours), ("APPENDLIMIT", Class::Ours),
    ("APPENDLIMIT=", Class::Ours),
    // They would send the client past us.
    ("LOGIN-REFERRALS", Class::Never), ("MAILBOX-REFERRALS", Class::Never), ("JMAPACCESS", Class::Never),
    ("IMAPSIEVE=", Class::Never),
    // They change how everything else is read: names, numbers.
    ("IMAP4REV2", Class::Never), ("UTF8=", Class::Never), ("UIDONLY", Class::Never),
    ("ACL", Class::Relayed), ("RIGHTS=", Class::Relayed), ("ANNOTATE-EXPERIMENT-1", Class::Relayed),
    ("BINARY", Class::Relayed), ("CATENATE", Class::Relayed), ("CHILDREN", Class::Relayed),
    ("CONDSTORE", Class::Relayed), ("CONTEXT=", Class::Relayed), ("CONVERT", Class::Relayed),
    ("CREATE-SPECIAL-USE", Class::Relayed), ("ESEARCH", Class::Relayed), ("ESORT", Class::Relayed),
    ("FILTERS", Class::Relayed), ("I18NLEVEL=", Class::Relayed), ("INPROGRESS", Class::Relayed),
    ("LANGUAGE", Class::Relayed), ("LIST-EXTENDED", Class::Relayed), ("LIST-METADATA", Class::Relayed),
    ("LIST-MYRIGHTS", Class::Relayed), ("LIST-STATUS", Class::Relayed), ("METADATA", Class::Relayed),
    ("METADATA-SERVER", Class::Relayed), ("MOVE", Class::Relayed), ("MULTIAPPEND", Class::Relayed),
    ("MULTISEARCH", Class::Relayed), ("NAMESPACE", Class::Relayed), ("NOTIFY", Class::Relayed),
    ("OBJECTID", Class::Relayed), ("PARTIAL", Class::Relayed), ("PREVIEW", Class::Relayed),
    ("PREVIEW=", Class::Relayed), ("QRESYNC", Class::Relayed), ("QUOTA", Class::Relayed), ("QUOTA=", Class::Relayed),
    ("QUOTASET", Class::Relayed), ("REPLACE", Class::Relayed), ("SAVEDATE", Class::Relayed),
    ("SEARCH=FUZZY", Class::Relayed), ("SEARCHRES", Class::Relayed), ("SORT", Class::Relayed),
    ("SORT=DISPLAY", Class::Relayed), ("SPECIAL-USE", Class::Relayed), ("STATUS=SIZE", Class::Relayed),
    ("THREAD=", Class::Relayed), ("UIDPLUS", Class::Relayed), ("UNSELECT", Class::Relayed),
    ("URL-PARTIAL", Class::Relayed), ("URLAUTH", Class::Relayed), ("URLAUTH=BINARY", Class::Relayed),
    ("WITHIN", Class::Relayed),
    // In no RFC: where the backend itself pushes, it keeps the entries that they stand for (`account/annotation.rs`).
    ("WEBPUSH", Class::Relayed), ("XDELTAPUSH", Class::Relayed),
];

/// What becomes of this word of a backend.
pub fn class(word: &str) -> Class {
    TABLE.iter().find(|(name, _)| matches(name, word)).map_or(Class::Never, |(_, class)| *class)
}

/// Whether `word` is the capability `name`, or begins with it where the name ends with `=`.
fn matches(name: &str, word: &str) -> bool {
    match name.ends_with('=') {
        true => word.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)),
        false => word.eq_ignore_ascii_case(name),
    }
}

/// Capability words, as they were written, in the order in which they were.
///
/// One text, with a space between two words: each login makes two or three of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    text: String,
}

impl Capabilities {
    /// Octets: more than any server says; the rest of a longer list is not read.
    const MOST: usize = 4 << 10;

    /// The words of a list: what follows `* CAPABILITY `, or stands in a CAPABILITY code.
    pub fn parse(list: &[u8]) -> Self {
        // A word that is cut in two may be another word.
        let list = match list.get(..Self::MOST) {
            Some(start) => &start[..memchr::memrchr(b' ', start).unwrap_or(0)],
            None => list,
        };
        match std::str::from_utf8(list) {
            Ok(text) if list.iter().all(|octet| matches!(octet, b' '..=b'~')) => Self { text: text.to_owned() },
            _ => String::from_utf8_lossy(list)
                .split(' ')
                .filter(|word| word.bytes().all(|octet| octet.is_ascii_graphic()))
                .collect(),
        }
    }

    /// Whether this word is in it; `THREAD=` asks for any that begins so.
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|word| matches(name, word))
    }

    /// Adds a word, if it is not there yet.
    pub fn add(&mut self, word: &str) {
        if word.is_empty() || self.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(word);
    }

    /// Takes a word out.
    pub fn remove(&mut self, name: &str) {
        *self = self.iter().filter(|word| !matches(name, word)).collect();
    }

    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split_ascii_whitespace()
    }

    /// The values of a word with `=`: `values("AUTH=")` are the mechanisms.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |word| matches(name, word)).map(move |word| &word[name.len()..])
    }

    /// Whether nothing was said at all.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The words as they stand in a response, a space between them.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<'a> FromIterator<&'a str> for Capabilities {
    fn from_iter<I: IntoIterator<Item = &'a str>>(words: I) -> Self {
        let mut set = Self::default();
        words.into_iter().for_each(|word| set.add(word));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_class() {
        let table = [
            ("AUTH=PLAIN", Class::Ours),
            ("literal+", Class::Ours),
            ("AppendLimit=1000", Class::Ours),
            ("THREAD=REFS", Class::Relayed),
            ("SORT=DISPLAY", Class::Relayed),
            ("SORT=OTHER", Class::Never),
            ("XDELTAPUSH", Class::Relayed),
            ("UTF8=ACCEPT", Class::Never),
            ("X-UNHEARD-OF", Class::Never),
        ];
        for (word, expected) in table {
            assert_eq!(class(word), expected, "{word}");
        }
    }

    #[test]
    fn words_are_said_once_and_as_they_were_written() {
        let heard = Capabilities::parse(b"IMAP4rev1 Idle idle  AUTH=PLAIN AUTH=XOAUTH2 \xff");
        let words: Capabilities = heard.iter().collect();
        assert_eq!(words.text(), "IMAP4rev1 Idle AUTH=PLAIN AUTH=XOAUTH2");
        assert!(words.has("IDLE") && words.has("AUTH=") && !words.has("AUTH"));
        assert_eq!(words.values("AUTH=").collect::<Vec<_>>(), ["PLAIN", "XOAUTH2"]);
        assert!(Capabilities::parse(b"  ").is_empty());
    }

    #[test]
    fn a_list_without_end_is_cut_between_two_words() {
        for len in Capabilities::MOST - 8..Capabilities::MOST + 2 {
            let list = format!("IDLE {} IDLEST", "X".repeat(len - 11));
            let words = Capabilities::parse(list.as_bytes());
            assert_eq!(words.has("IDLEST"), len + 1 < Capabilities::MOST, "{len}");
            assert!(words.iter().all(|word| word.starts_with('X') || word == "IDLE" || word == "IDLEST"), "{len}");
        }
    }
}
