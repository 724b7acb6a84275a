//! What is under way with the names of mailboxes: written down before the backend is asked, so that what is kept follows in any
//! case (RFC 5464 section 4.1).
//!
//!     Play   /private/vendor/lemonade/moving   "1790000000 47 12 Work"   Work, of UIDVALIDITY 12, is becoming Play
//!     Work   /private/vendor/lemonade/moving   "1790000000 0 12 "        Work is being deleted
//!
//! The note stands at the new name, or at the one that goes, and goes with the change that it announces. Whoever finds one looks
//! at the backend: what was done there is done here too, once. A mailbox that has the old name again is another one where its
//! UIDVALIDITY is. Requirement N14.

use super::annotation;
use crate::{
    imap::entry::EntryName,
    store::{Change, Entry, Key, Owner, Quota},
};

/// The name of the note: no client sees it, and none can set it.
pub const MOVING: &str = "/private/vendor/lemonade/moving";

/// Seconds after which a note counts for nothing where the backend shows no sign of the change: no command takes so long.
const STALE: i64 = 3600;

/// A mailbox that is being renamed or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Its new name; of one that is deleted, its name.
    pub mailbox: Box<[u8]>,
    /// Its old name; none: it is deleted.
    pub from: Option<Box<[u8]>>,
    /// What separates names, if anything does, and anything is kept below it.
    pub delimiter: Option<u8>,
    /// Of the mailbox, before; none where the backend does not say.
    pub uidvalidity: Option<u32>,
    /// When it began, in seconds since 1970.
    pub since: i64,
}

/// What can be seen at the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// There is a mailbox of the new name.
    pub new: bool,
    /// There is one of the old name.
    pub old: bool,
    /// And this is its UIDVALIDITY.
    pub uidvalidity: Option<u32>,
}

/// What is to be done about a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend has done it: what is kept follows.
    Done,
    /// It has not, and will not: the note goes.
    Undone,
    /// It may still do it.
    Open,
}

impl Moving {
    /// Reads a note; nothing for any other entry.
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.key.name.as_str() != MOVING {
            return None;
        }
        let mut parts = entry.value.splitn(4, |octet| *octet == b' ');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<i64>().ok();
        let (since, delimiter, uidvalidity) = (number()?, number()?, number()?);
        let from = parts.next().filter(|from| !from.is_empty()).map(Into::into);
        let delimiter = u8::try_from(delimiter).ok().filter(|octet| *octet != 0);
        let uidvalidity = u32::try_from(uidvalidity).ok().filter(|number| *number != 0);
        Some(Self { mailbox: entry.key.mailbox.clone(), from, delimiter, uidvalidity, since })
    }

    /// The note; none only where its name is none.
    pub fn note(&self) -> Option<Entry> {
        let name = EntryName::parse(MOVING.as_bytes()).ok()?;
        let key = Key { mailbox: self.mailbox.clone(), owner: Owner::User, name };
        let (delimiter, uidvalidity) = (self.delimiter.unwrap_or(0), self.uidvalidity.unwrap_or(0));
        let head = format!("{} {delimiter} {uidvalidity} ", self.since).into_bytes();
        let value = [&head[..], self.from.as_deref().unwrap_or_default()].concat().into();
        Some(Entry { key, value })
    }

    /// What follows here.
    pub fn change(&self, quota: Quota) -> Change {
        let to = self.mailbox.clone();
        match &self.from {
            None => Change::Deleted(to),
            Some(from) if self.is_copy() => Change::Copied { from: from.clone(), to, except: &annotation::STAY, quota },
            Some(from) => Change::Renamed { from: from.clone(), to, delimiter: self.delimiter },
        }
    }

    /// INBOX stays where it is, and its messages get the new name (RFC 3501 section 6.3.5).
    pub fn is_copy(&self) -> bool {
        self.from.as_deref() == Some(b"INBOX")
    }

    /// The name that goes.
    pub fn old(&self) -> &[u8] {
        self.from.as_deref().unwrap_or(&self.mailbox)
    }

    /// What has become of it, by what can be seen.
    pub fn judge(&self, seen: Seen, now: i64) -> Verdict {
        let another = self.uidvalidity.zip(seen.uidvalidity).is_some_and(|(before, now)| before != now);
        let gone = self.is_copy() || !seen.old || another;
        match gone && (self.from.is_none() || seen.new) {
            true => Verdict::Done,
            false if now >= self.since + STALE => Verdict::Undone,
            false => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(from: Option<&[u8]>) -> Moving {
        let (from, mailbox) = (from.map(Into::into), b"Play"[..].into());
        Moving { mailbox, from, delimiter: Some(b' '), uidvalidity: Some(12), since: 1000 }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for from in [None, Some(&b"Work"[..]), Some(b" a  b "), Some(b"\xff\r\n0 0 0")] {
            for moving in [moving(from), Moving { delimiter: None, uidvalidity: None, ..moving(from) }] {
                assert_eq!(Moving::of(&moving.note().unwrap()), Some(moving));
            }
        }
        let mut other = moving(None).note().unwrap();
        other.value = b"1000 47".as_slice().into();
        assert_eq!(Moving::of(&other), None);
        other.key.name = EntryName::parse(b"/private/comment").unwrap();
        assert_eq!(Moving::of(&other), None);
    }

    #[test]
    fn what_was_done_is_seen_at_the_backend() {
        let seen = |new, old, uidvalidity| Seen { new, old, uidvalidity };
        let inbox: Option<&[u8]> = Some(b"INBOX");
        let work: Option<&[u8]> = Some(b"Work");
        for (from, seen, expected) in [
            (work, seen(true, false, None), Verdict::Done),
            (work, seen(true, true, Some(13)), Verdict::Done),
            (work, seen(true, true, Some(12)), Verdict::Open),
            (work, seen(true, true, None), Verdict::Open),
            (work, seen(false, true, Some(12)), Verdict::Open),
            (work, seen(false, false, None), Verdict::Open),
            (inbox, seen(true, true, Some(12)), Verdict::Done),
            (inbox, seen(false, true, Some(12)), Verdict::Open),
            (None, seen(false, false, None), Verdict::Done),
            (None, seen(false, true, Some(13)), Verdict::Done),
            (None, seen(false, true, Some(12)), Verdict::Open),
            (None, seen(false, true, None), Verdict::Open),
        ] {
            assert_eq!(moving(from).judge(seen, 1000), expected, "{from:?} {seen:?}");
            let later = if expected == Verdict::Open { Verdict::Undone } else { expected };
            assert_eq!(moving(from).judge(seen, 1000 + STALE), later, "{from:?} {seen:?}");
        }
    }
}
