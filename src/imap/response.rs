//! What a line of a backend is, told from its first words (RFC 3501 section 7).
//!
//!     S: * 23 EXISTS                   a fact about the mailbox
//!     S: * SEARCH 2 84 882             an answer to somebody's command
//!     S: a OK SEARCH completed         the end of a command
//!     S: + go ahead                    somebody's literal, or a SASL challenge
//!
//! The rest of a line is parsed by whoever needs it. Words that we do not know are [`Kind::Other`], and pass.

use memchr::memchr;

/// What kind of untagged response a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[rustfmt::skip]
pub enum Kind {
    /// A word in none of our tables.
    Other,
    // Status (7.1).
    /// `* OK`
    Ok,
    /// `* NO`
    No,
    /// `* BAD`
    Bad,
    /// `* PREAUTH`
    Preauth,
    /// `* BYE`
    Bye,
    // Server and mailbox status (7.2).
    /// `* CAPABILITY`
    Capability,
    /// `* LIST`
    List,
    /// `* LSUB`
    Lsub,
    /// `* STATUS`
    Status,
    /// `* SEARCH`
    Search,
    /// `* FLAGS`
    Flags,
    // Mailbox size (7.3) and messages (7.4).
    /// `* n EXISTS`
    Exists,
    /// `* n RECENT`
    Recent,
    /// `* n EXPUNGE`
    Expunge,
    /// `* n FETCH`
    Fetch,
    // Of extensions.
    /// RFC 4314.
    Acl,
    /// RFC 5161.
    Enabled,
    /// RFC 4731.
    Esearch,
    /// RFC 4467.
    Genurlauth,
    /// RFC 2971.
    Id,
    /// RFC 4314.
    Listrights,
    /// RFC 5464.
    Metadata,
    /// RFC 4314.
    Myrights,
    /// RFC 2342.
    Namespace,
    /// RFC 9208.
    Quota,
    /// RFC 9208.
    Quotaroot,
    /// RFC 5256.
    Sort,
    /// RFC 5256.
    Thread,
    /// RFC 4467.
    Urlfetch,
    /// RFC 7162.
    Vanished,
}

impl Kind {
    /// Its place in a [`Kinds`].
    const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether it tells of the mailbox, to whoever listens: no command owns it (architecture 4.3).
    pub fn is_fact(self) -> bool {
        Kinds::FACTS.has(self)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// What is true of the mailbox or the connection, whoever asked.
    pub const FACTS: Self = Self::of(&[
        Kind::Other,
        Kind::Ok,
        Kind::No,
        Kind::Bad,
        Kind::Preauth,
        Kind::Bye,
        Kind::Flags,
        Kind::Exists,
        Kind::Recent,
        Kind::Expunge,
        Kind::Fetch,
        Kind::Vanished,
    ]);

    /// Just these.
    pub const fn of(kinds: &[Kind]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < kinds.len() {
            set |= kinds[at].bit();
            at += 1;
        }
        Self(set)
    }

    /// Whether this kind is in it.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether some kind is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How a command ended, or what a status response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Refused, or failed.
    No,
    /// Not understood.
    Bad,
}

/// The first words of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `* 3 FETCH ...`
    Untagged {
        /// What it is.
        kind: Kind,
        /// The number before the word; 0 where there is none.
        number: u32,
    },
    /// `a OK ...`
    Tagged {
        /// Whose command.
        tag: &'a [u8],
        /// How it ended. A word that is no status counts as BAD: the command is over.
        status: Status,
    },
    /// `+ ...`
    Continuation,
}

impl Line<'_> {
    /// Whether the rest is text for people, in which braces mean nothing.
    pub fn is_text(&self) -> bool {
        match self {
            Self::Untagged { kind, .. } => matches!(kind, Kind::Ok | Kind::No | Kind::Bad | Kind::Preauth | Kind::Bye),
            Self::Tagged { .. } | Self::Continuation => true,
        }
    }
}

/// The words that stand behind `*`, or behind `* n`, by their kind.
const WORDS: [(&[u8], Kind); 30] = [
    (b"OK", Kind::Ok),
    (b"NO", Kind::No),
    (b"BAD", Kind::Bad),
    (b"PREAUTH", Kind::Preauth),
    (b"BYE", Kind::Bye),
    (b"CAPABILITY", Kind::Capability),
    (b"LIST", Kind::List),
    (b"LSUB", Kind::Lsub),
    (b"STATUS", Kind::Status),
    (b"SEARCH", Kind::Search),
    (b"FLAGS", Kind::Flags),
    (b"EXISTS", Kind::Exists),
    (b"RECENT", Kind::Recent),
    (b"EXPUNGE", Kind::Expunge),
    (b"FETCH", Kind::Fetch),
    (b"ACL", Kind::Acl),
    (b"ENABLED", Kind::Enabled),
    (b"ESEARCH", Kind::Esearch),
    (b"GENURLAUTH", Kind::Genurlauth),
    (b"ID", Kind::Id),
    (b"LISTRIGHTS", Kind::Listrights),
    (b"METADATA", Kind::Metadata),
    (b"MYRIGHTS", Kind::Myrights),
    (b"NAMESPACE", Kind::Namespace),
    (b"QUOTA", Kind::Quota),
    (b"QUOTAROOT", Kind::Quotaroot),
    (b"SORT", Kind::Sort),
    (b"THREAD", Kind::Thread),
    (b"URLFETCH", Kind::Urlfetch),
    (b"VANISHED", Kind::Vanished),
];

/// Reads the first words of a line; its end may still be missing. Cheap: it runs once a line of every session.
pub fn line(octets: &[u8]) -> Line<'_> {
    match octets {
        [b'*', b' ', rest @ ..] => untagged(rest),
        [b'+', ..] => Line::Continuation,
        _ => tagged(octets),
    }
}

fn untagged(rest: &[u8]) -> Line<'static> {
    let mut number = 0u32;
    let mut at = 0;
    while let Some(digit @ b'0'..=b'9') = rest.get(at) {
        number = number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
        at += 1;
    }
    let numbered = at > 0 && at <= 10 && rest.get(at) == Some(&b' ');
    let words = if numbered { &rest[at + 1..] } else { rest };
    if numbered && words.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"FETCH ")) {
        return Line::Untagged { kind: Kind::Fetch, number };
    }
    let end = words.iter().position(|octet| matches!(octet, b' ' | b'\r' | b'\n')).unwrap_or(words.len());
    let known = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&words[..end]));
    let kind = known.map_or(Kind::Other, |(_, kind)| *kind);
    match matches!(kind, Kind::Exists | Kind::Recent | Kind::Expunge | Kind::Fetch) == numbered {
        true => Line::Untagged { kind, number: if numbered { number } else { 0 } },
        false => Line::Untagged { kind: Kind::Other, number: 0 },
    }
}

fn tagged(octets: &[u8]) -> Line<'_> {
    let end = memchr(b' ', octets).unwrap_or(octets.len());
    let word = octets.get(end + 1..).unwrap_or_default();
    let word = &word[..word.iter().position(|octet| !octet.is_ascii_alphabetic()).unwrap_or(word.len())];
    let status = match () {
        () if word.eq_ignore_ascii_case(b"OK") => Status::Ok,
        () if word.eq_ignore_ascii_case(b"NO") => Status::No,
        () => Status::Bad,
    };
    Line::Tagged { tag: &octets[..end], status }
}

/// What stands behind the first `words` words of a line, its end cut off: `text("a OK [X] done\r\n", 2)` is `[X] done`.
pub fn text(line: &[u8], words: usize) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    for _ in 0..words {
        rest = memchr(b' ', rest).map_or(&[], |space| &rest[space + 1..]);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_from_its_first_words() {
        let untagged = |kind, number| Line::Untagged { kind, number };
        let table: &[(&[u8], Line<'_>)] = &[
            (b"* 23 EXISTS\r\n", untagged(Kind::Exists, 23)),
            (b"* 1 fetch (FLAGS ())\r\n", untagged(Kind::Fetch, 1)),
            (b"* 5 EXPUNGE\r\n", untagged(Kind::Expunge, 5)),
            (b"* SEARCH\r\n", untagged(Kind::Search, 0)),
            (b"* OK [UNSEEN 3] x\r\n", untagged(Kind::Ok, 0)),
            (b"* bye\n", untagged(Kind::Bye, 0)),
            (b"* EXISTS\r\n", untagged(Kind::Other, 0)),
            (b"* 3 SEARCH\r\n", untagged(Kind::Other, 0)),
            (b"* XYZZY 1\r\n", untagged(Kind::Other, 0)),
            (b"* 12345678901 EXISTS\r\n", untagged(Kind::Other, 0)),
            (b"+ idling\r\n", Line::Continuation),
            (b"+\r\n", Line::Continuation),
            (b"a1 OK done\r\n", Line::Tagged { tag: b"a1", status: Status::Ok }),
            (b"a1 no\r\n", Line::Tagged { tag: b"a1", status: Status::No }),
            (b"a1 WHAT\r\n", Line::Tagged { tag: b"a1", status: Status::Bad }),
        ];
        for (octets, expected) in table {
            assert_eq!(line(octets), *expected, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn the_text_stands_behind_the_words() {
        assert_eq!(text(b"a OK [X] done\r\n", 2), b"[X] done");
        assert_eq!(text(b"* BYE\r\n", 2), b"");
    }
}
