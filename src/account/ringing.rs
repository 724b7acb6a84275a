//! Which of the messages that come ring, as a device has set it for a mailbox (issue 5; type C of source document 003).
//!
//!     /private/vendor/lemonade/notify/event/search   FROM boss            what matches this search program
//!     /private/vendor/lemonade/notify/event/search   FILTER important     what matches the filter of this name (RFC 5466)
//!
//! The others are remembered and do not ring. Without an entry, all ring. Requirement N5.

use crate::imap::search;

/// The entry, on a mailbox.
pub const ENTRY: &str = "/private/vendor/lemonade/notify/event/search";

/// Below it stand the values of filters, on the server.
pub const FILTERS: &str = "/private/filters/values/";

/// What rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ringing<'a> {
    /// What matches this search program.
    Program(&'a [u8]),
    /// What matches the filter of this name.
    Filter(&'a str),
}

impl<'a> Ringing<'a> {
    /// Reads the value of the entry; an error says what is wrong with it.
    pub fn parse(value: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(value).map_err(|_| "expected text".to_owned())?.trim();
        match text.split_once(' ') {
            Some((word, name)) if word.eq_ignore_ascii_case("FILTER") && !name.trim().contains(' ') => {
                Ok(Self::Filter(name.trim()))
            }
            _ => match search::criteria(text.as_bytes()) {
                Ok(_) => Ok(Self::Program(text.as_bytes())),
                Err(error) => Err(format!("expected search criteria, or FILTER and a name: {error}")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_or_the_name_of_one_is_read() {
        assert_eq!(Ringing::parse(b" FROM boss "), Ok(Ringing::Program(b"FROM boss")));
        assert_eq!(Ringing::parse(b"filter Important"), Ok(Ringing::Filter("Important")));
        for wrong in [&b""[..], b"FROM", b"17", b"FILTER a b", b"\xff"] {
            assert!(Ringing::parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
