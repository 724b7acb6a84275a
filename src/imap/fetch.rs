//! What a FETCH that nobody asked for shows of a new message: the value of `msgformat` (RFC 3501 6.4.5, fetch-att).
//!
//!     C: a SETMETADATA "" /notify/inband (msgformat.priv "(FLAGS BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])")
//!     C: b IDLE
//!     S: * 24 EXISTS
//!     S: * 24 FETCH (UID 1017 FLAGS () BODY[HEADER.FIELDS (FROM SUBJECT)] {41}
//!
//! The notification draft has one fetch-att (section 11.3); a list and a macro say the same in fewer commands. Requirement N13.

use imap_codec::imap_types::{
    command::CommandBody,
    fetch::{MacroOrMessageDataItemNames, MessageDataItemName},
};

use super::command::{self, SyntaxError};

/// Items that can be fetched again and again, and nothing is changed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchItems(Box<str>);

impl FetchItems {
    /// So many octets say what a small screen shows.
    pub const LONGEST: usize = 1024;

    /// Reads one item, a list of them, or ALL, FAST or FULL.
    pub fn parse(octets: &[u8]) -> Result<Self, SyntaxError> {
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
        check(text)?;
        let text = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
        Ok(Self(text.into()))
    }

    /// The items in parentheses and upper case, as a FETCH has them.
    pub fn as_text(&self) -> &str {
        &self.0
    }
}

/// The grammar is imap-codec's: these are the items of a FETCH, and nothing is behind them.
fn check(text: &str) -> Result<(), SyntaxError> {
    let wrong = SyntaxError { expected: "items of FETCH", at: 0 };
    let command = format!("a FETCH 1 {text}\r\n");
    match command::decode(command.as_bytes()).map_err(|_| wrong)? {
        CommandBody::Fetch {
            macro_or_item_names: MacroOrMessageDataItemNames::MessageDataItemNames(items),
            modifiers,
            ..
        } if !items.is_empty() && modifiers.is_empty() => items.iter().try_for_each(harmless),
        _ => Err(wrong),
    }
}

fn harmless(item: &MessageDataItemName<'_>) -> Result<(), SyntaxError> {
    use MessageDataItemName::{Binary, BinarySize, BodyExt, ModSeq, Rfc822, Rfc822Text};
    match item {
        // RFC 3501 6.4.5: these set \Seen, and the user has seen nothing yet.
        BodyExt { peek: false, .. } | Rfc822 | Rfc822Text => {
            Err(SyntaxError { expected: "BODY.PEEK[], which leaves \\Seen alone", at: 0 })
        }
        // What an old server need not know.
        Binary { .. } | BinarySize { .. } | ModSeq => Err(SyntaxError { expected: "items of RFC 3501", at: 0 }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let long = |length: usize| format!("BODY.PEEK[HEADER.FIELDS ({})]", "a".repeat(length - 27));
        assert!(FetchItems::parse(long(FetchItems::LONGEST).as_bytes()).is_ok());
        let error = FetchItems::parse(long(FetchItems::LONGEST + 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "expected at most 1024 octets at octet 1024");
    }
}
