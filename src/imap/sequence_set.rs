//! Message sets as a client writes them: `2:4,7,9:*` (RFC 3501 section 9, sequence-set).

use std::fmt::Write as _;

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A number, never 0.
    Number(u32),
    /// `*`: the last message.
    Last,
}

impl Bound {
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"*" => Some(Self::Last),
            [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok().map(Self::Number),
            _ => None,
        }
    }

    /// The number it stands for in a mailbox of `count` messages.
    pub fn resolve(self, count: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Last => count,
        }
    }
}

/// The ranges of a set, each as it was written; `None` if it is no sequence-set.
pub fn parse(text: &[u8]) -> Option<Vec<(Bound, Bound)>> {
    text.split(|octet| *octet == b',')
        .map(|range| match range.iter().position(|octet| *octet == b':') {
            Some(colon) => Some((Bound::parse(&range[..colon])?, Bound::parse(&range[colon + 1..])?)),
            None => Bound::parse(range).map(|bound| (bound, bound)),
        })
        .collect()
}

/// Writes ranges of numbers as a set.
pub fn write(ranges: impl IntoIterator<Item = (u32, u32)>) -> String {
    let mut text = String::new();
    for (first, last) in ranges {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match first == last {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}:{last}"),
        };
    }
    text
}

/// How many numbers a set of plain ranges names: what a VANISHED response removes (RFC 7162 section 3.2.10).
pub fn count(text: &[u8]) -> Option<u32> {
    parse(text)?.iter().try_fold(0u32, |count, range| match range {
        (Bound::Number(a), Bound::Number(b)) => count.checked_add(a.abs_diff(*b).checked_add(1)?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_parsed_range_by_range() {
        use Bound::{Last, Number};
        let ranges = [(Number(2), Number(4)), (Number(7), Number(7)), (Number(9), Last)];
        assert_eq!(parse(b"2:4,7,9:*").unwrap(), ranges);
        for bad in ["", ",", "0", "1:", ":1", "1,,2", "1:2:3", "01x", "4294967296", "$", "-1", "+1"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_set_is_written_short() {
        assert_eq!(write([(2, 4), (7, 7)]), "2:4,7");
    }

    #[test]
    fn a_vanished_set_is_counted() {
        assert_eq!(count(b"405,407,410:425"), Some(18));
        assert_eq!(count(b"1:*"), None);
        assert_eq!(count(b"1:4294967295,1"), None);
    }
}
