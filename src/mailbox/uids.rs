//! A set of UIDs, and how it stands on the wire (RFC 3501 section 2.3.1.1).
//!
//!     11 12 13 14 20 21      written 11:14,20:21
//!
//! UIDs come in runs, and runs are what is kept: 8 octets each, however long they are.

use std::fmt;

use crate::imap::sequence_set::{self, Bound};

/// UIDs, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uids {
    /// First and last UID of each run; between two of them at least one UID is missing.
    runs: Vec<(u32, u32)>,
}

impl Uids {
    /// Reads a set of plain numbers; `None` if it is none, or has `*` in it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut runs = Vec::new();
        for range in sequence_set::parse(text)? {
            let (Bound::Number(a), Bound::Number(b)) = range else { return None };
            runs.push((a.min(b), a.max(b)));
        }
        Some(Self::of(runs))
    }

    /// Those of these ranges, in whatever order.
    fn of(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match runs.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => runs.push((first, last)),
            }
        }
        Self { runs }
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.runs.iter().fold(0u32, |len, (first, last)| len.saturating_add(last - first).saturating_add(1))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, uid: u32) -> bool {
        self.run_of(uid).is_ok()
    }

    /// Where the run of this one is, or where it would have to be.
    fn run_of(&self, uid: u32) -> Result<usize, usize> {
        let next = self.runs.partition_point(|(first, _)| *first <= uid);
        match next.checked_sub(1) {
            Some(run) if uid <= self.runs[run].1 => Ok(run),
            _ => Err(next),
        }
    }

    /// Adds one. False if it was there.
    pub fn insert(&mut self, uid: u32) -> bool {
        let Err(next) = self.run_of(uid) else { return false };
        let follows = next > 0 && self.runs[next - 1].1 + 1 == uid;
        let leads = self.runs.get(next).is_some_and(|(first, _)| first - 1 == uid);
        match (follows, leads) {
            (true, true) => self.runs[next - 1].1 = self.runs.remove(next).1,
            (true, false) => self.runs[next - 1].1 = uid,
            (false, true) => self.runs[next].0 = uid,
            (false, false) => self.runs.insert(next, (uid, uid)),
        }
        true
    }

    /// Takes one away. False if it was not there.
    pub fn remove(&mut self, uid: u32) -> bool {
        let Ok(run) = self.run_of(uid) else { return false };
        match self.runs[run] {
            (first, last) if first == last => _ = self.runs.remove(run),
            (first, _) if first == uid => self.runs[run].0 = uid + 1,
            (_, last) if last == uid => self.runs[run].1 = uid - 1,
            (_, last) => {
                self.runs[run].1 = uid - 1;
                self.runs.insert(run + 1, (uid + 1, last));
            }
        }
        true
    }

    /// The runs, first and last UID of each.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs.iter().copied()
    }

    /// Each one.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs().flat_map(|(first, last)| first..=last)
    }

    /// Those that are not in the other set.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.iter().filter(|uid| !other.contains(*uid))
    }
}

impl fmt::Display for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sequence_set::write(&self.runs))
    }
}

impl FromIterator<(u32, u32)> for Uids {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        Self::of(ranges.into_iter().collect())
    }
}

impl FromIterator<u32> for Uids {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        let mut set = Self::default();
        uids.into_iter().for_each(|uid| _ = set.insert(uid));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mailbox::shadow::tests::Random;

    #[test]
    fn a_set_is_read_and_written() {
        let set: Uids = [21, 11, 12, 14, 13, 20, 12].into_iter().collect();
        assert_eq!((set.len(), set.to_string().as_str()), (6, "11:14,20:21"));
        assert_eq!(Uids::parse(b"21:20,14:13,11:12"), Some(set));
        for (text, written) in [("1:4294967295,4294967295", "1:4294967295"), ("1:3,2", "1:3"), ("7,9", "7,9")] {
            assert_eq!(Uids::parse(text.as_bytes()).unwrap().to_string(), written);
        }
        for bad in ["", "1:*", "x", "0"] {
            assert_eq!(Uids::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_highest_uid_comes_and_goes_like_any_other() {
        let mut set: Uids = [u32::MAX, 1].into_iter().collect();
        assert!(set.insert(u32::MAX - 1) && set.remove(u32::MAX) && !set.remove(u32::MAX));
        assert_eq!(set.to_string(), format!("1,{}", u32::MAX - 1));
    }

    /// A walk beside a set of the standard library.
    #[test]
    fn it_is_the_set_that_it_seems_to_be() {
        let mut random = Random::from_the_environment();
        let (mut set, mut model) = (Uids::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let uid = 1 + random.below(100);
            match random.below(2) {
                0 => assert_eq!(set.insert(uid), model.insert(uid)),
                _ => assert_eq!(set.remove(uid), model.remove(&uid)),
            }
            assert_eq!((set.len() as usize, set.contains(uid)), (model.len(), model.contains(&uid)));
            assert!(set.runs().zip(set.runs().skip(1)).all(|((_, end), (start, _))| end + 1 < start));
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(Uids::parse(set.to_string().as_bytes()), (!set.is_empty()).then_some(set));
    }
}
