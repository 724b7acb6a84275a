//! The octets of every message of the bench: the same 1 MiB of text over and over, so both ends can check what they read.

use std::sync::LazyLock;

/// How often the octets repeat.
pub const PERIOD: usize = 1 << 20;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let line = b"The quick brown fox jumps over the lazy dog, a hundred times..\r\n";
    line.iter().copied().cycle().take(PERIOD).collect()
});

/// What stands at `offset` of a message, up to the end of the period and at most `most` octets.
pub fn at(offset: u64, most: u64) -> &'static [u8] {
    let start = (offset % PERIOD as u64) as usize;
    let len = most.min((PERIOD - start) as u64) as usize;
    &BLOCK[start..start + len]
}

/// Whether `octets` are what stands at `offset` of a message.
pub fn matches(mut offset: u64, mut octets: &[u8]) -> bool {
    while !octets.is_empty() {
        let expected = at(offset, octets.len() as u64);
        let (head, rest) = octets.split_at(expected.len());
        if head != expected {
            return false;
        }
        offset += head.len() as u64;
        octets = rest;
    }
    true
}

/// The length of the literal that this line announces, and whether the sender waits for a `+` before it.
pub fn literal(line: &[u8]) -> Option<(u64, bool)> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|octet| *octet == b'{')?;
    let (digits, waits) = match inner[open + 1..].strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (&inner[open + 1..], true),
    };
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, waits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_matches_itself_across_the_period_and_nothing_else() {
        let (end, begin) = (at(PERIOD as u64 - 10, 64), at(0, 10));
        assert_eq!(end.len(), 10);
        assert!(matches(PERIOD as u64 - 10, &[end, begin].concat()));
        assert!(!matches(1, begin));
    }

    #[test]
    fn a_literal_is_announced_at_the_end_of_a_line() {
        for (line, announced) in [
            (&b"* 7 FETCH (BODY[] {1048576}"[..], Some((1_048_576, true))),
            (b"a APPEND INBOX {12+}", Some((12, false))),
            (b"a APPEND INBOX {12+} ", None),
            (b"a NOOP }", None),
            (b"a NOOP {x}", None),
        ] {
            assert_eq!(literal(line), announced, "{}", String::from_utf8_lossy(line));
        }
    }
}
