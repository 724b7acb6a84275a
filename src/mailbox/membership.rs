//! Whether a message is one of those that a search program means (RFC 3501 section 6.4.4), for backends that cannot be asked: many know
//! no charset but US-ASCII.
//!
//!     FROM juliet OR SUBJECT "Grüße" LARGER 100000       of a header, flags, size and date: yes
//!     TEXT balcony                                       not in the header: nobody knows
//!
//! What only the text of a message, the time or a key that nobody here knows could tell, is unknown, and what follows from it as well. Strings
//! are found anywhere, whatever their case. Requirement N5.

use std::borrow::Cow;

use chrono::NaiveDate;
use mail_parser::{Address, HeaderValue, MessageParser};

use crate::imap::{command::SyntaxError, date::written_day, token::Cursor, uid_set::UidSet};

/// What is known of a message.
#[derive(Clone, Debug, Default)]
pub struct Candidate<'a> {
    /// Its UID.
    pub uid: u32,
    /// Its flags.
    pub flags: Vec<Cow<'a, str>>,
    /// INTERNALDATE, with its quotes or without.
    pub arrived: &'a [u8],
    /// RFC822.SIZE.
    pub size: Option<u32>,
    /// Its header.
    pub header: Cow<'a, [u8]>,
}

/// Parentheses within parentheses: a program is a line of a client's.
const DEEPEST: u8 = 50;

/// Whether the program means the message; none: nobody knows, or it is no program.
pub fn matches(program: &[u8], message: &Candidate<'_>) -> Option<bool> {
    let parsed = MessageParser::default().parse_headers(&*message.header)?;
    let mut reader = Reader { cursor: Cursor::new(program), message, parsed: &parsed };
    let is_it = reader.keys(0).ok()?;
    reader.cursor.end().ok()?;
    is_it
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    message: &'a Candidate<'a>,
    parsed: &'a mail_parser::Message<'a>,
}

type Known = Result<Option<bool>, SyntaxError>;

impl Reader<'_> {
    /// All of them.
    fn keys(&mut self, depth: u8) -> Known {
        let mut all = self.key(depth)?;
        while self.cursor.accept(b" ") {
            let next = self.key(depth)?;
            all = and(all, next);
        }
        Ok(all)
    }

    fn key(&mut self, depth: u8) -> Known {
        if depth > DEEPEST {
            return Err(self.cursor.expected("fewer parentheses"));
        }
        if self.cursor.accept(b"(") {
            let all = self.keys(depth + 1)?;
            self.cursor.close()?;
            return Ok(all);
        }
        let word = self.cursor.atom()?.to_ascii_uppercase();
        let flag = |name: &str| self.message.flags.iter().any(|flag| flag.eq_ignore_ascii_case(name));
        Ok(match word.as_slice() {
            b"ALL" => Some(true),
            b"ANSWERED" => Some(flag("\\Answered")),
            b"DELETED" => Some(flag("\\Deleted")),
            b"DRAFT" => Some(flag("\\Draft")),
            b"FLAGGED" => Some(flag("\\Flagged")),
            b"SEEN" => Some(flag("\\Seen")),
            b"UNANSWERED" => Some(!flag("\\Answered")),
            b"UNDELETED" => Some(!flag("\\Deleted")),
            b"UNDRAFT" => Some(!flag("\\Draft")),
            b"UNFLAGGED" => Some(!flag("\\Flagged")),
            b"UNSEEN" => Some(!flag("\\Seen")),
            // Who looks by EXAMINE takes \Recent from nobody, and is told it by chance.
            b"RECENT" | b"NEW" | b"OLD" => None,
            b"KEYWORD" | b"UNKEYWORD" => {
                let name = self.string()?;
                let has = self.message.flags.iter().any(|flag| flag.eq_ignore_ascii_case(&name));
                Some(has == word.starts_with(b"K"))
            }
            b"FROM" => self.address("From", self.parsed.from())?,
            b"TO" => self.address("To", self.parsed.to())?,
            b"CC" => self.address("Cc", self.parsed.cc())?,
            b"BCC" => self.address("Bcc", self.parsed.bcc())?,
            b"SUBJECT" => {
                let text = self.string()?;
                Some(contains(self.parsed.subject().unwrap_or_default(), &text))
            }
            b"HEADER" => {
                let name = self.string()?;
                self.cursor.space()?;
                let text = self.bare_string()?;
                Some(self.has_header(&name, &text))
            }
            b"TEXT" => {
                let text = self.string()?;
                let whole = String::from_utf8_lossy(&self.message.header);
                let subject = contains(self.parsed.subject().unwrap_or_default(), &text);
                (subject || contains(&whole, &text)).then_some(true)
            }
            b"BODY" => {
                self.string()?;
                None
            }
            b"BEFORE" | b"ON" | b"SINCE" => {
                let day = self.day()?;
                compare(&word, written_day(self.message.arrived), day)
            }
            b"SENTBEFORE" | b"SENTON" | b"SENTSINCE" => {
                let day = self.day()?;
                let sent = self.parsed.date().map(|date| (i32::from(date.year), date.month, date.day));
                let sent = sent.and_then(|(year, month, day)| NaiveDate::from_ymd_opt(year, month.into(), day.into()));
                compare(&word[4..], sent, day)
            }
            b"LARGER" => {
                let size = self.number()?;
                self.message.size.map(|own| own > size)
            }
            b"SMALLER" => {
                let size = self.number()?;
                self.message.size.map(|own| own < size)
            }
            b"UID" => {
                self.cursor.space()?;
                let set = self.cursor.run(|octet| !b" )".contains(&octet), "UIDs")?;
                // `*` is a message that nobody here knows.
                UidSet::parse(set).map(|set| set.contains(self.message.uid))
            }
            b"NOT" => {
                self.cursor.space()?;
                self.key(depth + 1)?.map(|is_it| !is_it)
            }
            b"OR" => {
                self.cursor.space()?;
                let one = self.key(depth + 1)?;
                self.cursor.space()?;
                let other = self.key(depth + 1)?;
                and(one.map(|is_it| !is_it), other.map(|is_it| !is_it)).map(|neither| !neither)
            }
            b"YOUNGER" | b"OLDER" => {
                self.number()?;
                None
            }
            _ => return Err(self.cursor.expected("a search key")),
        })
    }

    fn bare_string(&mut self) -> Result<String, SyntaxError> {
        Ok(String::from_utf8_lossy(&self.cursor.astring()?).into_owned())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.cursor.space()?;
        self.bare_string()
    }

    fn number(&mut self) -> Result<u32, SyntaxError> {
        self.cursor.space()?;
        self.cursor.number()
    }

    fn day(&mut self) -> Result<NaiveDate, SyntaxError> {
        let text = self.string()?;
        NaiveDate::parse_from_str(&text, "%d-%b-%Y").map_err(|_| self.cursor.expected("a date"))
    }

    /// Names and addresses of a header, decoded, or the header as it is.
    fn address(&mut self, name: &str, addresses: Option<&Address<'_>>) -> Known {
        let text = self.string()?;
        let mut written = addresses.into_iter().flat_map(Address::iter).map(|address| {
            format!("{} <{}>", address.name().unwrap_or_default(), address.address().unwrap_or_default())
        });
        Ok(Some(written.any(|written| contains(&written, &text)) || self.has_header(name, &text)))
    }

    fn has_header(&self, name: &str, text: &str) -> bool {
        let own = self.parsed.headers().iter().filter(|header| header.name().eq_ignore_ascii_case(name));
        let raw = |header: &mail_parser::Header<'_>| {
            let octets = self.message.header.get(header.offset_start as usize..header.offset_end as usize);
            String::from_utf8_lossy(octets.unwrap_or_default()).into_owned()
        };
        let decoded = |header: &mail_parser::Header<'_>| match &header.value {
            HeaderValue::Text(text) => text.to_string(),
            HeaderValue::TextList(texts) => texts.join(" "),
            _ => String::new(),
        };
        own.into_iter().any(|header| contains(&raw(header), text) || contains(&decoded(header), text))
    }
}

/// Both; unknown where that hangs on what is unknown.
fn and(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn compare(word: &[u8], own: Option<NaiveDate>, day: NaiveDate) -> Option<bool> {
    own.map(|own| match word {
        b"BEFORE" => own < day,
        b"ON" => own == day,
        _ => own >= day,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = concat!(
        "From: =?utf-8?q?J=C3=BCrgen?= <boss@example.org>\r\n",
        "To: joe@example.org, Mary <mary@example.org>\r\n",
        "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from\r\n Verona\r\n",
        "Date: Thu, 22 Feb 2001 10:30:00 +0100\r\n",
        "X-Mailer: Pigeon\r\n\r\n"
    );

    fn is(program: &str) -> Option<bool> {
        let message = Candidate {
            uid: 18,
            flags: vec!["\\Flagged".into(), "$Work".into()],
            arrived: b"\"23-Feb-2001 00:10:00 +0200\"",
            size: Some(1834),
            header: HEADER.as_bytes().into(),
        };
        matches(program.as_bytes(), &message)
    }

    #[test]
    fn what_is_known_is_compared() {
        let yes = [
            "ALL",
            "FROM boss",
            "FROM \"jürgen\"",
            "from \"JÜRGEN\"",
            "TO mary",
            "TO \"joe@\"",
            "SUBJECT \"grüße\"",
            "SUBJECT \"from Verona\"",
            "HEADER X-Mailer pigeon",
            "HEADER x-mailer \"\"",
            "TEXT pigeon",
            "FLAGGED UNSEEN",
            "KEYWORD $work",
            "UNKEYWORD other",
            "ON 23-Feb-2001",
            "SINCE 1-Jan-2001",
            "BEFORE \"24-Feb-2001\"",
            "SENTON 22-Feb-2001",
            "SENTBEFORE 23-Feb-2001",
            "LARGER 1000 SMALLER 2000",
            "UID 1:20",
            "NOT FROM romeo",
            "OR FROM romeo FROM boss",
            "(FROM boss (SUBJECT Verona))",
            "OR TEXT balcony FLAGGED",
        ];
        for program in yes {
            assert_eq!(is(program), Some(true), "{program}");
        }
        for program in [
            "FROM romeo",
            "SEEN",
            "CC joe",
            "HEADER Reply-To \"\"",
            "SENTSINCE 23-Feb-2001",
            "UID 19",
            "OR SEEN DELETED",
        ] {
            assert_eq!(is(program), Some(false), "{program}");
        }
    }

    #[test]
    fn what_is_unknown_stays_so_unless_it_does_not_matter() {
        for program in ["TEXT balcony", "BODY x", "NEW", "YOUNGER 60", "NOT BODY x", "FROM boss BODY x", "UID 5:*"] {
            assert_eq!(is(program), None, "{program}");
        }
        assert_eq!(is("FROM romeo BODY x"), Some(false));
        for wrong in ["", "FROM", "PIGEON", "(FROM boss", "FROM boss)", "ON yesterday", "FROM boss ", "LARGER many"] {
            assert_eq!(is(wrong), None, "{wrong}");
        }
        assert_eq!(is(&format!("{}ALL{}", "(".repeat(60), ")".repeat(60))), None);
    }
}
