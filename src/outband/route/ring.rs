//! Events that leave no trace in a mailbox, kept for a device until it is back.
//!
//!     [ MailboxRename Work -> Office ] [ QuotaExceed ] [ MessageExpunge INBOX 17,19 ]      overflow: no
//!       oldest                                                               newest
//!
//! What came or changed a client finds by UIDNEXT, UNSEEN and HIGHESTMODSEQ. That a mailbox was renamed, that a quota was used up, or
//! that messages went, it may never learn. A ring is bounded by number, age and octets (digest section 10: 1000 events, 30 days,
//! 256 KiB); whatever falls out of it sets `overflow`, and then a client synchronises everything. Requirements N4, N11.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::stored::{Name, millis};
use crate::{
    mailbox::event::{Event, Kind},
    outband::patience::Missed,
};

/// The latest events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// They.
    pub events: VecDeque<Entry>,
    /// Some have fallen out.
    pub overflow: bool,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was seen, since 1970.
    #[serde(with = "millis")]
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// Where; none: in the whole account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<Name>,
    /// What a renamed mailbox was called before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_mailbox: Option<Name>,
    /// Under which UIDVALIDITY the UIDs are true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uidvalidity: Option<u32>,
    /// The messages that went, as a set of IMAP; empty where it is about none.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[serde(default)]
    pub uids: Box<str>,
}

/// Whether nothing in a mailbox tells a client of this.
pub fn leaves_no_trace(kind: Kind) -> bool {
    match kind {
        // Without QRESYNC, or beyond what the backend remembers, one compares all UIDs.
        Kind::MessageExpire | Kind::MessageExpunge => true,
        Kind::QuotaExceed | Kind::QuotaWithin | Kind::QuotaChange => true,
        Kind::MailboxCreate
        | Kind::MailboxDelete
        | Kind::MailboxRename
        | Kind::MailboxSubscribe
        | Kind::MailboxUnSubscribe => true,
        Kind::MessageAppend | Kind::MessageNew => false,
        Kind::MessageRead | Kind::MessageTrash | Kind::FlagsSet | Kind::FlagsClear => false,
        // About sessions, and no news for a device.
        Kind::Login | Kind::Logout => false,
    }
}

impl Ring {
    /// Takes an event in, if it is one that leaves no trace; whether it was.
    pub fn push(&mut self, event: &Event, at: Duration, most: &Missed) -> bool {
        if !leaves_no_trace(event.kind) {
            return false;
        }
        let name = |name: &Option<Box<[u8]>>| name.clone().map(Name);
        self.events.push_back(Entry {
            at,
            kind: event.kind,
            mailbox: name(&event.mailbox),
            old_mailbox: name(&event.old_mailbox),
            uidvalidity: event.uidvalidity,
            uids: event.uids.to_string().into(),
        });
        self.shrink(at, most);
        true
    }

    /// Drops what is too old, too many or too large.
    fn shrink(&mut self, now: Duration, most: &Missed) {
        let mut octets = self.octets();
        while let Some(oldest) = self.events.front() {
            let many = self.events.len() as u64 > u64::from(most.events);
            if !many && octets <= most.octets.0 && now.saturating_sub(oldest.at) <= most.age.0 {
                return;
            }
            octets -= oldest.octets();
            self.events.pop_front();
            self.overflow = true;
        }
    }

    /// Octets that are held.
    pub fn octets(&self) -> u64 {
        self.events.iter().map(Entry::octets).sum()
    }

    /// What a device has missed, and forgets it.
    pub fn take(&mut self, now: Duration, most: &Missed) -> Self {
        self.shrink(now, most);
        std::mem::take(self)
    }
}

impl Entry {
    /// Octets that it takes in the row, about.
    fn octets(&self) -> u64 {
        let name = |name: &Option<Name>| name.as_ref().map_or(0, Name::octets);
        64 + name(&self.mailbox) + name(&self.old_mailbox) + self.uids.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Size, Span};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn renamed() -> Event {
        Event { old_mailbox: Some((*b"Work").into()), ..Event::of_mailbox(Kind::MailboxRename, *b"Office") }
    }

    #[test]
    fn only_what_leaves_no_trace_is_kept() {
        let mut ring = Ring::default();
        assert!(ring.push(&renamed(), at(1), &Missed::default()));
        assert!(!ring.push(&Event::of_mailbox(Kind::MessageNew, *b"INBOX"), at(2), &Missed::default()));
        assert!(!ring.push(&Event::new(Kind::Login), at(2), &Missed::default()));
        let taken = ring.take(at(3), &Missed::default());
        assert_eq!((taken.events.len(), taken.overflow), (1, false));
        assert_eq!(ring, Ring::default(), "it is given once");
    }

    #[test]
    fn what_falls_out_is_told_by_overflow() {
        let table = [
            ("too many", Missed { events: 3, ..Missed::default() }, 1, 3),
            ("too old", Missed { age: Span::seconds(25), ..Missed::default() }, 10, 3),
            ("too large", Missed { octets: Size(3 * 74), ..Missed::default() }, 1, 3),
        ];
        for (name, most, apart, left) in table {
            let mut ring = Ring::default();
            for number in 0..3 {
                ring.push(&renamed(), at(number * apart), &most);
                assert!(!ring.overflow, "{name}");
            }
            ring.push(&renamed(), at(3 * apart), &most);
            assert_eq!((ring.events.len(), ring.overflow), (left, true), "{name}");
            assert_eq!(ring.events[0].at, at(apart), "{name}: the oldest went");
        }
    }

    #[test]
    fn age_counts_when_it_is_read_too() {
        let mut ring = Ring::default();
        ring.push(&renamed(), at(0), &Missed::default());
        let taken = ring.take(at(31 * 86_400), &Missed::default());
        assert_eq!((taken.events.len(), taken.overflow), (0, true));
    }
}
