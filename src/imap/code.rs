//! Response codes: what stands in the brackets of a status response (RFC 3501 section 7.1, RFC 5530).
//!
//!     S: a OK [CAPABILITY IMAP4rev1 UIDPLUS] Logged in
//!
//! A code that we do not know passes with its text, as it came.

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

impl Text<'_> {
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
