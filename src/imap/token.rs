//! A cursor over the arguments of a command: atoms, strings and lists, in one piece with their literals (RFC 3501 section 9).
//!
//!     C: a SETMETADATA INBOX (/private/comment {5}
//!     C| hello)                                       astring, space, open, astring, space, nstring, close, end
//!
//! For what imap-codec does not know. Each step says what it expected and where; nothing is copied but quoted strings with
//! escapes in them.

use std::borrow::Cow;

use super::command::SyntaxError;

/// Where one is in the arguments.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    octets: &'a [u8],
    at: usize,
}

/// A string, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// Its octets.
    pub octets: Cow<'a, [u8]>,
    /// It came as literal8 (RFC 3516), or as a literal with a NUL in it.
    pub binary: bool,
}

impl<'a> Cursor<'a> {
    /// Begins. The line's end is not part of the arguments.
    pub fn new(arguments: &'a [u8]) -> Self {
        Self { octets: arguments, at: 0 }
    }

    /// The next octet.
    pub fn peek(&self) -> Option<u8> {
        self.octets.get(self.at).copied()
    }

    /// Where one is.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What was read since one was there, as it was written.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.octets.get(start..self.at).unwrap_or_default()
    }

    /// Passes these octets if they stand here, letters in any case.
    pub fn accept(&mut self, octets: &[u8]) -> bool {
        let ahead = self.octets[self.at..].get(..octets.len());
        let stands = ahead.is_some_and(|ahead| ahead.eq_ignore_ascii_case(octets));
        self.at += if stands { octets.len() } else { 0 };
        stands
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), SyntaxError> {
        if self.at == self.octets.len() { Ok(()) } else { Err(self.expected("the end of the command")) }
    }

    /// One space.
    pub fn space(&mut self) -> Result<(), SyntaxError> {
        self.octet(b' ', "a space")
    }

    /// `(`
    pub fn open(&mut self) -> Result<(), SyntaxError> {
        self.octet(b'(', "(")
    }

    /// `)`
    pub fn close(&mut self) -> Result<(), SyntaxError> {
        self.octet(b')', ")")
    }

    /// A list with at least one member, a space between two: `(x y)`.
    pub fn list<T>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        self.open()?;
        let mut members = vec![member(self)?];
        while self.peek() == Some(b' ') {
            self.space()?;
            members.push(member(self)?);
        }
        self.close()?;
        Ok(members)
    }

    /// A list that may have no member: `()`.
    pub fn list_or_empty<T>(
        &mut self,
        member: impl FnMut(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        match self.accept(b"()") {
            true => Ok(Vec::new()),
            false => self.list(member),
        }
    }

    /// A list of anything, as it was written: strings, literals and lists in it are only passed.
    pub fn list_as_written(&mut self) -> Result<&'a [u8], SyntaxError> {
        let start = self.at;
        self.open()?;
        let mut depth = 1usize;
        while depth > 0 {
            match (self.peek(), self.octets.get(self.at + 1)) {
                (Some(b'"' | b'{'), _) | (Some(b'~'), Some(b'{')) => _ = self.string()?,
                (Some(b'\r' | b'\n' | 0) | None, _) => return Err(self.expected(")")),
                (Some(octet), _) => {
                    self.at += 1;
                    depth = match octet {
                        b'(' => depth + 1,
                        b')' => depth - 1,
                        _ => depth,
                    };
                }
            }
        }
        Ok(self.since(start))
    }

    /// A list, or one member without parentheses.
    pub fn list_or_one<T>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        match self.peek() {
            Some(b'(') => self.list(member),
            _ => Ok(vec![member(self)?]),
        }
    }

    /// An atom, or a string.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>, SyntaxError> {
        self.atom_or_string(|octet| is_atom_octet(octet) || octet == b']')
    }

    /// The same with the wildcards of LIST in it.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>, SyntaxError> {
        self.atom_or_string(|octet| is_atom_octet(octet) || matches!(octet, b']' | b'%' | b'*'))
    }

    fn atom_or_string(&mut self, belongs: impl Fn(u8) -> bool) -> Result<Cow<'a, [u8]>, SyntaxError> {
        match self.peek() {
            Some(b'"' | b'{') => Ok(self.string()?.octets),
            _ => self.run(belongs, "an atom or a string").map(Cow::Borrowed),
        }
    }

    /// An atom.
    pub fn atom(&mut self) -> Result<&'a [u8], SyntaxError> {
        self.run(is_atom_octet, "an atom")
    }

    /// A number of at most 32 bits.
    pub fn number(&mut self) -> Result<u32, SyntaxError> {
        let at = self.at;
        let digits = self.run(|octet| octet.is_ascii_digit(), "a number")?;
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.ok_or(SyntaxError { expected: "a number of 32 bits", at })
    }

    /// A string, a literal8, or NIL.
    pub fn value(&mut self) -> Result<Option<Text<'a>>, SyntaxError> {
        match self.accept(b"NIL") {
            true => Ok(None),
            false => self.string().map(Some),
        }
    }

    /// A quoted string or a literal.
    pub fn string(&mut self) -> Result<Text<'a>, SyntaxError> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{' | b'~') => self.literal(),
            _ => Err(self.expected("a string")),
        }
    }

    fn quoted(&mut self) -> Result<Text<'a>, SyntaxError> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            match self.octets.get(at) {
                Some(b'"') => break,
                Some(b'\\') if matches!(self.octets.get(at + 1), Some(b'"' | b'\\')) => {
                    escaped = true;
                    at += 2;
                }
                Some(b'\\' | b'\r' | b'\n' | 0) | None => {
                    return Err(SyntaxError { expected: "the end of a quoted string", at });
                }
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        let inside = &self.octets[start..at];
        let octets = if escaped { Cow::Owned(unescaped(inside)) } else { Cow::Borrowed(inside) };
        Ok(Text { octets, binary: false })
    }

    /// `{n}`, `{n+}` and both with `~` in front: what stands behind the line's end.
    fn literal(&mut self) -> Result<Text<'a>, SyntaxError> {
        let expected = self.expected("a literal");
        let eight = self.peek() == Some(b'~');
        let head = self.octets.get(self.at + usize::from(eight)..).unwrap_or_default();
        let end = memchr::memmem::find(head, b"}\r\n").ok_or(expected)?;
        let digits = head[..end].strip_prefix(b"{").ok_or(expected)?;
        let digits = digits.strip_suffix(b"+").unwrap_or(digits);
        let len: Option<usize> = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let octets = len.and_then(|len| head[end + 3..].get(..len)).ok_or(expected)?;
        self.at += usize::from(eight) + end + 3 + octets.len();
        Ok(Text { octets: Cow::Borrowed(octets), binary: eight || octets.contains(&0) })
    }

    /// As many octets as belong, at least one.
    pub fn run(&mut self, belongs: impl Fn(u8) -> bool, expected: &'static str) -> Result<&'a [u8], SyntaxError> {
        let rest = &self.octets[self.at..];
        let len = rest.iter().position(|octet| !belongs(*octet)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.expected(expected));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn octet(&mut self, octet: u8, expected: &'static str) -> Result<(), SyntaxError> {
        if self.peek() != Some(octet) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        &self.octets[self.at..]
    }

    /// What stands here is not what should.
    pub fn expected(&self, expected: &'static str) -> SyntaxError {
        SyntaxError { expected, at: self.at }
    }
}

/// RFC 3501 section 9, ATOM-CHAR.
pub fn is_atom_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

fn unescaped(inside: &[u8]) -> Vec<u8> {
    let mut octets = inside.iter();
    let mut text = Vec::with_capacity(inside.len());
    while let Some(octet) = octets.next() {
        text.extend(if *octet == b'\\' { octets.next() } else { Some(octet) });
    }
    text
}

/// Writes a string so that it can be read back: quoted where it can be, else as a literal, as literal8 if it has a NUL in it.
pub fn write_string(octets: &[u8], out: &mut Vec<u8>) {
    let plain = octets.len() <= 1024 && octets.iter().all(|octet| matches!(octet, b' '..=b'~'));
    if !plain {
        let eight = if octets.contains(&0) { "~" } else { "" };
        out.extend_from_slice(format!("{eight}{{{}}}\r\n", octets.len()).as_bytes());
        return out.extend_from_slice(octets);
    }
    write_quoted(octets, out);
}

/// Writes a quoted string. The octets are such as may stand in one: no NUL, CR or LF.
pub fn write_quoted(octets: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for octet in octets {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

/// Writes an atom where it is one, else a string.
pub fn write_astring(octets: &[u8], out: &mut Vec<u8>) {
    let atom = !octets.is_empty() && octets.iter().all(|octet| is_atom_octet(*octet));
    match atom && !octets.eq_ignore_ascii_case(b"NIL") {
        true => out.extend_from_slice(octets),
        false => write_string(octets, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_one_after_the_other() {
        let mut cursor = Cursor::new(b"INBOX (a \"b \\\"c\\\\\" {3+}\r\n(d) ~{2}\r\n\0\n) 17 nil");
        assert_eq!(*cursor.astring().unwrap(), *b"INBOX");
        cursor.space().unwrap();
        let list = cursor.list(|cursor| match cursor.peek() {
            Some(b'~') => cursor.string().map(|text| text.octets),
            _ => cursor.astring(),
        });
        assert_eq!(list.unwrap(), [&b"a"[..], b"b \"c\\", b"(d)", b"\0\n"]);
        cursor.space().unwrap();
        assert_eq!(cursor.number(), Ok(17));
        cursor.space().unwrap();
        assert_eq!(cursor.value(), Ok(None));
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn what_is_only_passed_comes_as_it_was_written() {
        let mut cursor = Cursor::new(b"return () (\"CHILDINFO\" (\"a)\" {2}\r\n)( ~{1}\r\n\0 x~)) rest");
        assert!(!cursor.accept(b"RETURN ["));
        assert!(cursor.accept(b"RETURN "));
        assert_eq!(cursor.list_or_empty(Cursor::atom), Ok(vec![]));
        cursor.space().unwrap();
        let at = cursor.at();
        assert_eq!(cursor.list_as_written().unwrap(), b"(\"CHILDINFO\" (\"a)\" {2}\r\n)( ~{1}\r\n\0 x~))");
        assert_eq!(cursor.since(at).len(), cursor.at() - at);
        assert!(cursor.accept(b" REST"));
        assert!(!cursor.accept(b"x"));
        for open in [&b"(a (b)"[..], b"(a\r\n)", b"(\"a)", b"({9}\r\na)", b"(a\0)", b"a"] {
            assert!(Cursor::new(open).list_as_written().is_err(), "{}", open.escape_ascii());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |arguments: &[u8], read: fn(&mut Cursor<'_>) -> Result<(), SyntaxError>| {
            read(&mut Cursor::new(arguments)).unwrap_err().to_string()
        };
        let astring = |cursor: &mut Cursor<'_>| cursor.astring().map(|_| ());
        let value = |cursor: &mut Cursor<'_>| cursor.value().map(|_| ());
        let list = |cursor: &mut Cursor<'_>| cursor.list(Cursor::atom).map(|_| ());
        assert_eq!(error(b"", astring), "expected an atom or a string at octet 0");
        assert_eq!(error(b"%", astring), "expected an atom or a string at octet 0");
        assert_eq!(error(b"\"open", astring), "expected the end of a quoted string at octet 5");
        assert_eq!(error(b"\"a\\b\"", astring), "expected the end of a quoted string at octet 2");
        assert_eq!(error(b"{5}\r\nab", astring), "expected a literal at octet 0");
        assert_eq!(error(b"{18446744073709551616}\r\nab", astring), "expected a literal at octet 0");
        assert_eq!(error(b"atom", value), "expected a string at octet 0");
        assert_eq!(error(b"()", list), "expected an atom at octet 1");
        assert_eq!(error(b"(a  b)", list), "expected an atom at octet 3");
        assert_eq!(
            error(b"4294967296", |cursor| cursor.number().map(|_| ())),
            "expected a number of 32 bits at octet 0"
        );
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let long = vec![b'x'; 1025];
        for octets in [&b""[..], b"a", b"nil", b"a b", b"\"\\", b"\xff\r\n", b"\0", b"(x", &long] {
            let mut written = Vec::new();
            write_astring(octets, &mut written);
            let mut cursor = Cursor::new(&written);
            let read = if written[0] == b'~' { cursor.string().map(|text| text.octets) } else { cursor.astring() };
            assert_eq!(*read.unwrap(), *octets, "{}", written.escape_ascii());
            assert_eq!(cursor.end(), Ok(()));
        }
        let mut written = Vec::new();
        write_astring(b"a]b", &mut written);
        assert_eq!(written, b"\"a]b\"");
    }
}
