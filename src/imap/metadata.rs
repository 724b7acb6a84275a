//! GETMETADATA and SETMETADATA, as two documents write them: RFC 5464, and the draft before it (annotatemore-10), in whose
//! words the notification draft speaks.
//!
//!     C: a GETMETADATA (DEPTH 1) "INBOX" (/private/filters/values)        RFC 5464: one value an entry
//!     C: a GETMETADATA /notify/* (channel credential push)                the draft: patterns, several attributes an entry
//!
//! The two are told apart by where an entry, which alone begins with `/`, stands. Requirement N15.

use super::{
    command::SyntaxError,
    entry::{Depth, EntryName, EntryNameError},
    token::{Cursor, Text},
};

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Get {
    /// RFC 5464 section 4.2.
    Entries {
        /// Of which mailbox; empty: of the server.
        mailbox: Box<[u8]>,
        /// Which.
        entries: Vec<EntryName>,
        /// And how much below them.
        depth: Depth,
        /// Values with more octets are left out.
        most: Option<u32>,
    },
    /// The draft: of the server only.
    Attributes {
        /// Names with `*` and `%` in them, in lower case.
        patterns: Vec<Box<str>>,
        /// Which of their attributes.
        attributes: Vec<Attribute>,
    },
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// RFC 5464 section 4.3.
    Entries {
        /// In which mailbox; empty: in the server.
        mailbox: Box<[u8]>,
        /// Which, and to what; nothing removes them.
        edits: Vec<(EntryName, Option<Value>)>,
    },
    /// The draft.
    Attributes {
        /// In which mailboxes: a name that may have `*` and `%` in it.
        mailbox: Box<[u8]>,
        /// Entry, attribute, value.
        edits: Vec<(Box<str>, Attribute, Option<Value>)>,
    },
}

/// An attribute of an entry of the draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in lower case, without a suffix: `value`, `channel`.
    pub name: Box<str>,
    /// `.priv` or `.shared`; without either both are read, and none can be written.
    pub scope: Option<Scope>,
}

/// To whom an attribute belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `.priv`
    Private,
    /// `.shared`
    Shared,
}

/// A value as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Any octets.
    pub octets: Box<[u8]>,
    /// It came as literal8.
    pub binary: bool,
}

/// Why a command is BAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is in neither of the grammars.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] EntryNameError),
}

impl Get {
    /// Reads the arguments of GETMETADATA, without the line's end. Options may stand in front of the mailbox, as the grammar has them (erratum 2785),
    /// or behind it, as the RFC's examples do.
    pub fn parse(arguments: &[u8]) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(arguments);
        let mut options = (Depth::Zero, None);
        let leads = first_word(&cursor);
        if cursor.peek() == Some(b'(') && is_entry(&leads) {
            let patterns = cursor.list(Cursor::list_mailbox)?;
            return Self::attributes(patterns.iter().map(|pattern| lower(pattern)).collect(), cursor);
        }
        if cursor.peek() == Some(b'(') {
            options = read_options(&mut cursor)?;
            cursor.space()?;
        }
        let first = cursor.list_mailbox()?;
        cursor.space()?;
        let next = first_word(&cursor);
        if cursor.peek() == Some(b'(') && is_option(&next) {
            options = read_options(&mut cursor)?;
            cursor.space()?;
        } else if !is_entry(&next) {
            return Self::attributes(vec![lower(&first)], cursor);
        }
        let names = cursor.list_or_one(Cursor::astring)?;
        cursor.end()?;
        let entries = names.iter().map(|name| EntryName::place(name)).collect::<Result<_, _>>()?;
        let (depth, most) = options;
        Ok(Self::Entries { mailbox: (&*first).into(), entries, depth, most })
    }

    fn attributes(patterns: Vec<Box<str>>, mut cursor: Cursor<'_>) -> Result<Self, MetadataError> {
        if cursor.peek() == Some(b' ') {
            cursor.space()?;
        }
        let attributes = cursor.list_or_one(attribute)?;
        cursor.end()?;
        Ok(Self::Attributes { patterns, attributes })
    }
}

impl Set {
    /// Reads the arguments of SETMETADATA, without the line's end.
    pub fn parse(arguments: &[u8]) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(arguments);
        let mailbox: Box<[u8]> = (&*cursor.list_mailbox()?).into();
        cursor.space()?;
        let groups = match (cursor.peek(), is_draft(&cursor)) {
            (Some(b'('), true) => cursor.list(group)?,
            (Some(b'('), false) => {
                let pairs = cursor.list(|cursor| {
                    let name = cursor.astring()?;
                    cursor.space()?;
                    Ok((name, value(cursor)?))
                })?;
                cursor.end()?;
                let edits = pairs.into_iter().map(|(name, value)| Ok((EntryName::parse(&name)?, value)));
                return Ok(Self::Entries { mailbox, edits: edits.collect::<Result<_, EntryNameError>>()? });
            }
            _ => vec![group(&mut cursor)?],
        };
        cursor.end()?;
        let flat = |(entry, pairs): Group| {
            pairs.into_iter().map(move |(attribute, value)| (entry.clone(), attribute, value)).collect::<Vec<_>>()
        };
        Ok(Self::Attributes { mailbox, edits: groups.into_iter().flat_map(flat).collect() })
    }
}

/// The entries and values of a response (RFC 5464 section 4.4.1), given with its literals and without its end; nothing for one
/// that only says which entries have changed.
pub fn values(line: &[u8]) -> Option<Vec<(EntryName, Box<[u8]>)>> {
    let mut cursor = Cursor::new(line);
    if !cursor.accept(b"* METADATA ") {
        return None;
    }
    cursor.astring().ok()?;
    cursor.space().ok()?;
    let pairs = cursor.list(|cursor| {
        let name = cursor.astring()?;
        cursor.space()?;
        Ok((EntryName::parse(&name).ok(), cursor.value()?))
    });
    let values = pairs.ok()?.into_iter().filter_map(|(name, value)| Some((name?, value?.octets.into_owned().into())));
    Some(values.collect())
}

/// An entry of the draft, and what becomes of its attributes.
type Group = (Box<str>, Vec<(Attribute, Option<Value>)>);

fn group(cursor: &mut Cursor<'_>) -> Result<Group, SyntaxError> {
    let entry = lower(&cursor.list_mailbox()?);
    cursor.space()?;
    let pairs = cursor.list(|cursor| {
        let attribute = attribute(cursor)?;
        cursor.space()?;
        Ok((attribute, value(cursor)?))
    })?;
    Ok((entry, pairs))
}

fn value(cursor: &mut Cursor<'_>) -> Result<Option<Value>, SyntaxError> {
    let owned = |Text { octets, binary }: Text<'_>| Value { octets: octets.into_owned().into(), binary };
    Ok(cursor.value()?.map(owned))
}

fn attribute(cursor: &mut Cursor<'_>) -> Result<Attribute, SyntaxError> {
    let expected = cursor.expected("an attribute");
    let name = lower(&cursor.astring()?);
    let (name, scope) = match (name.strip_suffix(".priv"), name.strip_suffix(".shared")) {
        (Some(name), _) => (name, Some(Scope::Private)),
        (_, Some(name)) => (name, Some(Scope::Shared)),
        (None, None) => (&*name, None),
    };
    let sound = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    sound.then(|| Attribute { name: name.into(), scope }).ok_or(expected)
}

/// `(MAXSIZE 1024 DEPTH infinity)`
fn read_options(cursor: &mut Cursor<'_>) -> Result<(Depth, Option<u32>), SyntaxError> {
    let (mut depth, mut most) = (Depth::Zero, None);
    cursor.list(|cursor| {
        let unknown = cursor.expected("MAXSIZE or DEPTH");
        let name = cursor.atom()?.to_ascii_uppercase();
        cursor.space()?;
        match &*name {
            b"MAXSIZE" => most = Some(cursor.number()?),
            b"DEPTH" => {
                let wrong = cursor.expected("0, 1 or infinity");
                depth = match &*cursor.atom()?.to_ascii_lowercase() {
                    b"0" => Depth::Zero,
                    b"1" => Depth::One,
                    b"infinity" => Depth::Infinity,
                    _ => return Err(wrong),
                };
            }
            _ => return Err(unknown),
        }
        Ok(())
    })?;
    Ok((depth, most))
}

/// The first word that stands here, or in the list that does.
fn first_word(cursor: &Cursor<'_>) -> Box<str> {
    let mut ahead = cursor.clone();
    if ahead.peek() == Some(b'(') {
        let _ = ahead.open();
    }
    ahead.list_mailbox().map(|word| lower(&word)).unwrap_or_default()
}

fn is_entry(word: &str) -> bool {
    word.starts_with('/')
}

fn is_option(word: &str) -> bool {
    matches!(word, "maxsize" | "depth")
}

/// Whether a list of SETMETADATA has attributes behind its first entry.
fn is_draft(cursor: &Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    ahead.open().is_ok() && ahead.list_mailbox().is_ok() && ahead.space().is_ok() && ahead.peek() == Some(b'(')
}

/// Names of the draft are ASCII; what is not names nothing.
fn lower(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name).to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> EntryName {
        EntryName::place(name.as_bytes()).unwrap()
    }

    fn get(mailbox: &str, entries: &[&str], depth: Depth, most: Option<u32>) -> Result<Get, String> {
        let entries = entries.iter().map(|name| entry(name)).collect();
        Ok(Get::Entries { mailbox: mailbox.as_bytes().into(), entries, depth, most })
    }

    fn attributes(names: &[(&str, Option<Scope>)]) -> Vec<Attribute> {
        names.iter().map(|(name, scope)| Attribute { name: (*name).into(), scope: *scope }).collect()
    }

    fn value(octets: &[u8]) -> Option<Value> {
        Some(Value { octets: octets.into(), binary: octets.contains(&0) })
    }

    #[test]
    fn getmetadata_is_read_in_both_dialects() {
        let comments = ["/shared/comment", "/private/comment"];
        let all = [("channel", None), ("credential", None), ("push", None)];
        let of_notify = |patterns: &[&str], names: &[_]| {
            let patterns = patterns.iter().map(|pattern| (*pattern).into()).collect();
            Ok(Get::Attributes { patterns, attributes: attributes(names) })
        };
        let table = [
            // RFC 5464 section 4.2, its examples with their options where they stand, and where the grammar has them.
            ("\"\" /shared/comment", get("", &comments[..1], Depth::Zero, None)),
            ("\"INBOX\" (/shared/comment /private/comment)", get("INBOX", &comments, Depth::Zero, None)),
            (
                "\"INBOX\" (MAXSIZE 1024) (/shared/comment /private/comment)",
                get("INBOX", &comments, Depth::Zero, Some(1024)),
            ),
            (
                "(maxsize 1024 DEPTH INFINITY) INBOX /private/x",
                get("INBOX", &["/private/x"], Depth::Infinity, Some(1024)),
            ),
            (
                "\"INBOX\" (DEPTH 1) (/private/filters/values)",
                get("INBOX", &["/private/filters/values"], Depth::One, None),
            ),
            // The notification draft, section 11.4.
            ("/notify/* (channel credential push)", of_notify(&["/notify/*"], &all)),
            (
                "(/Comment /notify/%) value.priv",
                of_notify(&["/comment", "/notify/%"], &[("value", Some(Scope::Private))]),
            ),
            ("\"/notify/outband\" (size.shared)", of_notify(&["/notify/outband"], &[("size", Some(Scope::Shared))])),
            // Neither.
            ("INBOX", Err("expected a space at octet 5".to_owned())),
            ("INBOX (/private/a", Err("expected ) at octet 17".to_owned())),
            ("INBOX /private/a x", Err("expected the end of the command at octet 16".to_owned())),
            ("INBOX /comment", Err(EntryNameError::Root.to_string())),
            ("(DEPTH infinity) \"\" /private", get("", &["/private"], Depth::Infinity, None)),
            ("INBOX /private//a", Err(EntryNameError::Path.to_string())),
            ("(DEPTH 2) INBOX /private/a", Err("expected 0, 1 or infinity at octet 7".to_owned())),
            ("(WIDTH 2) INBOX /private/a", Err("expected MAXSIZE or DEPTH at octet 1".to_owned())),
        ];
        for (arguments, expected) in table {
            let read = Get::parse(arguments.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(read, expected, "{arguments}");
        }
    }

    #[test]
    fn setmetadata_is_read_in_both_dialects() {
        let set = |mailbox: &str, edits: &[(&str, Option<Value>)]| {
            let edits = edits.iter().map(|(name, value)| (entry(name), value.clone())).collect();
            Ok(Set::Entries { mailbox: mailbox.as_bytes().into(), edits })
        };
        let draft = |mailbox: &str, edits: &[(&str, &str, Scope, Option<Value>)]| {
            let edit = |(entry, name, scope, value): &(&str, &str, Scope, Option<Value>)| {
                ((*entry).into(), Attribute { name: (*name).into(), scope: Some(*scope) }, value.clone())
            };
            Ok(Set::Attributes { mailbox: mailbox.as_bytes().into(), edits: edits.iter().map(edit).collect() })
        };
        let (private, shared) = (Scope::Private, Scope::Shared);
        let table: [(&[u8], Result<Set, String>); 9] = [
            // RFC 5464 section 4.3.
            (b"INBOX (/private/comment {5+}\r\na\r\n(b)", set("INBOX", &[("/private/comment", value(b"a\r\n(b"))])),
            (b"INBOX (/private/comment NIL)", set("INBOX", &[("/private/comment", None)])),
            (
                b"\"\" (/private/comment \"x\" /shared/comment ~{2}\r\n\0y)",
                set("", &[("/private/comment", value(b"x")), ("/shared/comment", value(b"\0y"))]),
            ),
            // The notification draft, section 11.4, and the list form of the draft it stands on.
            (
                b"\"INBOX\" /notify/outband (channel.priv \"MMS=EXTENDED\")",
                draft("INBOX", &[("/notify/outband", "channel", private, value(b"MMS=EXTENDED"))]),
            ),
            (
                b"% (/comment (value.priv NIL value.shared \"y\") /notify/event (filter.priv \"NEW\"))",
                draft(
                    "%",
                    &[
                        ("/comment", "value", private, None),
                        ("/comment", "value", shared, value(b"y")),
                        ("/notify/event", "filter", private, value(b"NEW")),
                    ],
                ),
            ),
            // Neither.
            (b"INBOX ()", Err("expected an atom or a string at octet 7".to_owned())),
            (b"INBOX (/private/comment)", Err("expected a space at octet 23".to_owned())),
            (b"INBOX (/private/comment x)", Err("expected a string at octet 24".to_owned())),
            (b"INBOX /notify/outband (a.b.priv \"x\")", Err("expected an attribute at octet 23".to_owned())),
        ];
        for (arguments, expected) in table {
            let read = Set::parse(arguments).map_err(|error| error.to_string());
            assert_eq!(read, expected, "{}", arguments.escape_ascii());
        }
    }
}
