//! Reading one complete command: words, strings, lists, sets. RFC 3501 section 9.
//!
//! Deliberately another hand than `lemonade_proxy::imap`: a model that shares the parser shares its mistakes.

use super::Uid;

/// The command is not one that this server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A place in a command.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

/// A set of numbers or UIDs: `2:4,7,9:*`. `*` is `None`.
#[derive(Clone, Debug)]
pub(super) struct Set(Vec<(Option<u32>, Option<u32>)>);

impl<'a> Cursor<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes these octets, in any case, or nothing.
    pub(super) fn eat(&mut self, expected: &[u8]) -> bool {
        let found = self.0.len() >= expected.len() && self.0[..expected.len()].eq_ignore_ascii_case(expected);
        if found {
            self.0 = &self.0[expected.len()..];
        }
        found
    }

    pub(super) fn expect(&mut self, expected: &[u8]) -> Result<(), Malformed> {
        self.eat(expected).then_some(()).ok_or(Malformed)
    }

    pub(super) fn space(&mut self) -> Result<(), Malformed> {
        self.expect(b" ")
    }

    pub(super) fn done(&self) -> Result<(), Malformed> {
        self.is_done().then_some(()).ok_or(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Everything up to one of these octets, but not nothing.
    pub(super) fn until(&mut self, ends: &[u8]) -> Result<&'a [u8], Malformed> {
        let len = self.0.iter().position(|octet| ends.contains(octet)).unwrap_or(self.0.len());
        if len == 0 { Err(Malformed) } else { self.take(len) }
    }

    /// An atom, or what is close to one: `\Seen`, `[`, `+FLAGS`, `%`, `*` included.
    pub(super) fn word(&mut self) -> Result<String, Malformed> {
        self.until(b" ()\"{\r\n").map(text)
    }

    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        let len = self.0.iter().take_while(|octet| octet.is_ascii_digit()).count();
        text(self.take(len)?).parse().map_err(|_| Malformed)
    }

    /// An atom, a quoted string or a literal (whose octets follow, because the command is complete).
    pub(super) fn astring(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            Some(b'~') if self.0.get(1) == Some(&b'{') => {
                self.expect(b"~")?;
                self.literal()
            }
            _ => Ok(self.word()?.into_bytes()),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        Ok(text(&self.astring()?))
    }

    pub(super) fn is_literal(&self) -> bool {
        self.0.starts_with(b"{") || self.0.starts_with(b"~{")
    }

    /// NIL, a quoted string, a literal or a literal8, but no atom.
    pub(super) fn nstring(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        if self.eat(b"NIL") {
            return Ok(None);
        }
        if self.peek() == Some(b'"') || self.is_literal() { self.astring().map(Some) } else { Err(Malformed) }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Malformed> {
        self.expect(b"\"")?;
        let mut value = Vec::new();
        loop {
            match self.take(1)?[0] {
                b'"' => return Ok(value),
                b'\\' => value.push(self.take(1)?[0]),
                b'\r' | b'\n' => return Err(Malformed),
                octet => value.push(octet),
            }
        }
    }

    fn literal(&mut self) -> Result<Vec<u8>, Malformed> {
        self.expect(b"{")?;
        let len = self.number()?;
        self.eat(b"+");
        self.expect(b"}\r\n")?;
        Ok(self.take(len as usize)?.to_vec())
    }

    /// `(a b c)`.
    pub(super) fn words(&mut self) -> Result<Vec<String>, Malformed> {
        self.expect(b"(")?;
        let mut words = Vec::new();
        while !self.eat(b")") {
            if !words.is_empty() {
                self.space()?;
            }
            words.push(self.text()?);
        }
        Ok(words)
    }

    pub(super) fn set(&mut self) -> Result<Set, Malformed> {
        let mut ranges = Vec::new();
        loop {
            let first = self.bound()?;
            let last = if self.eat(b":") { self.bound()? } else { first };
            ranges.push((first, last));
            if !self.eat(b",") {
                return Ok(Set(ranges));
            }
        }
    }

    fn bound(&mut self) -> Result<Option<u32>, Malformed> {
        if self.eat(b"*") {
            return Ok(None);
        }
        self.number().and_then(|number| if number == 0 { Err(Malformed) } else { Ok(Some(number)) })
    }
}

impl Set {
    /// Whether it names this number, where `*` is the last one.
    pub(super) fn contains(&self, number: u32, last: u32) -> bool {
        self.0.iter().any(|&(from, to)| {
            let (from, to) = (from.unwrap_or(last), to.unwrap_or(last));
            (from.min(to)..=from.max(to)).contains(&number)
        })
    }

    /// The largest number that is written in it.
    fn largest(&self) -> Option<u32> {
        self.0.iter().flat_map(|&(from, to)| [from, to]).flatten().max()
    }

    fn has_star(&self) -> bool {
        self.0.iter().any(|&(from, to)| from.is_none() || to.is_none())
    }

    /// The UIDs it means for a session that knows these messages. A number above the count is an error, a UID is not.
    pub(super) fn uids(&self, known: &[Uid], by_uid: bool) -> Result<Vec<Uid>, Malformed> {
        let count = known.len() as u32;
        if by_uid {
            let last = known.last().copied().unwrap_or(0);
            return Ok(known.iter().copied().filter(|&uid| self.contains(uid, last)).collect());
        }
        if self.largest().is_some_and(|number| number > count) || (self.has_star() && count == 0) {
            return Err(Malformed);
        }
        Ok((1..=count).filter(|&n| self.contains(n, count)).map(|n| known[n as usize - 1]).collect())
    }
}

/// Numbers that ascend, as a set: `2,10:11`.
pub(super) fn runs(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let written = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}:{last}") }
    };
    runs.iter().map(written).collect::<Vec<_>>().join(",")
}

/// Octets as text; what is not UTF-8 is lost, which a model can bear.
pub(super) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A string as a server writes it: an atom if it can be one, else quoted, else a literal.
pub(super) fn astring(value: &str) -> String {
    let atom = |octet: u8| octet.is_ascii_graphic() && !b"(){%*\"\\".contains(&octet);
    if !value.is_empty() && value.bytes().all(atom) { value.to_owned() } else { string(value.as_bytes()) }
}

/// A string that is never an atom.
pub(super) fn string(value: &[u8]) -> String {
    if value.iter().all(|octet| (0x20..0x7f).contains(octet)) {
        format!("\"{}\"", text(value).replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        let value = text(value);
        format!("{{{}}}\r\n{value}", value.len())
    }
}

/// The value of an annotation: quoted if it can be, else a literal, or a literal8 if there is a NUL in it.
pub(super) fn value(value: Option<&[u8]>) -> Vec<u8> {
    let Some(octets) = value else { return b"NIL".to_vec() };
    if octets.iter().all(|octet| (0x20..0x7f).contains(octet)) {
        return string(octets).into_bytes();
    }
    let binary = if octets.contains(&0) { "~" } else { "" };
    [format!("{binary}{{{}}}\r\n", octets.len()).as_bytes(), octets].concat()
}
