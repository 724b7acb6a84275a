//! Framing: octets into lines and literals (RFC 3501 sections 2.2 and 4.3, RFC 7888).
//!
//!     C: a APPEND INBOX {310}          the head: up to a big literal, or the whole command
//!     C: ...310 octets...              the body: never seen here
//!     C:  {12+}                        words, that may open a further literal
//!
//! A client is held to the letter: CRLF ends a line, and nothing else does; a literal stands where a string may stand. A
//! peer of whom two readers think differently is how commands are smuggled. A backend is read as it comes.

use memchr::{memchr, memchr2, memmem, memrchr};

/// A literal announced at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// How many octets follow the line.
    pub len: u64,
    /// The sender waits for `+` before it sends them (RFC 3501 4.3); `{n+}` does not (RFC 7888).
    pub synchronising: bool,
    /// `~{n}`: may hold NUL (RFC 3516).
    pub binary: bool,
    /// How many octets of the line the announcement takes, CRLF included: `~{n+}\r\n`.
    pub mark: usize,
}

impl Literal {
    /// Its announcement as a synchronising or non-synchronising literal, CRLF included.
    pub fn announce(&self, synchronising: bool, out: &mut Vec<u8>) {
        let tilde = if self.binary { "~" } else { "" };
        let plus = if synchronising { "" } else { "+" };
        out.extend_from_slice(format!("{tilde}{{{}{plus}}}\r\n", self.len).as_bytes());
    }
}

/// What a client may make us hold while we wait for the end of its command.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Octets of the lines of one head, literals not counted.
    pub line: usize,
    /// A literal up to this size joins the head.
    pub literal: u64,
    /// All literals of one head together; the one that would exceed it stays outside.
    pub literals: u64,
    /// What the command itself may bring instead, told from its first words: asked only about a larger literal.
    pub row: fn(&[u8]) -> u64,
}

/// What stands at the beginning of a client's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing whole yet.
    Partial,
    /// A small literal waits for its `+`; the head goes on behind it.
    Prompt,
    /// A command (or its last words), whole.
    Whole {
        /// Its octets.
        len: usize,
    },
    /// A command, or words of it, up to a literal that stays outside.
    Open {
        /// Its octets, the announcement included.
        len: usize,
        /// What follows.
        literal: Literal,
    },
}

/// Why a client's octets are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A line ends with LF alone, or CR stands in the middle of it.
    #[error("CR and LF only come together, at the end of a line")]
    LineEnd,
    /// NUL outside a literal8.
    #[error("NUL is not allowed here")]
    Nul,
    /// `{n}` where no string may stand, inside a quoted string, or with a number beyond 64 bits.
    #[error("misplaced or impossible literal")]
    Literal,
    /// No end of line within the bound. What follows cannot be told from a command: the connection has to end.
    #[error("line too long")]
    TooLong,
}

/// Cuts what a client sends. It remembers how far it has looked, so that octets that come one by one are looked at once.
#[derive(Debug, Default)]
pub struct CommandFramer {
    /// Where the line in hand begins.
    line: usize,
    /// How far that line has been searched for its end.
    scanned: usize,
    /// Octets of literals inside the head so far.
    literals: u64,
}

impl CommandFramer {
    /// Looks at all untaken octets, from the head's first one on.
    ///
    /// After [`Cut::Whole`], [`Cut::Open`] and every error the framer is new again, and the caller takes the octets, or
    /// hands the line to [`skip`].
    pub fn cut(&mut self, octets: &[u8], bounds: &Bounds) -> Result<Cut, FrameError> {
        let cut = self.advance(octets, bounds);
        if !matches!(cut, Ok(Cut::Partial | Cut::Prompt)) {
            *self = Self::default();
        }
        cut
    }

    fn advance(&mut self, octets: &[u8], bounds: &Bounds) -> Result<Cut, FrameError> {
        loop {
            let Some(unscanned) = octets.get(self.scanned..) else { return Ok(Cut::Partial) };
            let Some(end) = memchr(b'\n', unscanned).map(|at| self.scanned + at + 1) else {
                if octets.len() - self.literals as usize > bounds.line {
                    return Err(FrameError::TooLong);
                }
                self.scanned = octets.len();
                return Ok(Cut::Partial);
            };
            if end - self.literals as usize > bounds.line {
                return Err(FrameError::TooLong);
            }
            let Some(literal) = client_line(&octets[self.line..end])? else { return Ok(Cut::Whole { len: end }) };
            let joins = literal.len <= bounds.literal || literal.len <= (bounds.row)(&octets[..end]);
            if !joins || self.literals + literal.len > bounds.literals {
                return Ok(Cut::Open { len: end, literal });
            }
            self.literals += literal.len;
            self.line = end + literal.len as usize;
            self.scanned = self.line;
            if literal.synchronising {
                return Ok(Cut::Prompt);
            }
        }
    }
}

/// Checks one line of a client, its line end included, and says which literal it announces.
fn client_line(line: &[u8]) -> Result<Option<Literal>, FrameError> {
    let Some(text) = line.strip_suffix(b"\r\n") else { return Err(FrameError::LineEnd) };
    match memchr2(b'\r', 0, text).map(|at| text[at]) {
        Some(0) => Err(FrameError::Nul),
        Some(_) => Err(FrameError::LineEnd),
        None if text.ends_with(b"}") => client_literal(text),
        None => Ok(None),
    }
}

/// The literal at the end of a client's line, if it is one, and if it stands where a literal may stand.
fn client_literal(text: &[u8]) -> Result<Option<Literal>, FrameError> {
    let Some(open) = memrchr(b'{', text) else { return Ok(None) };
    let number = &text[open + 1..text.len() - 1];
    let (number, synchronising) = match number.strip_suffix(b"+") {
        Some(number) => (number, false),
        None => (number, true),
    };
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    let binary = text[..open].ends_with(b"~");
    let start = open - usize::from(binary);
    if !matches!(text[..start].last(), Some(b' ' | b'(')) || inside_quotes(&text[..start]) {
        return Err(FrameError::Literal);
    }
    let len = decimal(number).ok_or(FrameError::Literal)?;
    Ok(Some(Literal { len, synchronising, binary, mark: text.len() - start + 2 }))
}

/// Whether a quoted string is open at the end of this text.
fn inside_quotes(text: &[u8]) -> bool {
    let mut quoted = false;
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => quoted = !quoted,
            b'\\' if quoted => _ = octets.next(),
            _ => {}
        }
    }
    quoted
}

/// A number of any length; `None` beyond 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// The announcements in a whole head, each with the place where its octets begin: they were all found good by [`CommandFramer`].
pub fn literals(head: &[u8]) -> impl Iterator<Item = (usize, Literal)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let end = at + memchr(b'\n', head.get(at..)?)? + 1;
        let literal = client_line(&head[at..end]).ok()??;
        // A literal that stays outside may be longer than any memory: it is the last.
        at = usize::try_from(literal.len).map_or(usize::MAX, |len| end.saturating_add(len));
        Some((end, literal))
    })
}

/// What to do with a command that was refused before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Take these octets and look again when there are more.
    More(usize),
    /// Take these octets: the command ends here.
    End(usize),
    /// Take these octets, then drop the octets of a literal that still comes, then look again.
    Literal(usize, u64),
}

/// Finds the end of a refused command, so that nothing inside it is ever executed.
///
/// A `{n+}` at the end of the line is still followed by its octets (RFC 7888 section 4); after `{n}` the client has
/// waited for a `+` that it did not get.
pub fn skip(octets: &[u8]) -> Skip {
    /// `~{18446744073709551615+}` is the longest announcement there is.
    const LONGEST_MARK: usize = 24;
    let Some(end) = memmem::find(octets, b"\r\n") else {
        return Skip::More(octets.len().saturating_sub(LONGEST_MARK));
    };
    match announced(&octets[..end]) {
        Some((len, false)) => Skip::Literal(end + 2, len),
        _ => Skip::End(end + 2),
    }
}

/// The literal that the end of this text announces, wherever it stands: its length, and whether it is synchronising.
fn announced(text: &[u8]) -> Option<(u64, bool)> {
    let number = &text[memrchr(b'{', text)? + 1..].strip_suffix(b"}")?;
    let (digits, synchronising) = match number.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (*number, true),
    };
    let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    number.then(|| Some((decimal(digits).unwrap_or(u64::MAX), synchronising)))?
}

/// The literal that a backend's line announces. `line` ends with LF.
///
/// Not to be asked about status responses and `+`: their text may end with braces and announces nothing.
pub fn backend_literal(line: &[u8]) -> Option<u64> {
    let text = line.strip_suffix(b"\n")?;
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if !text.ends_with(b"}") {
        return None;
    }
    announced(text).map(|(len, _)| len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { line: 100, literal: 8, literals: 12, row: |_| 0 };

    fn cut(octets: &[u8]) -> Result<Cut, FrameError> {
        CommandFramer::default().cut(octets, &BOUNDS)
    }

    #[test]
    fn a_client_is_held_to_the_letter() {
        let long = [b'x'; 101];
        let table: &[(&[u8], Result<Cut, FrameError>)] = &[
            (b"", Ok(Cut::Partial)),
            (b"a NOOP\r", Ok(Cut::Partial)),
            (b"a NOOP\r\nb", Ok(Cut::Whole { len: 8 })),
            (b"a NOOP\n", Err(FrameError::LineEnd)),
            (b"a\rb NOOP\r\n", Err(FrameError::LineEnd)),
            (b"a \0\r\n", Err(FrameError::Nul)),
            (b"a LOGIN {2+}\r\nab {1+}\r\nc\r\n", Ok(Cut::Whole { len: 26 })),
            (b"a LOGIN {2+}\r\n\n\n x\r\n", Ok(Cut::Whole { len: 20 })),
            (b"a LOGIN {2+}\r\nab", Ok(Cut::Partial)),
            (b"a LOGIN {2}\r\n", Ok(Cut::Prompt)),
            (b"a LOGIN x{2}\r\n", Err(FrameError::Literal)),
            (b"a LOGIN \"x {2}\r\n", Err(FrameError::Literal)),
            (b"a LOGIN \"\\\" {2}\r\n", Err(FrameError::Literal)),
            (b"a LOGIN {99999999999999999999}\r\n", Err(FrameError::Literal)),
            (b"a X {}\r\n", Ok(Cut::Whole { len: 8 })),
            (b"a X {1-}\r\n", Ok(Cut::Whole { len: 10 })),
            (&long, Err(FrameError::TooLong)),
            (&[&long[..96], b" {9}\r\n"].concat(), Err(FrameError::TooLong)),
        ];
        for (octets, expected) in table {
            assert_eq!(cut(octets), *expected, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn a_big_literal_stays_outside() {
        let literal = Literal { len: 9, synchronising: true, binary: true, mark: 6 };
        assert_eq!(cut(b"a APPEND x ~{9}\r\n"), Ok(Cut::Open { len: 17, literal }));
        let octets = b"a SEARCH {8+}\r\n12345678 {8+}\r\n";
        assert!(matches!(cut(octets), Ok(Cut::Open { len: 30, .. })), "the second exceeds what may join");
    }

    #[test]
    fn octets_one_by_one_cut_the_same() {
        let octets = b"a LOGIN {2}\r\nab \"c\"\r\n";
        let mut framer = CommandFramer::default();
        let cuts: Vec<_> = (1..=octets.len()).map(|len| framer.cut(&octets[..len], &BOUNDS).unwrap()).collect();
        assert_eq!(cuts.iter().filter(|cut| **cut == Cut::Prompt).count(), 1);
        assert_eq!(cuts.last(), Some(&Cut::Whole { len: octets.len() }));
    }

    #[test]
    fn literals_of_a_head_are_found_again() {
        let head = b"a LOGIN {2+}\r\n}\n ~{0}\r\n\r\n";
        let found: Vec<_> = literals(head).map(|(at, literal)| (at, literal.len)).collect();
        assert_eq!(found, [(14, 2), (23, 0)]);
    }

    #[test]
    fn a_refused_command_is_skipped_with_its_literals() {
        assert_eq!(skip(b"x\ny {3+}\r\nabc\r\n"), Skip::Literal(10, 3));
        assert_eq!(skip(b"x {3}\r\n"), Skip::End(7));
        assert_eq!(skip(b"x\r\nb NOOP\r\n"), Skip::End(3));
        assert_eq!(skip(b"short"), Skip::More(0));
        assert_eq!(skip(&[b'x'; 100]), Skip::More(76));
    }

    #[test]
    fn a_backend_is_read_as_it_comes() {
        assert_eq!(backend_literal(b"* 1 FETCH (BODY[] {310}\r\n"), Some(310));
        assert_eq!(backend_literal(b"* 1 FETCH (BINARY[1] ~{0}\n"), Some(0));
        assert_eq!(backend_literal(b"* 1 FETCH (FLAGS ())\r\n"), None);
        assert_eq!(backend_literal(b"* LIST () \"/\" a{}\r\n"), None);
    }
}
