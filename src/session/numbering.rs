//! What this client believes: which message has which number (RFC 3501 section 2.3.1.2), and what it was not told yet.
//!
//! In `Same` mode client and backend count alike, but for removals that the backend announced and the client may not hear
//! yet (`untold`). While there is none, numbers pass as they come. Otherwise:
//!
//!     backend:  1 2 3 4      a message that the backend calls 3
//!     client:   1 2 x 4 5    is the client's 4, because its 3 is gone and it was not told
//!
//! Architecture 4.1.

use crate::imap::sequence_set;

/// The numbering of one session, in `Same` mode.
#[derive(Debug, Default)]
pub struct Numbering {
    /// How many messages the backend has said there are.
    count: u32,
    /// Messages that are gone and still have a number for the client: its numbers, ascending.
    untold: Vec<u32>,
    /// Removals announced by UID (VANISHED, RFC 7162) that wait too: the lines, as they came.
    vanished: Vec<u8>,
}

/// A set of messages, as the backend has to read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Shifted {
    /// The set; empty if nothing is left of it.
    pub set: String,
    /// Some message of the client's set is gone.
    pub gone: bool,
}

impl Numbering {
    /// More than this is not kept untold: at the first chance the client hears of it, and few servers send any.
    const MOST_VANISHED: usize = 64 << 10;

    /// Whether numbers pass as they come.
    pub fn is_plain(&self) -> bool {
        self.untold.is_empty() && self.vanished.is_empty()
    }

    /// Whether a number of the client's can be translated: not while messages are gone of which only the UID is known.
    pub fn is_bound(&self) -> bool {
        self.vanished.is_empty()
    }

    /// The backend counts its messages. The answer is what the client is told.
    pub fn exists(&mut self, count: u32) -> u32 {
        self.count = count;
        count.saturating_add(self.untold.len() as u32)
    }

    /// A message is gone and the client is told at once. The answer is its number for the client.
    pub fn expunge(&mut self, number: u32) -> u32 {
        let number = self.up(number);
        self.count = self.count.saturating_sub(1);
        number
    }

    /// A message is gone and the client may not hear it now. False if there is no such message.
    pub fn hold(&mut self, number: u32) -> bool {
        if number == 0 || number > self.count {
            return false;
        }
        let number = self.expunge(number);
        let at = self.untold.partition_point(|untold| *untold < number);
        self.untold.insert(at, number);
        true
    }

    /// Messages are gone by UID and the client is told at once.
    pub fn vanish(&mut self, uids: &[u8]) {
        self.count = self.count.saturating_sub(sequence_set::count(uids).unwrap_or(0));
    }

    /// Messages are gone by UID and the client may not hear it now. False if too many wait already.
    pub fn hold_vanished(&mut self, line: &[u8], uids: &[u8]) -> bool {
        self.vanish(uids);
        self.vanished.extend_from_slice(line);
        self.vanished.len() <= Self::MOST_VANISHED
    }

    /// What waits, as responses; now it is told. Highest numbers first, so that each is still right when it is read.
    pub fn tell(&mut self, out: &mut Vec<u8>) {
        for number in self.untold.drain(..).rev() {
            out.extend_from_slice(format!("* {number} EXPUNGE\r\n").as_bytes());
        }
        out.append(&mut self.vanished);
        self.untold = Vec::new();
    }

    /// A number of the backend's, as the client counts.
    pub fn up(&self, number: u32) -> u32 {
        self.untold.iter().fold(number, |number, untold| if *untold <= number { number + 1 } else { number })
    }

    /// A set of the client's, as the backend counts; `None` if it is no set.
    pub fn down(&self, set: &[u8]) -> Option<Shifted> {
        let last = self.count.saturating_add(self.untold.len() as u32);
        let mut gone = false;
        let mut ranges = Vec::new();
        for (a, b) in sequence_set::parse(set)? {
            let (a, b) = (a.resolve(last), b.resolve(last));
            let (first, end) = (a.min(b), a.max(b));
            let within = self.untold.iter().filter(|untold| (first..=end).contains(untold)).count() as u32;
            gone |= within > 0;
            let below = self.untold.iter().filter(|untold| **untold < first).count() as u32;
            let alive = (end - first).saturating_add(1).saturating_sub(within);
            if alive > 0 && first > below {
                ranges.push((first - below, first - below + (alive - 1)));
            }
        }
        Some(Shifted { set: sequence_set::write(&ranges), gone })
    }

    /// Every number in the arguments of an answer (`* SEARCH 2 84 882`, `* THREAD (2)(3 6 (4 23))`), as the client counts.
    pub fn up_all(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut rest = text;
        while let Some(octet) = rest.first() {
            let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
            match std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok()) {
                Some(number) => out.extend_from_slice(self.up(number).to_string().as_bytes()),
                None => out.extend_from_slice(if digits > 0 { &rest[..digits] } else { std::slice::from_ref(octet) }),
            }
            rest = &rest[digits.max(1)..];
        }
    }
}

/// Whether criteria name messages by number, as far as one can tell without parsing them: a word that is a set, and does
/// not stand behind UID.
pub fn names_numbers(criteria: &[u8]) -> bool {
    let is_set = |word: &[u8]| sequence_set::parse(word).is_some();
    let words = criteria.split(|octet| matches!(octet, b' ' | b'(' | b')' | b'\r' | b'\n'));
    let before = std::iter::once(b"".as_slice()).chain(words.clone());
    before.zip(words).any(|(before, word)| is_set(word) && !before.eq_ignore_ascii_case(b"UID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn five_without_the_third() -> Numbering {
        let mut numbering = Numbering::default();
        numbering.exists(5);
        assert!(numbering.hold(3));
        numbering
    }

    #[test]
    fn what_was_not_told_shifts_numbers_both_ways() {
        let numbering = five_without_the_third();
        assert_eq!([1, 2, 3, 4].map(|number| numbering.up(number)), [1, 2, 4, 5]);
        let table = [
            ("1:2", "1:2", false),
            ("3", "", true),
            ("4", "3", false),
            ("2:4", "2:3", true),
            ("*", "4", false),
            ("5:*", "4", false),
            ("1,3,5", "1,4", true),
            ("4:2", "2:3", true),
            ("1:*", "1:4", true),
        ];
        for (set, expected, gone) in table {
            assert_eq!(numbering.down(set.as_bytes()).unwrap(), Shifted { set: expected.to_owned(), gone }, "{set}");
        }
        assert_eq!(numbering.down(b"$"), None);
    }

    #[test]
    fn star_is_the_last_message_the_client_knows() {
        let mut numbering = Numbering::default();
        numbering.exists(2);
        assert!(numbering.hold(2));
        assert_eq!(numbering.down(b"*").unwrap(), Shifted { set: String::new(), gone: true });
    }

    #[test]
    fn removals_are_told_highest_first() {
        let mut numbering = Numbering::default();
        numbering.exists(5);
        assert!(numbering.hold(1) && numbering.hold(1) && numbering.hold(3));
        assert!(!numbering.hold(3), "there is none");
        assert_eq!(numbering.exists(3), 6, "a new message behind three that were not told");
        let mut told = Vec::new();
        numbering.tell(&mut told);
        assert_eq!(told, b"* 5 EXPUNGE\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n");
        assert!(numbering.is_plain());
    }

    #[test]
    fn answers_are_shifted_number_by_number() {
        let numbering = five_without_the_third();
        let mut out = Vec::new();
        numbering.up_all(b"(2)(3 4 (1))\r\n", &mut out);
        assert_eq!(out, b"(2)(4 5 (1))\r\n");
    }

    #[test]
    fn criteria_that_name_numbers_are_found() {
        assert!(names_numbers(b"NOT (UNSEEN 1:3)\r\n"));
        assert!(names_numbers(b"UID 4 5\r\n"));
        assert!(!names_numbers(b"UNSEEN FROM joe UID 1:4\r\n"));
    }
}
