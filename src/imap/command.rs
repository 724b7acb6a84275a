//! The head of a command: tag, verb, arguments (RFC 3501 section 9, command).
//!
//!     C: A142 UID FETCH 1:4 FLAGS      tag "A142", verb "UID FETCH", arguments "1:4 FLAGS"
//!
//! Only the first words are read here. What a layer wants to know of the arguments, it asks imap-codec ([`decode`]).

use imap_codec::{
    CommandCodec,
    decode::Decoder,
    imap_types::command::{Command as Typed, CommandBody},
};

use super::verb::{self, Verb};

/// The first words of a command.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What the client calls it.
    pub tag: &'a [u8],
    /// Its row in the table; [`verb::UNKNOWN`] if it has none.
    pub verb: &'static Verb,
    /// The octets behind the verb and its space, to the end of what was cut, line end included.
    pub arguments: &'a [u8],
}

/// What was expected, and at which octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at octet {at}")]
pub struct SyntaxError {
    /// What should stand there.
    pub expected: &'static str,
    /// Where, counted from the beginning of the command.
    pub at: usize,
}

/// Reads the first words. `octets` is what the framer cut.
pub fn head(octets: &[u8]) -> Result<Head<'_>, SyntaxError> {
    let tag = tag(octets).ok_or(SyntaxError { expected: "a tag", at: 0 })?;
    let at = tag.len() + 1;
    let word = word(octets.get(at..).unwrap_or_default());
    if word.is_empty() || octets[tag.len()] != b' ' {
        return Err(SyntaxError { expected: "a command", at });
    }
    let mut end = at + word.len();
    let mut name = word;
    if word.eq_ignore_ascii_case(b"UID") && octets[end] == b' ' {
        end += 1 + self::word(&octets[end + 1..]).len();
        name = &octets[at..end];
    }
    if !matches!(octets[end], b' ' | b'\r') {
        return Err(SyntaxError { expected: "a space", at: end });
    }
    let arguments = octets[end..].strip_prefix(b" ").unwrap_or(&octets[end..]);
    Ok(Head { tag, verb: verb::find(name).unwrap_or(&verb::UNKNOWN), arguments })
}

/// The tag at the beginning of a line, if there is one. Longer than any client makes is none: it would have to be held.
pub fn tag(octets: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 128;
    let end = octets.iter().position(|octet| !is_tag_octet(*octet))?;
    (1..=LONGEST).contains(&end).then(|| &octets[..end])
}

/// RFC 3501 section 9: tag = 1*<any ASTRING-CHAR except "+">.
pub(super) fn is_tag_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'+' | b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\')
}

/// A command's name: the letters, digits and signs of an atom that names of commands are made of.
fn word(octets: &[u8]) -> &[u8] {
    let end = octets.iter().position(|octet| !(octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.')));
    &octets[..end.unwrap_or(octets.len())]
}

/// The largest literal that this command may bring with it, by its row; nothing for most.
pub fn longest_literal(octets: &[u8]) -> u64 {
    head(octets).ok().and_then(|head| head.verb.values).map_or(0, |(most, _)| most)
}

/// The first argument, up to a space or the end of the line.
pub fn first_argument(arguments: &[u8]) -> &[u8] {
    let end = arguments.iter().position(|octet| matches!(octet, b' ' | b'\r')).unwrap_or(arguments.len());
    &arguments[..end]
}

/// Decodes a whole command, literals included, with imap-codec.
pub fn decode(octets: &[u8]) -> Result<CommandBody<'_>, SyntaxError> {
    match CommandCodec::default().decode(octets) {
        Ok(([], Typed { body, .. })) => Ok(body),
        Ok((rest, _)) => Err(SyntaxError { expected: "the end of the command", at: octets.len() - rest.len() }),
        Err(_) => Err(SyntaxError { expected: "arguments as the grammar of the command has them", at: 0 }),
    }
}

/// How deep its parentheses are, quoted strings and literals aside; a bound for those who parse further.
pub fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted) = (0usize, 0, false);
    let mut octets = line.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' if quoted => _ = octets.next(),
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_are_read() {
        let head = head(b"A142 uid Fetch 1:4 FLAGS\r\n").unwrap();
        assert_eq!((head.tag, head.verb.name, head.arguments), (&b"A142"[..], "UID FETCH", &b"1:4 FLAGS\r\n"[..]));
        let head = super::head(b"a NOOP\r\n").unwrap();
        assert_eq!((head.verb.name, head.arguments), ("NOOP", &b"\r\n"[..]));
        assert_eq!(super::head(b"a XYZZY 1\r\n").unwrap().verb.name, "");
        assert_eq!(super::head(b"a UID XYZZY 1\r\n").unwrap().verb.name, "");
    }

    #[test]
    fn what_is_no_command_is_said_with_its_place() {
        let table: &[(&[u8], &str, usize)] = &[
            (b"\r\n", "a tag", 0),
            (b" NOOP\r\n", "a tag", 0),
            (b"+ NOOP\r\n", "a tag", 0),
            (b"a\r\n", "a command", 2),
            (b"a  NOOP\r\n", "a command", 2),
            (b"a NO\x80P\r\n", "a space", 4),
            (b"a(NOOP\r\n", "a command", 2),
        ];
        for (octets, expected, at) in table {
            assert_eq!(head(octets).unwrap_err(), SyntaxError { expected, at: *at }, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert_eq!(depth(b"a SEARCH (OR (SEEN) \"((((\") ()\r\n"), 2);
    }
}
