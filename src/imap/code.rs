//! Response codes: what stands in the brackets of a status response (RFC 3501 section 7.1, RFC 5530).
//!
//!     S: a OK [CAPABILITY IMAP4rev1 UIDPLUS] Logged in
//!
//! A code that we do not know passes with its text, as it came, but where client and backend may not count alike.

/// The text of a status response, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The code's name; empty where there is no code.
    pub name: &'a [u8],
    /// What stands behind the name, inside the brackets.
    pub arguments: &'a [u8],
    /// What stands behind the brackets.
    pub words: &'a [u8],
}

/// Takes the text behind `OK`, `NO`, `BAD` or `BYE` apart.
pub fn parse(text: &[u8]) -> Text<'_> {
    let plain = Text { name: b"", arguments: b"", words: text };
    let Some(inside) = text.strip_prefix(b"[") else { return plain };
    let Some(end) = closing_bracket(inside) else { return plain };
    let (code, words) = (&inside[..end], &inside[end + 1..]);
    let space = code.iter().position(|octet| *octet == b' ').unwrap_or(code.len());
    Text {
        name: &code[..space],
        arguments: code.get(space + 1..).unwrap_or_default(),
        words: words.strip_prefix(b" ").unwrap_or(words),
    }
}

/// A `]` inside a quoted string does not end the code (RFC 5464 and others put astrings there).
fn closing_bracket(inside: &[u8]) -> Option<usize> {
    let mut quoted = false;
    inside.iter().position(|octet| {
        quoted ^= *octet == b'"';
        *octet == b']' && !quoted
    })
}

/// How a code names messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Not at all, or by UID: COPYUID, APPENDUID, UIDNEXT.
    Absolute,
    /// Its argument is the number of one.
    Number,
    /// Its argument is a set of them, as the command that it ends has named them: by number or by UID.
    AsNamed,
}

/// THE TABLE: codes that name messages otherwise than by UID.
const NAMING: [(&str, Naming); 2] = [
    ("MODIFIED", Naming::AsNamed), // RFC 7162
    ("UNSEEN", Naming::Number),    // RFC 3501
];

/// THE TABLE: all other codes that we know, by where they are from. None of them has the number of a message in it.
#[rustfmt::skip]
const ABSOLUTE: [&str; 56] = [
    // RFC 3501 and 9051.
    "ALERT", "BADCHARSET", "CAPABILITY", "CLOSED", "HASCHILDREN", "PARSE", "PERMANENTFLAGS", "READ-ONLY", "READ-WRITE", "TRYCREATE",
    "UIDNEXT", "UIDVALIDITY",
    // RFC 5530.
    "ALREADYEXISTS", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CANNOT", "CLIENTBUG", "CONTACTADMIN", "CORRUPTION", "EXPIRED",
    "EXPUNGEISSUED", "INUSE", "LIMIT", "NONEXISTENT", "NOPERM", "OVERQUOTA", "PRIVACYREQUIRED", "SERVERBUG", "UNAVAILABLE",
    // RFC 2221, 3516, 4315, 4467, 4469, 4978, 5182, 5255.
    "REFERRAL", "UNKNOWN-CTE", "APPENDUID", "COPYUID", "UIDNOTSTICKY", "URLMECH", "BADURL", "TOOBIG", "COMPRESSIONACTIVE", "NOTSAVED",
    "BADCOMPARATOR",
    // RFC 5257, 5259, 5267, 5464, 5465, 5466, 6154.
    "ANNOTATE", "ANNOTATIONS", "MAXCONVERTMESSAGES", "MAXCONVERTPARTS", "TEMPFAIL", "NOUPDATE", "METADATA", "BADEVENT",
    "NOTIFICATIONOVERFLOW", "UNDEFINED-FILTER", "USEATTR",
    // RFC 7162, 8474, 9585, and what RFC 2060 had.
    "HIGHESTMODSEQ", "NOMODSEQ", "MAILBOXID", "INPROGRESS", "NEWNAME",
];

impl Text<'_> {
    /// How this code names messages; none: nobody knows.
    pub fn naming(&self) -> Option<Naming> {
        let named = NAMING.iter().find(|(name, _)| self.is(name)).map(|(_, naming)| *naming);
        named.or_else(|| ABSOLUTE.iter().any(|name| self.is(name)).then_some(Naming::Absolute))
    }

    /// Whether this is the code's name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The number that it says: UIDVALIDITY, UIDNEXT.
    pub fn number(&self) -> Option<u32> {
        std::str::from_utf8(self.arguments).ok()?.parse().ok()
    }

    /// Whether the code says why a login failed, in words that a client understands (RFC 5530 section 3).
    pub fn explains_a_login(&self) -> bool {
        const CODES: [&str; 10] = [
            "ALERT",
            "AUTHENTICATIONFAILED",
            "AUTHORIZATIONFAILED",
            "CONTACTADMIN",
            "EXPIRED",
            "INUSE",
            "LIMIT",
            "PRIVACYREQUIRED",
            "SERVERBUG",
            "UNAVAILABLE",
        ];
        CODES.iter().any(|code| self.is(code))
    }

    /// Whether the backend could not judge the secret at all: such a failure is nobody's guess at a password.
    pub fn is_trouble(&self) -> bool {
        ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN"].iter().any(|code| self.is(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_messages_or_does_not() {
        let table = [
            ("[modified 7,9] x", Some(Naming::AsNamed)),
            ("[UNSEEN 3] x", Some(Naming::Number)),
            ("[COPYUID 7 12 6] x", Some(Naming::Absolute)),
            ("[Read-Only] x", Some(Naming::Absolute)),
            ("[X-FIRST 2] x", None),
            ("no code", None),
        ];
        for (text, naming) in table {
            assert_eq!(parse(text.as_bytes()).naming(), naming, "{text}");
        }
    }

    #[test]
    fn a_text_is_taken_apart() {
        let text = parse(b"[CAPABILITY IMAP4rev1 X] Logged in");
        assert!(text.is("capability"));
        assert_eq!((text.arguments, text.words), (&b"IMAP4rev1 X"[..], &b"Logged in"[..]));
        assert_eq!(parse(b"[ALERT] x").name, b"ALERT");
        assert_eq!(parse(b"[BADCHARSET (\"a]b\")] x").words, b"x");
        for plain in [&b"done"[..], b"[open", b""] {
            assert_eq!(parse(plain), Text { name: b"", arguments: b"", words: plain });
        }
    }
}
