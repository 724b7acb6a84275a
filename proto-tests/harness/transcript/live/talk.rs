//! A connection to a real server: whole responses in, commands out.

use super::Stream;
use crate::transcript::meaning;

/// A connection and what was said on it.
pub(super) struct Talk {
    stream: Box<dyn Stream>,
    held: Vec<u8>,
    trace: Vec<String>,
    commands: usize,
}

/// Lines of the session that a failure shows.
const SHOWN: usize = 30;

impl Talk {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, held: Vec::new(), trace: Vec::new(), commands: 0 }
    }

    pub(super) fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        self.note('C', octets);
        self.stream.write_all(octets).and_then(|()| self.stream.flush()).map_err(|error| error.to_string())
    }

    /// The next response with its literals, without the end of its last line. None: nothing comes, or nothing more.
    pub(super) fn response(&mut self) -> Option<Vec<u8>> {
        let mut end = 0;
        loop {
            let Some(line) = self.held[end..].windows(2).position(|two| two == b"\r\n") else {
                self.read()?;
                continue;
            };
            let line_end = end + line;
            // In the text of `* OK` braces announce nothing.
            let literal = if is_text(&self.held) { None } else { meaning::announced(&self.held[end..line_end]) };
            let Some(len) = literal else {
                let response = self.held[..line_end].to_vec();
                self.held.drain(..line_end + 2);
                self.note('S', &response);
                return Some(response);
            };
            while self.held.len() < line_end + 2 + len {
                self.read()?;
            }
            end = line_end + 2 + len;
        }
    }

    fn read(&mut self) -> Option<()> {
        let mut octets = [0; 1 << 14];
        let len = self.stream.read(&mut octets).ok().filter(|len| *len > 0)?;
        self.held.extend_from_slice(&octets[..len]);
        Some(())
    }

    /// The first response.
    pub(super) fn greeting(&mut self) -> Result<(), String> {
        self.response().filter(|line| line.starts_with(b"* OK")).map(drop).ok_or_else(|| "no greeting".to_owned())
    }

    /// A command that has to succeed; its untagged responses.
    pub(super) fn ok(&mut self, command: &str) -> Result<Vec<Vec<u8>>, String> {
        self.ok_octets(command.as_bytes()).map_err(|got| format!("{command}: {got}"))
    }

    /// The same with octets in it.
    pub(super) fn ok_octets(&mut self, command: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let tag = self.tag();
        self.send(&[tag.as_bytes(), b" ", command, b"\r\n"].concat())?;
        self.ended(&tag)
    }

    /// A command with a literal at its end, which has to succeed.
    pub(super) fn ok_with(&mut self, command: &str, literal: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let tag = self.tag();
        self.send(format!("{tag} {command} {{{}}}\r\n", literal.len()).as_bytes())?;
        let goes_on = self.response().filter(|line| line.starts_with(b"+"));
        goes_on.ok_or_else(|| format!("{command}: no `+`"))?;
        self.send(&[literal, b"\r\n"].concat())?;
        self.ended(&tag).map_err(|got| format!("{command}: {got}"))
    }

    fn tag(&mut self) -> String {
        self.commands += 1;
        format!("zz{}", self.commands)
    }

    /// The untagged responses until this command has ended well.
    fn ended(&mut self, tag: &str) -> Result<Vec<Vec<u8>>, String> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response().ok_or_else(|| "no answer".to_owned())?;
            match response.strip_prefix(tag.as_bytes()) {
                Some(end) if end.starts_with(b" OK") => return Ok(untagged),
                Some(end) => return Err(shown(end)),
                None => untagged.push(response),
            }
        }
    }

    /// The end of the session.
    pub(super) fn trace(&self) -> Vec<String> {
        self.trace[self.trace.len().saturating_sub(SHOWN)..].to_vec()
    }

    fn note(&mut self, who: char, octets: &[u8]) {
        let octets = octets.strip_suffix(b"\r\n").unwrap_or(octets);
        self.trace.extend(octets.split(|&octet| octet == b'\n').map(|line| format!("{who}: {}", shown(line))));
    }
}

fn is_text(response: &[u8]) -> bool {
    let words = response.split(|&octet| octet == b' ').nth(1).unwrap_or_default();
    matches!(words, b"OK" | b"NO" | b"BAD" | b"BYE" | b"PREAUTH") || response.starts_with(b"+")
}

/// An excerpt that fits a line.
pub(super) fn shown(octets: &[u8]) -> String {
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    octets.iter().take(200).flat_map(|octet| octet.escape_ascii()).map(char::from).collect()
}
