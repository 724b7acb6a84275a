//! The UIDs of a mailbox, in order: which message has which place (RFC 3501 sections 2.3.1.1 and 2.3.1.2)?
//!
//!     11 12 13 14 20 21      place 5 is UID 20; UID 20 has place 5; written 11:14,20:21
//!
//! UIDs come in runs, so runs are what is kept, 8 octets each, in chunks that know how many messages they hold. A place is
//! found, a message added or removed in the time that it takes to look through the chunks: microseconds in a mailbox of a
//! million messages of which every second is gone.

use super::sequence_set::{self, Bound};

/// UIDs, ascending.
#[derive(Clone, Debug, Default)]
pub struct UidSet {
    /// None is empty, and each lies wholly below the next.
    chunks: Vec<Chunk>,
    len: u32,
}

/// Some runs that follow one another, first and last UID of each.
#[derive(Clone, Debug)]
struct Chunk {
    runs: Vec<(u32, u32)>,
    len: u32,
}

impl Chunk {
    /// Runs in one chunk: moving half of them costs as little as finding one among a thousand chunks.
    const MOST: usize = 256;

    fn first(&self) -> u32 {
        self.runs[0].0
    }
}

impl UidSet {
    /// How many there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest.
    pub fn first(&self) -> Option<u32> {
        self.chunks.first().map(Chunk::first)
    }

    /// The highest.
    pub fn last(&self) -> Option<u32> {
        self.chunks.last().and_then(|chunk| chunk.runs.last()).map(|run| run.1)
    }

    /// Whether this one is among them.
    pub fn contains(&self, uid: u32) -> bool {
        self.place(uid).is_some()
    }

    /// The place of this one, counted from 1.
    pub fn place(&self, uid: u32) -> Option<u32> {
        let (below, found) = self.find(uid);
        found.then_some(below + 1)
    }

    /// How many are below this one.
    pub fn below(&self, uid: u32) -> u32 {
        self.find(uid).0
    }

    /// Which has this place, counted from 1.
    pub fn at(&self, place: u32) -> Option<u32> {
        let mut left = place.checked_sub(1)?;
        let chunk = self.chunks.iter().find(|chunk| {
            let here = left < chunk.len;
            left -= if here { 0 } else { chunk.len };
            here
        })?;
        chunk.runs.iter().find_map(|(first, last)| {
            let here = left <= last - first;
            let uid = here.then(|| first + left);
            left -= if here { 0 } else { last - first + 1 };
            uid
        })
    }

    /// How many are below it, and whether it is there itself.
    fn find(&self, uid: u32) -> (u32, bool) {
        let Some(at) = self.chunk_of(uid) else { return (0, false) };
        let before: u32 = self.chunks[..at].iter().map(|chunk| chunk.len).sum();
        let runs = &self.chunks[at].runs;
        let run = runs.partition_point(|(first, _)| *first <= uid) - 1;
        let (first, last) = runs[run];
        let whole: u32 = runs[..run].iter().map(|(first, last)| last - first + 1).sum();
        match uid <= last {
            true => (before + whole + (uid - first), true),
            false => (before + whole + (last - first + 1), false),
        }
    }

    /// The chunk in which it would have to be; none if it is lower than all.
    fn chunk_of(&self, uid: u32) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk.first() <= uid).checked_sub(1)
    }

    /// Adds one. False if it was there.
    pub fn insert(&mut self, uid: u32) -> bool {
        let Some(at) = self.chunk_of(uid).or_else(|| (!self.chunks.is_empty()).then_some(0)) else {
            self.chunks.push(Chunk { runs: vec![(uid, uid)], len: 1 });
            self.len = 1;
            return true;
        };
        let Chunk { runs, len } = &mut self.chunks[at];
        let next = runs.partition_point(|(first, _)| *first <= uid);
        let before = next.checked_sub(1).map(|run| runs[run].1);
        if before.is_some_and(|last| uid <= last) {
            return false;
        }
        let follows = before.is_some_and(|last| last + 1 == uid);
        let leads = runs.get(next).is_some_and(|(first, _)| first - 1 == uid);
        match (follows, leads) {
            (true, true) => runs[next - 1].1 = runs.remove(next).1,
            (true, false) => runs[next - 1].1 = uid,
            (false, true) => runs[next].0 = uid,
            (false, false) => runs.insert(next, (uid, uid)),
        }
        *len += 1;
        self.len += 1;
        self.divide(at);
        true
    }

    /// Takes one away. False if it was not there.
    pub fn remove(&mut self, uid: u32) -> bool {
        let Some(at) = self.chunk_of(uid) else { return false };
        let Chunk { runs, len } = &mut self.chunks[at];
        let run = runs.partition_point(|(first, _)| *first <= uid) - 1;
        match runs[run] {
            (_, last) if uid > last => return false,
            (first, last) if first == last => _ = runs.remove(run),
            (first, _) if uid == first => runs[run].0 = uid + 1,
            (_, last) if uid == last => runs[run].1 = uid - 1,
            (_, last) => {
                runs[run].1 = uid - 1;
                runs.insert(run + 1, (uid + 1, last));
            }
        }
        *len -= 1;
        self.len -= 1;
        match self.chunks[at].len {
            0 => _ = self.chunks.remove(at),
            _ => self.divide(at),
        }
        true
    }

    fn divide(&mut self, at: usize) {
        let chunk = &mut self.chunks[at];
        if chunk.runs.len() <= Chunk::MOST {
            return;
        }
        let runs = chunk.runs.split_off(Chunk::MOST / 2);
        let len = runs.iter().map(|(first, last)| last - first + 1).sum();
        chunk.len -= len;
        self.chunks.insert(at + 1, Chunk { runs, len });
    }

    /// The runs, first and last UID of each.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.chunks.iter().flat_map(|chunk| chunk.runs.iter().copied())
    }

    /// Each one.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs().flat_map(|(first, last)| first..=last)
    }

    /// The messages of these runs.
    pub fn of_runs(runs: &[(u32, u32)]) -> Self {
        runs.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    /// Those that are not in the other set.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.iter().filter(|uid| !other.contains(*uid))
    }

    /// Only those that are in the other set too. What lies in a run of the other one is not looked at one by one.
    pub fn narrow(&mut self, other: &Self) {
        let mut outside = Vec::new();
        let mut others = other.runs().peekable();
        for (mut first, last) in self.runs() {
            while others.next_if(|run| run.1 < first).is_some() {}
            while first <= last {
                match others.peek() {
                    Some((from, to)) if *from <= first => match to.checked_add(1).filter(|_| *to < last) {
                        Some(next) => {
                            first = next;
                            others.next();
                        }
                        None => break,
                    },
                    Some((from, _)) if *from <= last => {
                        outside.push((first, from - 1));
                        first = *from;
                    }
                    _ => {
                        outside.push((first, last));
                        break;
                    }
                }
            }
        }
        outside.into_iter().flat_map(|(first, last)| first..=last).for_each(|uid| _ = self.remove(uid));
    }

    /// The set in pieces, each a sequence-set of at most so many octets: a line that every server reads is not longer than 8192
    /// (RFC 7162 section 4).
    pub fn chunks(&self, octets: usize) -> Vec<String> {
        let mut chunks: Vec<String> = Vec::new();
        for run in self.runs() {
            let text = sequence_set::write([run]);
            match chunks.last_mut().filter(|chunk| chunk.len() + 1 + text.len() <= octets) {
                Some(chunk) => {
                    chunk.push(',');
                    chunk.push_str(&text);
                }
                None => chunks.push(text),
            }
        }
        chunks
    }

    /// The runs that it has among these: what lies between two that follow one another there belongs to a run too.
    pub fn runs_among(&self, these: &Self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut open = false;
        for uid in these.iter() {
            match runs.last_mut().filter(|_| open) {
                Some(run) if self.contains(uid) => run.1 = uid,
                _ if self.contains(uid) => runs.push((uid, uid)),
                _ => {}
            }
            open = self.contains(uid);
        }
        runs
    }

    /// Reads a set of plain numbers; `None` if it is none, or has `*` in it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        /// Nobody has more messages than this in a mailbox, and each run may cost as much as its length.
        const MOST: u32 = 1 << 24;
        let mut set = Self::default();
        for range in sequence_set::parse(text)? {
            let (Bound::Number(a), Bound::Number(b)) = range else { return None };
            let (first, last) = (a.min(b), a.max(b));
            if (last - first).checked_add(set.len())? >= MOST {
                return None;
            }
            set.extend(first..=last);
        }
        Some(set)
    }
}

impl std::fmt::Display for UidSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&sequence_set::write(self.runs()))
    }
}

impl PartialEq for UidSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for UidSet {}

impl Extend<u32> for UidSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, uids: I) {
        uids.into_iter().for_each(|uid| _ = self.insert(uid));
    }
}

impl FromIterator<u32> for UidSet {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        let mut set = Self::default();
        set.extend(uids);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn places_and_uids_are_found_both_ways() {
        let set: UidSet = [21, 11, 12, 14, 13, 20, 12].into_iter().collect();
        assert_eq!((set.len(), set.last(), set.to_string().as_str()), (6, Some(21), "11:14,20:21"));
        assert_eq!(
            (1..=7).map(|place| set.at(place)).collect::<Vec<_>>(),
            [11, 12, 13, 14, 20, 21, 0].map(|uid| (uid > 0).then_some(uid))
        );
        assert_eq!([10, 11, 15, 20, 22].map(|uid| set.place(uid)), [None, Some(1), None, Some(5), None]);
        assert_eq!([10, 11, 15, 20, 22].map(|uid| set.below(uid)), [0, 0, 4, 4, 6]);
        assert_eq!(set.at(0), None);
        assert_eq!(UidSet::parse(b"11:14,21:20"), Some(set));
        assert_eq!(UidSet::parse(b"1:*"), None);
        assert_eq!(UidSet::parse(b"1:4294967295"), None);
    }

    #[test]
    fn a_set_is_said_in_pieces() {
        let set = UidSet::parse(b"11:14,20:21,30,4294967295").unwrap();
        assert_eq!(set.chunks(100), ["11:14,20:21,30,4294967295"]);
        assert_eq!(set.chunks(11), ["11:14,20:21", "30", "4294967295"]);
        assert_eq!(set.chunks(10), ["11:14", "20:21,30", "4294967295"]);
        assert!(UidSet::default().chunks(10).is_empty());
        let many: UidSet = (1..5000).map(|uid| uid * 2).collect();
        let chunks = many.chunks(8000);
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.len() <= 8000));
        assert_eq!(UidSet::parse(chunks.join(",").as_bytes()), Some(many));
    }

    #[test]
    fn runs_go_on_where_nothing_else_is_known_between() {
        let these = UidSet::parse(b"2,4,6,9,20:22").unwrap();
        let runs = |text: &str| UidSet::parse(text.as_bytes()).unwrap_or_default().runs_among(&these);
        assert_eq!(runs("4,6,9,21"), [(4, 9), (21, 21)]);
        assert_eq!(runs("2,4,6,9,20:22"), [(2, 22)]);
        assert_eq!(runs("2,6"), [(2, 2), (6, 6)]);
        assert_eq!(runs(""), []);
    }

    #[test]
    fn a_set_is_narrowed_to_another() {
        let table = [
            ("1:10", "3:5,9:20", "3:5,9:10"),
            ("1:3,5,7:9", "2:7", "2:3,5,7"),
            ("4,6", "1:3,5,7:9", ""),
            ("4294967290:4294967295", "4294967292:4294967295", "4294967292:4294967295"),
            ("5", "1:10", "5"),
            ("1:3", "", ""),
        ];
        let set = |text: &str| UidSet::parse(text.as_bytes()).unwrap_or_default();
        for (one, other, both) in table {
            let mut narrowed = set(one);
            narrowed.narrow(&set(other));
            assert_eq!(narrowed.to_string(), both, "{one} and {other}");
        }
    }

    #[test]
    fn the_highest_uid_has_a_place_too() {
        let mut set: UidSet = [u32::MAX, 1].into_iter().collect();
        assert_eq!(set.place(u32::MAX), Some(2));
        assert!(set.insert(u32::MAX - 1) && set.remove(u32::MAX) && !set.remove(u32::MAX));
        assert_eq!(set.to_string(), format!("1,{}", u32::MAX - 1));
    }

    /// A walk beside a set of the standard library.
    #[test]
    fn it_is_the_set_that_it_seems_to_be() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32 % below
        };
        let (mut set, mut model) = (UidSet::default(), BTreeSet::new());
        for step in 0..60_000 {
            let uid = 1 + random(6000);
            match random(3) {
                0 if step % 7 < 3 => assert_eq!(set.remove(uid), model.remove(&uid)),
                1 => assert_eq!(set.insert(uid * 2), model.insert(uid * 2)),
                _ => assert_eq!(set.insert(uid), model.insert(uid)),
            }
            assert_eq!(set.len() as usize, model.len());
            assert_eq!(set.contains(uid), model.contains(&uid));
            if step % 97 == 0 {
                let place = 1 + random(set.len().max(1));
                assert_eq!(set.at(place), model.iter().nth(place as usize - 1).copied());
                assert_eq!(set.below(uid) as usize, model.range(..uid).count());
            }
        }
        assert!(set.iter().eq(model.iter().copied()));
        model.iter().for_each(|uid| assert!(set.remove(*uid)));
        assert!(set.is_empty() && set.chunks.is_empty());
    }
}
