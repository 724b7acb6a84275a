//! What a FETCH asks for and what it says (RFC 3501 6.4.5 and 7.4.2): the value of `msgformat`, and the items of a response.
//!
//!     C: a SETMETADATA "" /notify/inband (msgformat.priv "(FLAGS BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])")
//!     C: b IDLE
//!     S: * 24 EXISTS
//!     S: * 24 FETCH (UID 1017 FLAGS () BODY[HEADER.FIELDS (FROM SUBJECT)] {41}
//!
//! The notification draft has one fetch-att (section 11.3); a list and a macro say the same in fewer commands. Where they are
//! shown unasked, contents are cut and headers come whole. Requirement N13.

use imap_codec::imap_types::{
    command::CommandBody,
    fetch::{MacroOrMessageDataItemNames, MessageDataItemName},
};

use super::{
    command::{self, SyntaxError},
    token::Cursor,
};

/// Items that can be fetched again and again, and nothing is changed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchItems(Box<str>);

impl FetchItems {
    /// So many octets say what a small screen shows.
    pub const LONGEST: usize = 1024;

    /// Reads one item, a list of them, or ALL, FAST or FULL.
    pub fn parse(octets: &[u8]) -> Result<Self, SyntaxError> {
        Self::parse_with(octets, false)
    }

    /// The same. `modseq`: MODSEQ may be among them, because the server has it.
    pub fn parse_with(octets: &[u8], modseq: bool) -> Result<Self, SyntaxError> {
        if octets.len() > Self::LONGEST {
            return Err(SyntaxError { expected: "at most 1024 octets", at: Self::LONGEST });
        }
        // In one line: names of header fields need no literals, and what is not text is no command of ours to say.
        if let Some(at) = octets.iter().position(|octet| !matches!(octet, b' '..=b'~')) {
            return Err(SyntaxError { expected: "printable ASCII", at });
        }
        let written = String::from_utf8_lossy(octets).to_ascii_uppercase();
        // RFC 3501 6.4.5: what the macros stand for.
        let text = match &*written {
            "ALL" => "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
            "FAST" => "(FLAGS INTERNALDATE RFC822.SIZE)",
            "FULL" => "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)",
            items => items,
        };
        check(text, modseq)?;
        let text = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
        Ok(Self(text.into()))
    }

    /// The items, with no part of a body longer than this: `BODY.PEEK[]` becomes `BODY.PEEK[]<0.65536>`.
    ///
    /// A header comes whole: it has a bound at every server, and with an offset it would be called otherwise than the item that
    /// was asked for (RFC 3501 7.4.2).
    pub fn bounded(&self, octets: u32) -> String {
        let mut text = String::new();
        let mut cursor = Cursor::new(self.0.as_bytes());
        while let Some(octet) = cursor.peek() {
            let start = cursor.at();
            if octet != b'[' {
                cursor.accept(&[octet]);
                text.push(char::from(octet));
                continue;
            }
            // It was read before.
            let Ok(()) = section(&mut cursor) else { break };
            let written = String::from_utf8_lossy(cursor.since(start));
            let (part, offset) = written.rsplit_once(']').unwrap_or((&written, ""));
            let (first, len) = offset.trim_matches(['<', '>']).split_once('.').unwrap_or(("0", ""));
            let len = len.parse().map_or(octets, |len: u32| len.min(octets));
            text.push_str(part);
            text.push(']');
            if !offset.is_empty() || is_content(&part[1..]) {
                text.push_str(&format!("<{first}.{len}>"));
            }
        }
        text
    }

    /// The items in parentheses and upper case, as a FETCH has them.
    pub fn as_text(&self) -> &str {
        &self.0
    }
}

/// Whether a section is a message, a part or a text: `[]`, `[1.2]`, `[1.TEXT]`; not `[HEADER]`, `[1.MIME]`.
fn is_content(section: &str) -> bool {
    section.split('.').all(|word| word.is_empty() || word == "TEXT" || word.bytes().all(|octet| octet.is_ascii_digit()))
}

/// The grammar is imap-codec's: these are the items of a FETCH, and nothing is behind them.
fn check(text: &str, modseq: bool) -> Result<(), SyntaxError> {
    let wrong = SyntaxError { expected: "items of FETCH", at: 0 };
    let command = format!("a FETCH 1 {text}\r\n");
    match command::decode(command.as_bytes()).map_err(|_| wrong)? {
        CommandBody::Fetch {
            macro_or_item_names: MacroOrMessageDataItemNames::MessageDataItemNames(items),
            modifiers,
            ..
        } if !items.is_empty() && modifiers.is_empty() => items.iter().try_for_each(|item| harmless(item, modseq)),
        _ => Err(wrong),
    }
}

fn harmless(item: &MessageDataItemName<'_>, modseq: bool) -> Result<(), SyntaxError> {
    use MessageDataItemName::{Binary, BinarySize, BodyExt, ModSeq, Rfc822, Rfc822Text};
    match item {
        // RFC 3501 6.4.5: these set \Seen, and the user has seen nothing yet.
        BodyExt { peek: false, .. } | Rfc822 | Rfc822Text => {
            Err(SyntaxError { expected: "BODY.PEEK[], which leaves \\Seen alone", at: 0 })
        }
        ModSeq if modseq => Ok(()),
        // What an old server need not know.
        Binary { .. } | BinarySize { .. } | ModSeq => Err(SyntaxError { expected: "items of RFC 3501", at: 0 }),
        _ => Ok(()),
    }
}

/// What a FETCH response says (RFC 3501 7.4.2): `* 12 FETCH (UID 1017 FLAGS (\Seen) BODY[] {3}...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// The backend's number of the message.
    pub number: u32,
    items: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Fetched<'a> {
    /// Reads a whole response, literals included; `None` if it is none.
    pub fn parse(response: &'a [u8]) -> Option<Self> {
        let response = response.strip_suffix(b"\r\n").unwrap_or(response);
        let mut cursor = Cursor::new(response.strip_prefix(b"* ")?);
        let number = cursor.number().ok()?;
        if !cursor.accept(b" FETCH ") {
            return None;
        }
        let items = cursor.list_or_empty(item).ok()?;
        cursor.end().ok()?;
        Some(Self { number, items })
    }

    /// Reads the first line of a response: its items up to the first literal.
    pub fn first_line(line: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(line.strip_prefix(b"* ")?);
        let number = cursor.number().ok()?;
        (cursor.accept(b" FETCH ") && cursor.accept(b"(")).then(|| Self { number, items: items(&mut cursor) })
    }

    /// Reads a line behind a literal: its items up to the next one, or to the end.
    pub fn next_line(number: u32, line: &'a [u8]) -> Self {
        let mut cursor = Cursor::new(line);
        cursor.accept(b" ");
        Self { number, items: items(&mut cursor) }
    }

    /// The names of its items.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.items.iter().map(|(name, _)| *name)
    }

    /// The value of this item, as it was written.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.items.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value)
    }

    /// The message's UID, if it says so.
    pub fn uid(&self) -> Option<u32> {
        std::str::from_utf8(self.value("UID")?).ok()?.parse().ok().filter(|uid| *uid > 0)
    }
}

/// The items that stand on this line whole.
fn items<'a>(cursor: &mut Cursor<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    let mut items = Vec::new();
    while let Ok(item) = item(cursor) {
        items.push(item);
        if !cursor.accept(b" ") {
            break;
        }
    }
    items
}

fn item<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), SyntaxError> {
    let start = cursor.at();
    cursor.run(|octet| octet.is_ascii_graphic() && !b"[()\"{".contains(&octet), "the name of an item")?;
    section(cursor)?;
    let name = cursor.since(start);
    cursor.space()?;
    let start = cursor.at();
    match cursor.peek() {
        Some(b'(') => _ = cursor.list_as_written()?,
        Some(b'"' | b'{' | b'~') => _ = cursor.string()?,
        _ => _ = cursor.run(|octet| octet.is_ascii_graphic() && !b"()".contains(&octet), "a value")?,
    }
    Ok((name, cursor.since(start)))
}

/// What may stand behind the name of an item: `[HEADER.FIELDS (DATE "FROM")]<0.2048>`.
pub(super) fn section(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    if !cursor.accept(b"[") {
        return Ok(());
    }
    // The names of header fields may be strings, with any octet in them.
    while !cursor.accept(b"]") {
        match cursor.peek() {
            Some(b'(') => _ = cursor.list_as_written()?,
            _ => _ = cursor.run(|octet| matches!(octet, b' '..=b'~') && !b"(]".contains(&octet), "a section")?,
        }
    }
    if cursor.peek() == Some(b'<') {
        cursor.run(|octet| octet.is_ascii_digit() || b"<.>".contains(&octet), "an offset")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fetch_says_is_read() {
        let response = b"* 12 fetch (FLAGS (\\Seen $x) BODY[HEADER.FIELDS (\"a]\" {1}\r\nb)]<0> {5}\r\nUID 1 UID 1017 X-GM \"a b\" ENVELOPE (NIL (\"(\")) BODY[1.TEXT] NIL)\r\n";
        let fetched = Fetched::parse(response).unwrap();
        assert_eq!((fetched.number, fetched.uid()), (12, Some(1017)));
        assert_eq!(fetched.value("flags"), Some(&b"(\\Seen $x)"[..]));
        assert_eq!(fetched.names().count(), 6);
        assert_eq!(fetched.value("ENVELOPE"), Some(&b"(NIL (\"(\"))"[..]));
        assert_eq!(Fetched::parse(b"* 1 FETCH ()\r\n").map(|fetched| fetched.uid()), Some(None));
        for bad in [
            "* 1 FETCH (UID",
            "* 1 EXISTS",
            "* FETCH (UID 1)",
            "* 1 FETCH (UID 1) x",
            "* 1 FETCH (BODY[ x)",
            "* 1 FETCH (UID )",
        ] {
            assert_eq!(Fetched::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn items_are_read_and_written_in_one_way() {
        let table = [
            ("FLAGS", "(FLAGS)"),
            ("uid", "(UID)"),
            ("(flags Envelope)", "(FLAGS ENVELOPE)"),
            ("all", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"),
            ("FAST", "(FLAGS INTERNALDATE RFC822.SIZE)"),
            ("Full", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)"),
            ("BODY", "(BODY)"),
            ("(BODYSTRUCTURE RFC822.HEADER)", "(BODYSTRUCTURE RFC822.HEADER)"),
            ("BODY.PEEK[]<0.2048>", "(BODY.PEEK[]<0.2048>)"),
            ("body.peek[header.fields (From \"Subject\")]", "(BODY.PEEK[HEADER.FIELDS (FROM \"SUBJECT\")])"),
            ("(BODY.PEEK[1.2.MIME] body.peek[1.TEXT])", "(BODY.PEEK[1.2.MIME] BODY.PEEK[1.TEXT])"),
        ];
        for (octets, text) in table {
            let items = FetchItems::parse(octets.as_bytes()).unwrap_or_else(|error| panic!("{octets}: {error}"));
            assert_eq!(items.as_text(), text, "{octets}");
            assert_eq!(FetchItems::parse(text.as_bytes()), Ok(items));
        }
    }

    #[test]
    fn contents_are_cut_and_headers_come_whole() {
        let table = [
            ("BODY.PEEK[]", "(BODY.PEEK[]<0.64>)"),
            ("BODY.PEEK[1.2]", "(BODY.PEEK[1.2]<0.64>)"),
            ("(BODY.PEEK[TEXT] BODY.PEEK[1.TEXT] UID)", "(BODY.PEEK[TEXT]<0.64> BODY.PEEK[1.TEXT]<0.64> UID)"),
            ("BODY.PEEK[]<0.4294967295>", "(BODY.PEEK[]<0.64>)"),
            ("BODY.PEEK[1]<100.65>", "(BODY.PEEK[1]<100.64>)"),
            ("BODY.PEEK[TEXT]<7.10>", "(BODY.PEEK[TEXT]<7.10>)"),
            ("(BODY.PEEK[HEADER] BODY.PEEK[1.MIME])", "(BODY.PEEK[HEADER] BODY.PEEK[1.MIME])"),
            ("BODY.PEEK[HEADER.FIELDS (FROM \"A]B\")]", "(BODY.PEEK[HEADER.FIELDS (FROM \"A]B\")])"),
            ("BODY.PEEK[2.HEADER.FIELDS.NOT (TO)]<0.4294967295>", "(BODY.PEEK[2.HEADER.FIELDS.NOT (TO)]<0.64>)"),
            ("(FLAGS ENVELOPE)", "(FLAGS ENVELOPE)"),
        ];
        for (items, bounded) in table {
            assert_eq!(FetchItems::parse(items.as_bytes()).unwrap().bounded(64), bounded, "{items}");
        }
    }

    #[test]
    fn lines_are_read_as_far_as_they_go() {
        let first = Fetched::first_line(b"* 12 FETCH (UID 17 FLAGS (\\Seen) BODY[] {5}\r\n").unwrap();
        assert_eq!((first.number, first.uid(), first.value("FLAGS")), (12, Some(17), Some(&b"(\\Seen)"[..])));
        let next = Fetched::next_line(12, b" FLAGS (work) BODY[1] {3}\r\n");
        assert_eq!((next.value("FLAGS"), next.uid()), (Some(&b"(work)"[..]), None));
        let last = Fetched::next_line(12, b" UID 17)\r\n");
        assert_eq!((last.uid(), last.names().count()), (Some(17), 1));
        assert_eq!(Fetched::next_line(12, b")\r\n").names().count(), 0);
        assert!(Fetched::first_line(b"* 12 EXISTS\r\n").is_none());
    }

    #[test]
    fn what_changes_the_message_is_refused() {
        let seen = "expected BODY.PEEK[], which leaves \\Seen alone at octet 0";
        let grammar = "expected items of FETCH at octet 0";
        let table: &[(&[u8], &str)] = &[
            (b"BODY[]", seen),
            (b"(FLAGS body[1]<0.10>)", seen),
            (b"RFC822", seen),
            (b"RFC822.TEXT", seen),
            (b"BINARY.PEEK[1]", "expected items of RFC 3501 at octet 0"),
            (b"MODSEQ", "expected items of RFC 3501 at octet 0"),
            (b"", grammar),
            (b"()", grammar),
            (b"FLAGS UID", grammar),
            (b"(FLAGS)(UID)", grammar),
            (b"(ALL)", grammar),
            (b"FLAGS ", grammar),
            (b"FLAGS (CHANGEDSINCE 1)", grammar),
            (b"XYZZY", grammar),
            (b"FLAGS\r\nb LOGOUT", "expected printable ASCII at octet 5"),
            (b"BODY.PEEK[HEADER.FIELDS ({1+}\r\na)]", "expected printable ASCII at octet 29"),
            (b"BODY.PEEK[HEADER.FIELDS (\"\xc3\xa9\")]", "expected printable ASCII at octet 26"),
        ];
        for (octets, expected) in table {
            let error = FetchItems::parse(octets).unwrap_err().to_string();
            assert_eq!(error, *expected, "{}", octets.escape_ascii());
        }
        assert!(FetchItems::parse_with(b"(UID MODSEQ)", true).is_ok(), "of a server that has it");
        let long = |length: usize| format!("BODY.PEEK[HEADER.FIELDS ({})]", "a".repeat(length - 27));
        assert!(FetchItems::parse(long(FetchItems::LONGEST).as_bytes()).is_ok());
        let error = FetchItems::parse(long(FetchItems::LONGEST + 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "expected at most 1024 octets at octet 1024");
    }
}
