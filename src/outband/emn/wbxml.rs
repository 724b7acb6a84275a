//! EMN as WBXML 1.3: the tokens that the OMA has given out for it.
//!
//!     03 0D 6A 00            version, public identifier, charset UTF-8, no string table
//!     85                     <emn, with attributes and no content
//!     07 03 "joe@foo.com" 00   mailbox="mailat:" and a string
//!     05 C3 06 200402200640    timestamp=, and its digits in pairs without the zeros at the end
//!     01                     />
//!
//! There are tokens for `.com` and others too. They are read, never written: one decoder renders them as `.com/`.

use std::time::Duration;

use super::{Emn, EmnError, moment};
use crate::outband::xml::is_allowed;

const VERSION: u8 = 0x03;
const PUBLIC_ID: u32 = 0x0d;
/// By their numbers at IANA.
const CHARSETS: [u32; 2] = [UTF_8 as u32, 3];
const UTF_8: u8 = 106;

const TAG: u8 = 0x05;
const WITH_ATTRIBUTES: u8 = 0x80;
const WITH_CONTENT: u8 = 0x40;

const END: u8 = 0x01;
const ENTITY: u8 = 0x02;
const INLINE: u8 = 0x03;
const NAMED: u8 = 0x04;
const IN_TABLE: u8 = 0x83;
const OPAQUE: u8 = 0xc3;

const TIMESTAMP: u8 = 0x05;
/// How a mailbox may begin, by token. What is a beginning of another stands behind it: the first that fits is written.
const MAILBOX: [(u8, &str); 8] = [
    (0x07, "mailat:"),
    (0x08, "pop://"),
    (0x09, "imap://"),
    (0x0b, "http://www."),
    (0x0a, "http://"),
    (0x0d, "https://www."),
    (0x0c, "https://"),
    (0x06, ""),
];
const VALUES: [(u8, &str); 4] = [(0x85, ".com"), (0x86, ".edu"), (0x87, ".net"), (0x88, ".org")];

/// The document, always in this shape: a phone that is known skips five octets and expects `07`, a string and `05 C3`.
pub(super) fn write(emn: &Emn) -> Vec<u8> {
    let mut out = vec![VERSION, PUBLIC_ID as u8, UTF_8, 0, TAG | WITH_ATTRIBUTES];
    let begin = MAILBOX.iter().find_map(|(token, begin)| Some((*token, emn.mailbox.strip_prefix(begin)?)));
    let (token, rest) = begin.unwrap_or((0x06, &emn.mailbox));
    out.extend([token, INLINE]);
    // A string ends at its first NUL.
    out.extend(rest.bytes().take_while(|octet| *octet != 0));
    out.push(0);
    if let Some(time) = emn.timestamp.and_then(packed) {
        out.extend([TIMESTAMP, OPAQUE, time.len() as u8]);
        out.extend(time);
    }
    out.push(END);
    out
}

/// The digits of a moment, two to an octet: at most seven octets.
fn packed(at: Duration) -> Option<Vec<u8>> {
    let digits: Vec<u8> = super::timestamp(at)?.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
    let mut packed: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    packed.truncate(packed.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1));
    Some(packed)
}

/// The EMN that these octets are.
pub(super) fn read(octets: &[u8]) -> Result<Emn, EmnError> {
    let mut reader = Reader { octets, at: 1, table: &[] };
    let begin = reader.at;
    if reader.number()? != PUBLIC_ID {
        return Err(EmnError { expected: "the public identifier of EMN (0D)", at: begin });
    }
    let begin = reader.at;
    if !CHARSETS.contains(&reader.number()?) {
        return Err(EmnError { expected: "UTF-8 or US-ASCII", at: begin });
    }
    reader.table = reader.run()?;
    let begin = reader.at;
    let tag = reader.octet("the tag emn (85)")?;
    if tag & !WITH_CONTENT != TAG | WITH_ATTRIBUTES {
        return Err(EmnError { expected: "the tag emn (85)", at: begin });
    }
    let (mut mailbox, mut timestamp) = (None, None);
    loop {
        let begin = reader.at;
        let token = reader.octet("an attribute or the end of them")?;
        let known = MAILBOX.iter().find(|(other, _)| *other == token).map(|(_, begin)| *begin);
        let twice = match (token, known) {
            (END, _) => break,
            (_, Some(begin)) => mailbox.replace(begin.to_owned() + &reader.text()?).is_some(),
            (TIMESTAMP, _) => timestamp.replace(reader.time()?).is_some(),
            // Its name is in the table, and nobody knows it.
            (NAMED, _) => {
                reader.number()?;
                reader.text()?;
                false
            }
            _ => return Err(EmnError { expected: "an attribute of EMN", at: begin }),
        };
        if twice {
            return Err(EmnError { expected: "each attribute once", at: begin });
        }
    }
    let mailbox = mailbox.ok_or(EmnError { expected: "the attribute mailbox", at: reader.at - 1 })?;
    if tag & WITH_CONTENT != 0 {
        reader.text()?;
        if reader.octet("the end of the element")? != END {
            return Err(EmnError { expected: "the end of the element", at: reader.at - 1 });
        }
    }
    if reader.at < octets.len() {
        return Err(EmnError { expected: "the end", at: reader.at });
    }
    Ok(Emn { mailbox, timestamp })
}

struct Reader<'a> {
    octets: &'a [u8],
    /// How far it is read.
    at: usize,
    table: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.octets.get(self.at).copied()
    }

    fn octet(&mut self, expected: &'static str) -> Result<u8, EmnError> {
        let octet = self.peek().ok_or(EmnError { expected, at: self.at })?;
        self.at += 1;
        Ok(octet)
    }

    /// mb_u_int32: seven bits to an octet, the highest bit where more follow.
    fn number(&mut self) -> Result<u32, EmnError> {
        let error = EmnError { expected: "a number of 32 bits", at: self.at };
        let mut number = 0u64;
        for _ in 0..5 {
            let octet = self.octet(error.expected)?;
            number = number << 7 | u64::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| error);
            }
        }
        Err(error)
    }

    /// So many octets as are said before them.
    fn run(&mut self) -> Result<&'a [u8], EmnError> {
        let len = self.number()? as usize;
        let run = self.octets.get(self.at..).and_then(|rest| rest.get(..len));
        let run = run.ok_or(EmnError { expected: "as many octets as are announced", at: self.at })?;
        self.at += len;
        Ok(run)
    }

    /// What a value, or the content, says as text: as many pieces as there are.
    fn text(&mut self) -> Result<String, EmnError> {
        let mut out = String::new();
        while let Some(token) = self.peek() {
            let begin = self.at;
            let known = VALUES.iter().find(|(other, _)| *other == token).map(|(_, value)| *value);
            self.at += 1;
            match (token, known) {
                (_, Some(value)) => out.push_str(value),
                (INLINE, _) => {
                    let run = string(self.octets, self.at)?;
                    self.at += run.len() + 1;
                    out.push_str(run);
                }
                (IN_TABLE, _) => {
                    let at = self.at;
                    let place = self.number()? as usize;
                    let error = EmnError { expected: "a place in the string table", at };
                    out.push_str(string(self.table, place).map_err(|_| error)?);
                }
                (ENTITY, _) => {
                    let error = EmnError { expected: "a character that XML allows", at: self.at };
                    let character = char::from_u32(self.number()?);
                    out.push(character.filter(|&character| is_allowed(character)).ok_or(error)?);
                }
                _ => {
                    self.at = begin;
                    break;
                }
            }
        }
        Ok(out)
    }

    /// A moment: digits in pairs, or text.
    fn time(&mut self) -> Result<Duration, EmnError> {
        let begin = self.at;
        if self.peek() != Some(OPAQUE) {
            return moment(&self.text()?, begin);
        }
        self.at += 1;
        let begin = self.at;
        let octets = self.run()?;
        if !(4..=7).contains(&octets.len()) {
            return Err(EmnError { expected: "a time of 4 to 7 octets", at: begin });
        }
        let mut digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        digits.extend(std::iter::repeat_n('0', 14 - digits.len()));
        let part = |from: usize, to: usize| &digits[from..to];
        let (date, time) = ([part(0, 4), part(4, 6), part(6, 8)], [part(8, 10), part(10, 12), part(12, 14)]);
        moment(&format!("{}T{}Z", date.join("-"), time.join(":")), begin)
    }
}

/// The text from here to its NUL.
fn string(octets: &[u8], at: usize) -> Result<&str, EmnError> {
    let rest = octets.get(at..).unwrap_or_default();
    let end = EmnError { expected: "the end of a string", at: octets.len() };
    let run = &rest[..rest.iter().position(|octet| *octet == 0).ok_or(end)?];
    let text =
        std::str::from_utf8(run).map_err(|error| EmnError { expected: "UTF-8", at: at + error.valid_up_to() })?;
    match text.char_indices().find(|(_, character)| !is_allowed(*character)) {
        None => Ok(text),
        Some((place, _)) => Err(EmnError { expected: "a character that XML allows", at: at + place }),
    }
}
