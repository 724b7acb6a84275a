//! What this client believes: which message has which number (RFC 3501 section 2.3.1.2), and what it was not told yet.
//!
//! Client and backend count alike, but for removals that the backend announced and the client may not hear yet (`untold`).
//! While there is none, numbers pass as they come. Otherwise:
//!
//!     backend:  1  2     3  4      a message that the backend calls 3
//!     client:   1  2  x  4  5      is the client's 4, because its 3 is gone and it was not told
//!     UIDs:     11 12    14 15     `Mapped` knows these too; `Same` does not
//!
//! Architecture 4.1.

use std::collections::BTreeMap;

use crate::imap::{
    esearch::{Esearch, Found},
    fetch::Fetched,
    sequence_set::{self, Bound},
    uid_set::UidSet,
};

/// The numbering of one session.
#[derive(Debug, Default)]
pub struct Numbering {
    /// How many messages the backend has said there are.
    count: u32,
    /// How many of them, the last ones, the client was not told of.
    unannounced: u32,
    /// Flags that it was not told of either: the rest of each FETCH, by the client's number.
    flags: BTreeMap<u32, Box<[u8]>>,
    /// Messages that are gone and still have a number for the client: its numbers, ascending.
    untold: Vec<Untold>,
    /// Removals announced by UID (VANISHED, RFC 7162) that wait too: the lines, and what in `Same` has to come behind them.
    vanished: Vec<u8>,
    /// How many messages they name of which nobody knows the number: in `Same` any, else of those that came last.
    lost: u32,
    /// How many of those were certainly among the ones that the client was not told of.
    hidden: u32,
    /// Else: which.
    missing: UidSet,
    /// Flags that it was not told of, of messages whose numbers nobody knows until all UIDs are known: the rest of each FETCH, by UID.
    unplaced: BTreeMap<u32, Box<[u8]>>,
    /// `Mapped`: the UIDs of the backend's messages. Of those that came last it may not know them yet.
    uids: Option<Box<UidSet>>,
}

/// A place of the client's list that is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Untold {
    number: u32,
    /// It will be told by UID: the line waits in `vanished`.
    by_uid: bool,
}

/// A set of messages, as the backend has to read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Shifted {
    /// The set; empty if nothing is left of it.
    pub set: String,
    /// Some message of the client's set is gone.
    pub gone: bool,
}

/// What a set of the client's cannot mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// It is no set.
    Syntax,
    /// It names a message that the client does not have.
    Beyond,
}

impl Numbering {
    /// More than this is not kept untold: at the first chance the client hears of it, and few servers send any.
    const MOST_VANISHED: usize = 64 << 10;
    /// Messages whose flags are kept untold, and octets of one of them; what is beyond is told at once.
    const MOST_FLAGS: usize = 1000;
    const LONGEST_FLAGS: usize = 512;

    /// Whether numbers pass as they come.
    pub fn is_plain(&self) -> bool {
        self.untold.is_empty() && self.vanished.is_empty()
    }

    /// Whether UIDs are known.
    pub fn is_mapped(&self) -> bool {
        self.uids.is_some()
    }

    /// Whether the UID of each message is known.
    pub fn is_complete(&self) -> bool {
        self.uids.as_ref().is_some_and(|uids| uids.len() == self.count)
    }

    /// Whether a number of the client's can be translated: not while messages are gone of which only the UID is known.
    pub fn is_bound(&self) -> bool {
        self.lost == 0
    }

    /// Whether a number of the backend's can be: those that are gone stand behind all whose UIDs are known.
    pub fn is_certain(&self, number: u32) -> bool {
        self.is_bound() || self.uids.as_ref().is_some_and(|uids| number <= uids.len())
    }

    /// How many messages the backend has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many of them the client was told of, the first ones. While some are lost, as far as that is certain: these stand behind all
    /// whose UIDs are known.
    pub fn announced(&self) -> u32 {
        let certain = self.uids.as_ref().map_or(0, |uids| uids.len());
        self.placed().min(certain).max(self.count - self.unannounced)
    }

    /// How many the client was told of, those that are lost included.
    fn placed(&self) -> u32 {
        (self.count - self.unannounced).saturating_add(self.lost) - self.hidden
    }

    /// How many messages the client has, those included that are gone and not told.
    pub fn told(&self) -> u32 {
        self.placed().saturating_add(self.untold.len() as u32)
    }

    /// The UIDs of the backend's messages, as far as they are known.
    pub fn uids(&self) -> Option<&UidSet> {
        self.uids.as_deref()
    }

    /// The backend counts its messages. The answer is what the client is told.
    pub fn exists(&mut self, count: u32) -> u32 {
        self.count = count;
        (self.unannounced, self.hidden) = (0, 0);
        self.told()
    }

    /// The backend counts its messages, and the client is not to hear of new ones now.
    pub fn hold_exists(&mut self, count: u32) {
        self.unannounced = self.unannounced.saturating_add(count.saturating_sub(self.count)).min(count);
        self.count = count;
    }

    /// Whether there are messages that the client was not told of.
    pub fn has_unannounced(&self) -> bool {
        self.unannounced > 0
    }

    /// Whether there are flags that the client was not told of.
    pub fn has_untold_flags(&self) -> bool {
        !(self.flags.is_empty() && self.unplaced.is_empty())
    }

    /// A FETCH tells flags, and the client is not to hear of them now: `rest` is what stands behind its number. False if that
    /// cannot be kept.
    pub fn hold_flags(&mut self, number: u32, rest: &[u8]) -> bool {
        // Of a message that it does not know, a client asks when it knows it.
        if number > self.announced() {
            return true;
        }
        let number = self.up(number);
        let room = self.flags.len() < Self::MOST_FLAGS || self.flags.contains_key(&number);
        if !room || rest.len() > Self::LONGEST_FLAGS {
            return false;
        }
        self.flags.insert(number, rest.into());
        true
    }

    /// The client is told newer flags of this message: those that wait are not to come behind them.
    pub fn outdate_flags(&mut self, number: u32, uid: Option<u32>) {
        let number = self.up(number);
        self.flags.remove(&number);
        uid.map(|uid| self.unplaced.remove(&uid));
    }

    /// The flags that wait, as responses; now they are told.
    pub fn tell_flags(&mut self, out: &mut Vec<u8>) {
        for (number, rest) in std::mem::take(&mut self.flags) {
            out.extend_from_slice(format!("* {number}").as_bytes());
            out.extend_from_slice(&rest);
        }
    }

    /// A message is gone and the client is told at once. The answer is its number for the client; none if it never knew it.
    pub fn expunge(&mut self, number: u32) -> Option<u32> {
        let known = number <= self.announced();
        if let Some(uids) = &mut self.uids
            && let Some(uid) = uids.at(number)
        {
            uids.remove(uid);
        }
        self.unannounced = self.unannounced.saturating_sub(u32::from(!known));
        self.fewer(1);
        if !known {
            return None;
        }
        let number = self.up(number);
        self.forget(number);
        Some(number)
    }

    /// What the client calls by this number is gone, and those behind it move up.
    fn forget(&mut self, number: u32) {
        if !self.flags.is_empty() {
            let behind = self.flags.split_off(&number);
            self.flags
                .extend(behind.into_iter().filter(|(other, _)| *other > number).map(|(other, rest)| (other - 1, rest)));
        }
    }

    /// A message is gone and the client may not hear it now. False if there is no such message.
    pub fn hold(&mut self, number: u32) -> bool {
        if number == 0 || number > self.count {
            return false;
        }
        self.hold_place(number, false);
        true
    }

    /// The place is empty, and keeps its number. Whether the client knew it.
    fn hold_place(&mut self, place: u32, by_uid: bool) -> bool {
        let flags = std::mem::take(&mut self.flags);
        let number = self.expunge(place);
        self.flags = flags;
        if let Some(number) = number {
            self.flags.remove(&number);
            self.keep_untold(Untold { number, by_uid });
        }
        number.is_some()
    }

    fn keep_untold(&mut self, untold: Untold) {
        let at = self.untold.partition_point(|other| other.number < untold.number);
        self.untold.insert(at, untold);
    }

    /// Messages are gone by UID. The client hears it when it may. False if too many wait already.
    pub fn hold_vanished(&mut self, line: &[u8], uids: &[u8]) -> bool {
        match (self.is_mapped(), UidSet::parse(uids)) {
            (true, Some(gone)) => {
                // Of a message that it never knew, a client need not hear.
                let known = |uid: &u32| self.empty(*uid, true).unwrap_or_else(|| self.find_missing(*uid));
                let known = gone.iter().filter(known).collect();
                self.keep_vanished(&known);
                self.find_lost();
            }
            _ => {
                // Behind it, the numbers of other messages are not what they were.
                let mut flags = Vec::new();
                self.tell_flags(&mut flags);
                let gone = sequence_set::count(uids).unwrap_or(0).min(self.count);
                self.lose(gone);
                self.vanished.extend_from_slice(&flags);
                self.vanished.extend_from_slice(line);
            }
        }
        self.vanished.len() <= Self::MOST_VANISHED
    }

    fn keep_vanished(&mut self, uids: &UidSet) {
        if !uids.is_empty() {
            self.vanished.extend_from_slice(format!("* VANISHED {uids}\r\n").as_bytes());
        }
    }

    /// A message is gone whose place is not known: one of those that came last. Whether it can be.
    fn find_missing(&mut self, uid: u32) -> bool {
        let behind = self.uids.as_ref().is_some_and(|uids| uids.last().is_none_or(|last| uid > last));
        let missing = behind && !self.is_complete() && self.missing.insert(uid);
        if missing {
            // Behind those whose UIDs are known, numbers mean nothing from now on.
            let certain = self.up(self.uids.as_ref().map_or(0, |uids| uids.len()));
            for (number, rest) in self.flags.split_off(&(certain + 1)) {
                self.unplace(&[format!("* {number}").as_bytes(), &rest].concat());
            }
            self.lose(1);
        }
        missing
    }

    /// So many messages are gone, nobody knows from where.
    fn lose(&mut self, gone: u32) {
        self.lost += gone;
        self.fewer(gone);
    }

    /// The backend has so many messages less. Those that are lost were among the unannounced if there are not as many of these any
    /// more.
    fn fewer(&mut self, gone: u32) {
        self.count = self.count.saturating_sub(gone);
        let beyond = self.unannounced.saturating_sub(self.count);
        self.unannounced -= beyond;
        self.hidden = (self.hidden + beyond).min(self.lost);
    }

    /// All UIDs are known again: so are the places of those messages. They may be among those that the client was never told of.
    fn find_lost(&mut self) {
        if !self.is_complete() {
            return;
        }
        for (uid, rest) in std::mem::take(&mut self.unplaced) {
            self.place_flags(uid, &rest);
        }
        if self.missing.is_empty() {
            return;
        }
        let announced = self.placed();
        (self.lost, self.hidden) = (0, 0);
        let missing = std::mem::take(&mut self.missing);
        for uid in missing.iter() {
            self.count += u32::from(self.uids.as_mut().is_some_and(|uids| uids.insert(uid)));
        }
        self.unannounced = self.count.saturating_sub(announced);
        let never = missing.iter().filter(|uid| self.empty(*uid, true) != Some(true)).collect();
        self.place_waiting(&never);
    }

    /// UIDs are known: what was said by a number behind removals is of a message whose number the client has already. It waits for
    /// the removals no more, behind which it would be told later than what has changed since. `never`: messages that are gone, and of
    /// which the client need not hear.
    fn place_waiting(&mut self, never: &UidSet) {
        let waiting = std::mem::take(&mut self.vanished);
        for line in waiting.split_inclusive(|octet| *octet == b'\n') {
            match vanished_uids(line) {
                Some(gone) => {
                    let known = gone.into_iter().filter(|uid| !never.contains(*uid)).collect();
                    self.keep_vanished(&known);
                }
                None if of_uid(line).is_some_and(|(uid, rest)| self.place_flags(uid, rest)) => {}
                None => self.vanished.extend_from_slice(line),
            }
        }
    }

    /// Flags of this message wait under its number.
    fn place_flags(&mut self, uid: u32, rest: &[u8]) -> bool {
        // Of a message that has gone since, nobody need hear.
        let place = self.uids.as_ref().and_then(|uids| uids.place(uid));
        place.is_none_or(|place| self.hold_flags(place, rest))
    }

    /// The flags in a FETCH wait until its number is known. False if they cannot.
    fn unplace(&mut self, line: &[u8]) -> bool {
        let Some((uid, rest)) = of_uid(line) else { return false };
        let room = self.unplaced.len() < Self::MOST_FLAGS || self.unplaced.contains_key(&uid);
        let kept = room && rest.len() <= Self::LONGEST_FLAGS;
        if kept {
            self.unplaced.insert(uid, rest.into());
        }
        kept
    }

    /// Something is said by a number that only means something behind what waits. False if too much waits already.
    pub fn hold_behind(&mut self, line: &[u8]) -> bool {
        self.vanished.extend_from_slice(line);
        self.vanished.len() <= Self::MOST_VANISHED
    }

    /// The place of this message is empty from now on: whether the client knew it. None: it has no place.
    fn empty(&mut self, uid: u32, by_uid: bool) -> Option<bool> {
        let place = self.uids.as_ref().and_then(|uids| uids.place(uid))?;
        Some(self.hold_place(place, by_uid))
    }

    /// What waits, as responses; now it is told, flags only if the client is to hear of them. Highest numbers first, so that each is
    /// still right when it is read.
    pub fn tell(&mut self, flags: bool, out: &mut Vec<u8>) {
        if self.lost > 0 && self.unannounced + self.hidden > 0 {
            // Perhaps it is one of these that is gone. All that are told as gone below are counted here.
            (self.unannounced, self.hidden) = (0, 0);
            out.extend_from_slice(format!("* {} EXISTS\r\n", self.told()).as_bytes());
        }
        self.lost = 0;
        self.missing = UidSet::default();
        for untold in std::mem::take(&mut self.untold).into_iter().rev() {
            self.forget(untold.number);
            if !untold.by_uid {
                out.extend_from_slice(format!("* {} EXPUNGE\r\n", untold.number).as_bytes());
            }
        }
        if flags {
            return out.append(&mut self.vanished);
        }
        for line in std::mem::take(&mut self.vanished).split_inclusive(|octet| *octet == b'\n') {
            if vanished_uids(line).is_some() || !self.unplace(line) {
                out.extend_from_slice(line);
            }
        }
    }

    /// A number of the backend's, as the client counts.
    pub fn up(&self, number: u32) -> u32 {
        self.untold.iter().fold(number, |number, untold| if untold.number <= number { number + 1 } else { number })
    }

    /// What was found by the backend's numbers, as the client counts.
    pub fn raised(&self, found: Esearch) -> Esearch {
        let up = |number: Option<u32>| number.map(|number| self.up(number));
        let all = found.all.as_ref().map(|numbers| numbers.iter().map(|number| self.up(number)).collect());
        Esearch { min: up(found.min), max: up(found.max), all, ..found }
    }

    /// The client's number of the message with this UID.
    pub fn number(&self, uid: u32) -> Option<u32> {
        self.uids.as_ref()?.place(uid).map(|place| self.up(place))
    }

    /// What was found, of the messages whose UIDs are known. What a question of ours has found beside them came behind the list
    /// of UIDs, or has gone: to the client it is as if it had been asked a moment earlier, or later.
    pub fn known(&self, mut found: Found) -> Found {
        if let Some(known) = &self.uids {
            found.uids.narrow(known);
        }
        found
    }

    /// What was found, by the client's numbers. A message that the client does not know of yet was not found.
    pub fn numbered(&self, found: Esearch) -> Esearch {
        let number = |uid: Option<u32>| uid.and_then(|uid| self.number(uid));
        let all = found.all.as_ref().map(|uids| self.numbers(uids)).filter(|numbers| !numbers.is_empty());
        Esearch { uid: false, min: number(found.min), max: number(found.max), all, ..found }
    }

    /// The client's numbers of these messages, as far as it knows them.
    pub fn numbers(&self, uids: &UidSet) -> UidSet {
        let mut numbers = UidSet::default();
        for (first, last) in uids.runs() {
            let places =
                self.uids.as_ref().map_or(0..0, |known| known.below(first)..known.below(last.saturating_add(1)));
            numbers.extend(places.map(|below| self.up(below + 1)));
        }
        numbers
    }

    /// A set of the client's, as the backend counts; `None` if it is no set.
    pub fn down(&self, set: &[u8]) -> Option<Shifted> {
        let (places, gone) = self.places(&sequence_set::parse(set)?);
        Some(Shifted { set: sequence_set::write(places), gone })
    }

    /// The places at the backend of a set of the client's, and whether some of it is gone.
    fn places(&self, set: &[(Bound, Bound)]) -> (Vec<(u32, u32)>, bool) {
        let last = self.told();
        let mut gone = false;
        let mut places = Vec::new();
        for (a, b) in set {
            let (a, b) = (a.resolve(last), b.resolve(last));
            let (first, end) = (a.min(b), a.max(b));
            let within = self.untold.iter().filter(|untold| (first..=end).contains(&untold.number)).count() as u32;
            gone |= within > 0;
            let below = self.untold.iter().filter(|untold| untold.number < first).count() as u32;
            let alive = (end - first).saturating_add(1).saturating_sub(within);
            if alive > 0 && first > below {
                places.push((first - below, first - below + (alive - 1)));
            }
        }
        (places, gone)
    }

    /// A set of the client's numbers as UIDs: what it means now, whatever happens until the backend reads it
    /// (architecture 4.2). All UIDs have to be known.
    ///
    /// A range of numbers is the range of UIDs between its ends: nothing else is between them, and what comes later is above.
    pub fn bind(&self, set: &[u8]) -> Result<Shifted, Unbound> {
        let last = self.told();
        let mut set = sequence_set::parse(set).ok_or(Unbound::Syntax)?;
        for (a, b) in &mut set {
            let open = *a == Bound::Last || *b == Bound::Last;
            for end in [a, b] {
                match *end {
                    Bound::Number(number) if number > last && open => *end = Bound::Last,
                    Bound::Number(number) if number > last => return Err(Unbound::Beyond),
                    _ => {}
                }
            }
        }
        let (places, gone) = self.places(&set);
        let uid = |place| self.uids.as_ref().and_then(|uids| uids.at(place));
        let uids = places.into_iter().filter_map(|(first, last)| Some((uid(first)?, uid(last)?)));
        Ok(Shifted { set: sequence_set::write(uids), gone })
    }

    /// A set of UIDs without `*`, which is the last message that the client knows; empty if there is none.
    pub fn bind_uids(&self, set: &[u8]) -> Result<String, Unbound> {
        let last = self.uids.as_ref().and_then(|uids| uids.last()).unwrap_or(0);
        let mut ranges = Vec::new();
        for (a, b) in sequence_set::parse(set).ok_or(Unbound::Syntax)? {
            let open = a == Bound::Last || b == Bound::Last;
            let (a, b) = (a.resolve(last), b.resolve(last));
            match a.min(b) {
                0 => {}
                first if open => ranges.push((first.min(last), last)),
                first => ranges.push((first, a.max(b))),
            }
        }
        Ok(sequence_set::write(ranges))
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

    /// The UIDs are these, from now on; the answer is whether that can be: as many as there are messages, and no other
    /// message in the middle of those that were known.
    ///
    /// Messages that were known and are not among them are gone; those behind the last one are new. What was gone by UID
    /// only, in `Same`, has its number now.
    pub fn map(&mut self, uids: UidSet) -> bool {
        match self.uids.take() {
            None => {
                let lines = self.vanished.split(|octet| *octet == b'\n');
                self.missing = lines.filter_map(vanished_uids).flatten().collect();
                (self.count, self.unannounced) = (uids.len(), self.unannounced.min(uids.len()));
                self.uids = Some(Box::new(uids));
                self.find_lost();
                true
            }
            Some(known) => {
                let last = known.last().unwrap_or(0);
                if uids.iter().take_while(|uid| *uid <= last).any(|uid| !known.contains(uid)) {
                    return false;
                }
                let gone: Vec<u32> = known.without(&uids).collect();
                self.uids = Some(known);
                gone.into_iter().for_each(|uid| _ = self.empty(uid, false));
                self.hold_exists(uids.len());
                self.uids = Some(Box::new(uids));
                self.find_lost();
                true
            }
        }
    }

    /// UIDs are not needed any more: `Same` again, unless something untold has to keep its place.
    pub fn unmap(&mut self) {
        if self.is_plain() {
            self.uids = None;
        }
    }

    /// The UIDs of the messages that came last, among others; the answer is whether they are as many as there are messages.
    /// Otherwise none of them is believed.
    pub fn learn(&mut self, found: &UidSet) -> bool {
        let Some(uids) = &mut self.uids else { return false };
        let last = uids.last().unwrap_or(0);
        let behind = found.len() - found.below(last.saturating_add(1));
        let fits = uids.len().saturating_add(behind) == self.count;
        if fits {
            uids.extend(found.iter().filter(|uid| *uid > last));
            self.find_lost();
        }
        fits
    }
}

/// The UIDs of a line that told of removals.
fn vanished_uids(line: &[u8]) -> Option<Vec<u32>> {
    let set = line.trim_ascii_end().rsplit(|octet| *octet == b' ').next()?;
    Some(UidSet::parse(set)?.iter().collect())
}

/// Of which message a FETCH response says that it is, and what stands behind its number. It says so wherever VANISHED tells of removals
/// (RFC 7162 section 3.2.4).
fn of_uid(line: &[u8]) -> Option<(u32, &[u8])> {
    let uid = Fetched::parse(line)?.uid()?;
    let digits = line[2..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    Some((uid, &line[2 + digits..]))
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
    fn what_is_held_back_is_told_later_and_never_wrong() {
        let mut numbering = Numbering::default();
        numbering.exists(3);
        numbering.hold_exists(5);
        assert_eq!((numbering.told(), numbering.has_unannounced()), (3, true));
        assert!(
            numbering.hold_flags(2, b" FETCH (FLAGS (a))\r\n") && numbering.hold_flags(3, b" FETCH (FLAGS (b))\r\n")
        );
        assert!(numbering.hold_flags(5, b" FETCH (FLAGS (c))\r\n"), "of a message that the client does not know");
        assert!(!numbering.hold_flags(1, &[b'x'; 1000]));
        assert_eq!(numbering.expunge(5), None, "neither of its removal");
        assert_eq!(numbering.expunge(1), Some(1));
        assert!(numbering.hold(1), "the one that was the second");
        let mut told = Vec::new();
        numbering.tell(true, &mut told);
        numbering.tell_flags(&mut told);
        assert_eq!(told, b"* 1 EXPUNGE\r\n* 1 FETCH (FLAGS (b))\r\n");
        assert_eq!((numbering.count(), numbering.told(), numbering.exists(2)), (2, 1, 2));
    }

    #[test]
    fn removals_are_told_highest_first() {
        let mut numbering = Numbering::default();
        numbering.exists(5);
        assert!(numbering.hold(1) && numbering.hold(1) && numbering.hold(3));
        assert!(!numbering.hold(3), "there is none");
        assert_eq!(numbering.exists(3), 6, "a new message behind three that were not told");
        let mut told = Vec::new();
        numbering.tell(true, &mut told);
        assert_eq!(told, b"* 5 EXPUNGE\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n");
        assert!(numbering.is_plain());
    }

    fn mapped(uids: &str) -> Numbering {
        let mut numbering = Numbering::default();
        let uids = UidSet::parse(uids.as_bytes()).unwrap();
        numbering.exists(uids.len());
        assert!(numbering.map(uids) && numbering.is_complete());
        numbering
    }

    fn told(numbering: &mut Numbering) -> String {
        let mut told = Vec::new();
        numbering.tell(true, &mut told);
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn numbers_are_bound_to_uids() {
        let mut numbering = mapped("11:15");
        assert!(numbering.hold(3));
        let table = [
            ("1:2", Ok(("11:12", false))),
            ("3", Ok(("", true))),
            ("4", Ok(("14", false))),
            ("2:4", Ok(("12:14", true))),
            ("*", Ok(("15", false))),
            ("9:*", Ok(("15", false))),
            ("6", Err(Unbound::Beyond)),
            ("4:6", Err(Unbound::Beyond)),
            ("x", Err(Unbound::Syntax)),
        ];
        for (set, expected) in table {
            let expected = expected.map(|(set, gone)| Shifted { set: set.to_owned(), gone });
            assert_eq!(numbering.bind(set.as_bytes()), expected, "{set}");
        }
        assert_eq!([11, 12, 13, 14, 15].map(|uid| numbering.number(uid)), [Some(1), Some(2), None, Some(4), Some(5)]);
        let uids = ["1:*", "14,20:*", "*", "20:30", "13"].map(|set| numbering.bind_uids(set.as_bytes()).unwrap());
        assert_eq!(uids, ["1:15", "14,15", "15", "20:30", "13"]);
        assert_eq!(mapped("1").bind(b"1:*").unwrap().set, "1");
    }

    #[test]
    fn an_empty_mailbox_has_no_last_message() {
        let mut numbering = Numbering::default();
        numbering.exists(0);
        assert!(numbering.map(UidSet::default()));
        assert_eq!(numbering.bind(b"1:*").unwrap().set, "");
        assert_eq!(numbering.bind_uids(b"1:*").unwrap(), "");
    }

    #[test]
    fn what_was_gone_by_uid_has_its_number_when_uids_are_known() {
        let mut numbering = Numbering::default();
        numbering.exists(5);
        assert!(numbering.hold_vanished(b"* VANISHED 12,14\r\n", b"12,14"));
        assert!(!numbering.is_bound());
        assert!(numbering.map(UidSet::parse(b"11,13,15").unwrap()));
        assert_eq!(
            [1, 3, 5].map(|number| numbering.bind(number.to_string().as_bytes()).unwrap().set),
            ["11", "13", "15"]
        );
        assert!(numbering.bind(b"2").unwrap().gone);
        assert_eq!(told(&mut numbering), "* VANISHED 12,14\r\n");
        assert_eq!(numbering.number(15), Some(3));
    }

    #[test]
    fn what_has_gone_among_new_messages_has_its_place_when_all_are_known() {
        let mut numbering = mapped("11:12");
        numbering.exists(5);
        assert!(numbering.hold_vanished(b"* VANISHED 14\r\n", b"14"));
        assert!(!numbering.is_bound());
        assert!(numbering.hold_behind(b"* 4 FETCH (UID 15 FLAGS (a))\r\n"));
        assert!(numbering.map(UidSet::parse(b"11:13,15").unwrap()) && numbering.is_bound());
        assert_eq!((numbering.number(15), numbering.bind(b"4").unwrap().gone), (Some(5), true));
        assert_eq!(told(&mut numbering), "* VANISHED 14\r\n");
        let mut flags = Vec::new();
        numbering.tell_flags(&mut flags);
        assert_eq!(flags, b"* 4 FETCH (UID 15 FLAGS (a))\r\n");
    }

    #[test]
    fn what_goes_while_others_are_lost_was_known_or_not() {
        // The client knows 11 to 14, and not 15 and three more; then the last but one goes, of which nobody knows the place.
        let mut numbering = mapped("11:15");
        assert_eq!(numbering.expunge(5), Some(5));
        numbering.hold_exists(5);
        assert!(numbering.learn(&[15].into_iter().collect()));
        numbering.hold_exists(7);
        assert!(numbering.hold_vanished(b"* VANISHED 16\r\n", b"16") && !numbering.is_bound());
        assert!(numbering.hold_vanished(b"* VANISHED 14\r\n", b"14"));
        assert!(numbering.hold_vanished(b"* VANISHED 15\r\n", b"15"));
        assert!(numbering.learn(&[17].into_iter().collect()) && numbering.is_bound());
        assert_eq!((numbering.told(), numbering.number(13), numbering.number(17)), (4, Some(3), Some(5)));
        assert_eq!(told(&mut numbering), "* VANISHED 14\r\n");
        assert_eq!((numbering.told(), numbering.exists(4)), (3, 4));
    }

    #[test]
    fn of_what_came_and_went_unheard_nobody_is_told() {
        let mut numbering = mapped("11:12");
        numbering.hold_exists(4);
        assert!(numbering.hold_vanished(b"* VANISHED 13\r\n", b"13"));
        assert_eq!(numbering.told(), 2, "which of the two that it does not know of is all the same to it");
        assert!(numbering.learn(&[14].into_iter().collect()));
        assert_eq!((told(&mut numbering), numbering.told(), numbering.exists(3)), (String::new(), 2, 3));
        // The last message that the client does not know of is gone, and its UID was known.
        let mut numbering = mapped("11:12");
        numbering.hold_exists(3);
        assert!(numbering.learn(&[13].into_iter().collect()));
        assert!(numbering.hold_vanished(b"* VANISHED 13\r\n", b"13"));
        assert_eq!((told(&mut numbering), numbering.told(), numbering.is_bound()), (String::new(), 2, true));
    }

    #[test]
    fn what_went_unheard_is_told_as_come_where_uids_are_not_known() {
        let mut numbering = Numbering::default();
        numbering.hold_exists(1);
        assert!(numbering.hold_vanished(b"* VANISHED 5\r\n", b"5"));
        assert_eq!(numbering.told(), 0);
        assert_eq!((told(&mut numbering), numbering.told()), ("* 1 EXISTS\r\n* VANISHED 5\r\n".to_owned(), 0));
    }

    #[test]
    fn flags_that_are_not_wanted_wait_behind_removals_that_are() {
        let mut numbering = Numbering::default();
        numbering.exists(3);
        let fetch = |uid: u32| format!(" FETCH (FLAGS (a) UID {uid})\r\n").into_bytes();
        assert!(numbering.hold_flags(2, &fetch(12)) && numbering.hold_flags(3, &fetch(13)));
        assert!(numbering.hold_vanished(b"* VANISHED 11\r\n", b"11"));
        let mut told = Vec::new();
        numbering.tell(false, &mut told);
        assert_eq!(told, b"* VANISHED 11\r\n");
        assert!(numbering.is_plain() && numbering.has_untold_flags());
        // Newer flags of 13 are told.
        numbering.outdate_flags(2, Some(13));
        assert!(numbering.map(UidSet::parse(b"12:13").unwrap()));
        told.clear();
        numbering.tell_flags(&mut told);
        assert_eq!(told, b"* 1 FETCH (FLAGS (a) UID 12)\r\n");
    }

    #[test]
    fn flags_of_a_message_behind_one_that_is_lost_find_their_number() {
        let mut numbering = mapped("11");
        numbering.exists(3);
        let fetch = |uid: u32| format!(" FETCH (UID {uid} FLAGS (a))\r\n").into_bytes();
        (1..4).for_each(|number| assert!(numbering.hold_flags(number, &fetch(10 + number))));
        assert!(numbering.hold_vanished(b"* VANISHED 12\r\n", b"12"));
        assert_eq!(told(&mut numbering), "* VANISHED 12\r\n");
        assert!(numbering.learn(&[13].into_iter().collect()));
        let mut flags = Vec::new();
        numbering.tell_flags(&mut flags);
        assert_eq!(flags, b"* 1 FETCH (UID 11 FLAGS (a))\r\n* 2 FETCH (UID 13 FLAGS (a))\r\n");
    }

    #[test]
    fn uids_known_anew_tell_what_is_gone_and_what_is_new() {
        let mut numbering = mapped("11:15");
        assert!(!numbering.map(UidSet::parse(b"11:15,10").unwrap()), "nothing comes in front of what was known");
        let mut numbering = mapped("11:15");
        assert!(numbering.map(UidSet::parse(b"11,13:14,20").unwrap()));
        assert_eq!((numbering.told(), numbering.count(), numbering.exists(4)), (5, 4, 6));
        assert_eq!(told(&mut numbering), "* 5 EXPUNGE\r\n* 2 EXPUNGE\r\n");
        assert_eq!(numbering.number(20), Some(4));
    }

    #[test]
    fn uids_of_new_messages_are_learnt() {
        let mut numbering = mapped("11:12");
        numbering.exists(4);
        assert!(!numbering.is_complete());
        let learn = |numbering: &mut Numbering, uids: &[u32]| numbering.learn(&uids.iter().copied().collect());
        assert!(!learn(&mut numbering, &[12, 21]), "one of two: it is not the third");
        assert!(!learn(&mut numbering, &[20, 21, 22]));
        assert!(learn(&mut numbering, &[21, 12, 20]) && numbering.is_complete());
        assert_eq!(numbering.number(21), Some(4));
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
