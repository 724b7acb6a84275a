//! THE WORDS: what may stand in a command that has to be understood, and which capability brings it.
//!
//!     C: a SELECT INBOX (QRESYNC (67890007 20050715194045000))
//!     C: b FETCH 3 (FLAGS BODY.PEEK[TEXT]<0.100> MODSEQ) (CHANGEDSINCE 9)
//!     C: c STORE 3 (UNCHANGEDSINCE 9) +FLAGS (\Seen)
//!     C: d SEARCH RETURN (MIN PARTIAL 1:10) YOUNGER 3600
//!
//! Where client and backend do not count alike, a word that stands in no row is not passed on: it may name messages, or be
//! answered by their numbers (architecture 4.7). Values are passed over; what they may be is for the backend to say.

use super::{
    capability::Capabilities,
    command::SyntaxError,
    fetch,
    search::Program,
    token::Cursor,
    verb::{Numbers, Verb},
};

/// The capabilities any of which brings a word; none: RFC 3501 has it.
pub type Bringers = &'static [&'static str];

type Rows = &'static [(&'static str, Bringers)];

const BASE: Bringers = &[];
const ANNOTATE: Bringers = &["ANNOTATE-EXPERIMENT-1"];
const BINARY: Bringers = &["BINARY"];
/// What brings mod-sequences: who has QRESYNC has CONDSTORE (RFC 7162 section 3.2.3).
pub const CONDSTORE: Bringers = &["CONDSTORE", "QRESYNC"];
const CONTEXT: Bringers = &["CONTEXT="];
/// RFC 5267 section 3 has it for SORT.
const ESEARCH: Bringers = &["ESEARCH", "ESORT"];
pub(super) const OBJECTID: Bringers = &["OBJECTID"];

/// What FETCH asks for (RFC 3501 6.4.5).
#[rustfmt::skip]
const ITEMS: Rows = &[
    ("ALL", BASE), ("ANNOTATION", ANNOTATE), ("BINARY", BINARY), ("BINARY.PEEK", BINARY), ("BINARY.SIZE", BINARY), ("BODY", BASE),
    ("BODY.PEEK", BASE), ("BODYSTRUCTURE", BASE), ("EMAILID", OBJECTID), ("ENVELOPE", BASE), ("FAST", BASE), ("FLAGS", BASE),
    ("FULL", BASE), ("INTERNALDATE", BASE), ("MODSEQ", CONDSTORE), ("PREVIEW", &["PREVIEW", "PREVIEW="]), ("RFC822", BASE),
    ("RFC822.HEADER", BASE), ("RFC822.SIZE", BASE), ("RFC822.TEXT", BASE), ("SAVEDATE", &["SAVEDATE"]), ("THREADID", OBJECTID),
    ("UID", BASE),
];

/// Items behind which a list belongs to them: entries and attributes, `(LAZY)`.
const WITH_LIST: [&str; 2] = ["ANNOTATION", "PREVIEW"];

/// What stands in the list behind the items (RFC 4466 section 2.4).
const FETCH_MODIFIERS: Rows = &[("CHANGEDSINCE", CONDSTORE), ("PARTIAL", &["PARTIAL"]), ("VANISHED", &["QRESYNC"])];

/// What stands in the list in front of what is stored (RFC 4466 section 2.5).
const STORE_MODIFIERS: Rows = &[("UNCHANGEDSINCE", CONDSTORE)];

/// What is stored (RFC 3501 6.4.6).
#[rustfmt::skip]
const STORED: Rows = &[
    ("+FLAGS", BASE), ("+FLAGS.SILENT", BASE), ("-FLAGS", BASE), ("-FLAGS.SILENT", BASE), ("ANNOTATION", ANNOTATE), ("FLAGS", BASE),
    ("FLAGS.SILENT", BASE),
];

/// What stands behind the name of a mailbox to be selected (RFC 4466 section 2.1).
const SELECT_PARAMETERS: Rows = &[("ANNOTATE", ANNOTATE), ("CONDSTORE", CONDSTORE), ("QRESYNC", &["QRESYNC"])];

/// What a search is to return (RFC 4466 section 2.6.1).
#[rustfmt::skip]
const RETURN_OPTIONS: Rows = &[
    ("ALL", ESEARCH), ("CONTEXT", CONTEXT), ("COUNT", ESEARCH), ("MAX", ESEARCH), ("MIN", ESEARCH),
    ("PARTIAL", &["CONTEXT=", "PARTIAL"]), ("RELEVANCY", &["SEARCH=FUZZY"]), ("SAVE", &["SEARCHRES"]), ("UPDATE", CONTEXT),
];

/// Words with which a client says that it knows mod-sequences, by command (RFC 7162 section 3.1, RFC 5465 section 5.2).
#[rustfmt::skip]
const OF_MODSEQ: [(&str, &[&str]); 10] = [
    ("ENABLE", &["CONDSTORE", "QRESYNC"]), ("EXAMINE", &["CONDSTORE", "QRESYNC"]), ("FETCH", &["CHANGEDSINCE", "MODSEQ"]),
    ("NOTIFY", &["MODSEQ"]), ("SEARCH", &["MODSEQ"]), ("SELECT", &["CONDSTORE", "QRESYNC"]), ("SORT", &["MODSEQ"]),
    ("STATUS", &["HIGHESTMODSEQ"]), ("STORE", &["UNCHANGEDSINCE"]), ("THREAD", &["MODSEQ"]),
];

/// Whether a client says with this command that it knows mod-sequences. One that has such a word elsewhere, in a string, is told
/// more than it has asked for, which does no harm.
pub fn knows_modseq(verb: &Verb, arguments: &[u8]) -> bool {
    let row = OF_MODSEQ.iter().find(|(name, _)| *name == base(verb));
    row.is_some_and(|(_, words)| says(arguments, words))
}

/// Whether a client wants with this command to be told by UID which messages have gone (RFC 7162 section 3.2.3).
pub fn enables_qresync(verb: &Verb, arguments: &[u8]) -> bool {
    verb.name == "ENABLE" && says(arguments, &["QRESYNC"])
}

fn says(arguments: &[u8], words: &[&str]) -> bool {
    let mut said = arguments.split(|octet| b" ()\r\n".contains(octet));
    said.any(|word| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
}

/// Whether a command of this verb has words of which each has to be known.
pub fn matter(verb: &Verb) -> bool {
    verb.numbers == Numbers::Criteria || matches!(base(verb), "EXAMINE" | "FETCH" | "SELECT" | "STORE")
}

/// Reads the words of a command, given by its arguments without the line's end; the first that is not to be had is an error.
pub fn check(verb: &Verb, arguments: &[u8], offered: &Capabilities) -> Result<(), SyntaxError> {
    let mut cursor = Cursor::new(arguments);
    match base(verb) {
        _ if verb.numbers == Numbers::Criteria => criteria(verb, arguments, offered),
        "FETCH" => fetched(&mut cursor, offered),
        "STORE" => stored(&mut cursor, offered),
        "SELECT" | "EXAMINE" => {
            cursor.astring()?;
            match cursor.accept(b" ") {
                true => modifiers(&mut cursor, SELECT_PARAMETERS, offered),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// `UID FETCH` has the words of FETCH.
fn base(verb: &Verb) -> &'static str {
    verb.name.strip_prefix("UID ").unwrap_or(verb.name)
}

fn fetched(cursor: &mut Cursor<'_>, offered: &Capabilities) -> Result<(), SyntaxError> {
    messages(cursor)?;
    match cursor.peek() {
        Some(b'(') => drop(cursor.list(|cursor| item(cursor, offered))?),
        _ => item(cursor, offered)?,
    }
    match cursor.accept(b" ") {
        true => modifiers(cursor, FETCH_MODIFIERS, offered),
        false => Ok(()),
    }
}

/// `BODY.PEEK[HEADER.FIELDS (DATE "FROM")]<0.2048>`
fn item(cursor: &mut Cursor<'_>, offered: &Capabilities) -> Result<(), SyntaxError> {
    let name = word(cursor, ITEMS, offered)?;
    fetch::section(cursor)?;
    if WITH_LIST.iter().any(|with| name.eq_ignore_ascii_case(with.as_bytes())) && cursor.rest().starts_with(b" (") {
        cursor.space()?;
        cursor.list_as_written()?;
    }
    Ok(())
}

fn stored(cursor: &mut Cursor<'_>, offered: &Capabilities) -> Result<(), SyntaxError> {
    messages(cursor)?;
    if cursor.peek() == Some(b'(') {
        modifiers(cursor, STORE_MODIFIERS, offered)?;
        cursor.space()?;
    }
    word(cursor, STORED, offered).map(drop)
}

fn criteria(verb: &Verb, arguments: &[u8], offered: &Capabilities) -> Result<(), SyntaxError> {
    let mut cursor = Cursor::new(arguments);
    if cursor.accept(b"RETURN ") {
        modifiers(&mut cursor, RETURN_OPTIONS, offered)?;
    }
    let program = Program::of(verb, arguments)?;
    let unknown = SyntaxError { expected: "search keys that are offered", at: program.keys };
    if program.brought.iter().all(|bringers| is_offered(bringers, offered)) { Ok(()) } else { Err(unknown) }
}

/// The messages of a command, whatever they are called.
fn messages(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    cursor.run(|octet| octet.is_ascii_graphic(), "messages")?;
    cursor.space()
}

/// `(MIN PARTIAL 1:10)`: names, and values behind some of them, which begin with what no name begins with.
fn modifiers(cursor: &mut Cursor<'_>, rows: Rows, offered: &Capabilities) -> Result<(), SyntaxError> {
    let member = |cursor: &mut Cursor<'_>| match cursor.peek() {
        Some(b'(') => cursor.list_as_written().map(drop),
        Some(b'0'..=b'9' | b'*' | b'-' | b'$') => {
            cursor.run(|octet| octet.is_ascii_graphic() && octet != b')', "a value").map(drop)
        }
        _ => word(cursor, rows, offered).map(drop),
    };
    cursor.list_or_empty(member).map(drop)
}

/// A word that stands in a row, and is offered.
fn word<'a>(cursor: &mut Cursor<'a>, rows: Rows, offered: &Capabilities) -> Result<&'a [u8], SyntaxError> {
    let unknown = cursor.expected("a word that is offered");
    let name = cursor.run(|octet| octet.is_ascii_graphic() && !b"()[]<>{\"".contains(&octet), "a word")?;
    let row = rows.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    row.filter(|(_, bringers)| is_offered(bringers, offered)).map(|_| name).ok_or(unknown)
}

fn is_offered(bringers: &[&str], offered: &Capabilities) -> bool {
    bringers.is_empty() || bringers.iter().any(|word| offered.has(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::command;

    const ALL: &str = "ANNOTATE-EXPERIMENT-1 BINARY CONDSTORE CONTEXT=SEARCH ESEARCH ESORT FILTERS OBJECTID PARTIAL PREVIEW QRESYNC \
                       SAVEDATE SEARCH=FUZZY SEARCHRES SORT THREAD=REFS WITHIN";

    fn judge(command: &str, offered: &str) -> Result<(), String> {
        let line = format!("a {command}\r\n");
        let head = command::head(line.as_bytes()).unwrap();
        let arguments = head.arguments.strip_suffix(b"\r\n").unwrap();
        assert!(matter(head.verb), "{command}");
        check(head.verb, arguments, &Capabilities::parse(offered.as_bytes())).map_err(|error| error.to_string())
    }

    #[test]
    fn words_of_rfc_3501_are_always_had() {
        for command in [
            "FETCH 1:* (FLAGS BODY[HEADER.FIELDS (DATE \"a]b\")] uid BODY.PEEK[1.2.MIME]<0.2048>)",
            "FETCH 2 full",
            "UID FETCH 4827313:4828442 FLAGS",
            "STORE 2:4 +FLAGS (\\Deleted)",
            "UID STORE 1 -flags.silent \\Seen \\Draft",
            "SELECT \"In box\"",
            "EXAMINE {5}\r\nInbox",
            "SEARCH CHARSET UTF-8 OR 1:3 NOT TEXT {1}\r\nx",
        ] {
            assert_eq!(judge(command, ""), Ok(()), "{command}");
        }
    }

    #[test]
    fn what_a_capability_brings_is_had_where_it_is_offered() {
        for command in [
            // RFC 7162, 5267, 9394, 3516, 8970, 8474, 8514, 5257.
            "FETCH 1 (UID MODSEQ)",
            "UID FETCH 1:* FLAGS (CHANGEDSINCE 12345 VANISHED)",
            "UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -1:-100)",
            "FETCH 1 (PREVIEW (LAZY) FLAGS)",
            "FETCH 1 PREVIEW (LAZY)",
            "FETCH 1 BINARY.PEEK[1.2]<0.10>",
            "FETCH 1 (EMAILID THREADID SAVEDATE)",
            "FETCH 1 (ANNOTATION (\"/*\" (\"value.priv\" \"size.priv\")))",
            "STORE 1 (UNCHANGEDSINCE 9) FLAGS.SILENT ()",
            "STORE 1 ANNOTATION (/comment (value.priv \"My new comment\"))",
            "SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
            "SELECT INBOX (CONDSTORE)",
            "SEARCH RETURN (MIN COUNT) 1:3",
            "UID SEARCH RETURN (UPDATE PARTIAL 1:10 CONTEXT) UNDELETED",
            "SORT RETURN (ALL) (REVERSE DATE) UTF-8 UNDELETED",
            "SEARCH RETURN (SAVE) OR YOUNGER 60 MODSEQ \"/flags/\\\\draft\" all 620162338",
            "SEARCH EMAILID M6d99ac3275bb4e FUZZY (SUBJECT x) SAVEDON 1-Jan-2000 $ FILTER x",
            "THREAD REFS UTF-8 $",
        ] {
            assert_eq!(judge(command, ALL), Ok(()), "{command}");
            assert!(judge(command, "IMAP4rev1").is_err(), "{command}");
        }
    }

    #[test]
    fn who_says_modseq_knows_it() {
        let said = |command: &str| {
            let line = format!("a {command}\r\n");
            let head = command::head(line.as_bytes()).unwrap();
            knows_modseq(head.verb, head.arguments)
        };
        for command in [
            "ENABLE X qresync",
            "SELECT INBOX (CONDSTORE)",
            "EXAMINE INBOX (QRESYNC (1 2))",
            "UID FETCH 1 (FLAGS MODSEQ)",
            "FETCH 1 FLAGS (CHANGEDSINCE 5)",
            "STORE 1 (UNCHANGEDSINCE 5) FLAGS ()",
            "SEARCH OR MODSEQ 5 SEEN",
            "STATUS INBOX (HIGHESTMODSEQ)",
            "NOTIFY SET (selected (MessageNew (UID MODSEQ) MessageExpunge))",
        ] {
            assert!(said(command), "{command}");
        }
        for command in ["ENABLE X", "SELECT INBOX", "FETCH 1 FLAGS", "STATUS INBOX (MESSAGES)", "CREATE MODSEQ", "NOOP"]
        {
            assert!(!said(command), "{command}");
        }
    }

    #[test]
    fn what_stands_in_no_row_is_said_with_its_place() {
        let table = [
            ("FETCH 1 X-NEXT", "expected a word that is offered at octet 2"),
            ("FETCH 1 (FLAGS X-NEXT 3)", "expected a word that is offered at octet 9"),
            ("FETCH 1 FLAGS (X-SINCE 3)", "expected a word that is offered at octet 9"),
            ("FETCH 1", "expected a space at octet 1"),
            ("STORE 1 (X-BEFORE 3) FLAGS ()", "expected a word that is offered at octet 3"),
            ("UID STORE 1 +X-GM-LABELS (a)", "expected a word that is offered at octet 2"),
            ("SELECT INBOX (X-FROM 3)", "expected a word that is offered at octet 7"),
            ("SEARCH RETURN (X-NEXT) ALL", "expected a word that is offered at octet 8"),
            ("SEARCH SEEN X-NEXT 3", "expected a search key at octet 5"),
        ];
        for (command, expected) in table {
            assert_eq!(judge(command, ALL), Err(expected.to_owned()), "{command}");
        }
    }
}
