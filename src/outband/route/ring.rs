//! Events that leave no trace in a mailbox, kept for a device until it is back.
//!
//!     [ MailboxRename Work -> Office ] [ QuotaExceed ] [ MessageExpunge INBOX 17,19 ]      overflow: no
//!       oldest                                                               newest
//!
//! What came or changed a client finds by UIDNEXT, UNSEEN and HIGHESTMODSEQ. That a mailbox was renamed, that a quota was used up, or
//! that messages went, it may never learn. A ring is bounded by number, age and octets (digest section 10: 1000 events, 30 days,
//! 256 KiB); whatever falls out of it sets `overflow`, and then a client synchronises everything. Requirements N4, N11.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stored::{Name, millis};
use crate::{
    imap::mailbox_name,
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

    /// What another route of the same device has, too.
    pub fn join(&mut self, other: Self) {
        let new = other.events.into_iter().filter(|event| !self.events.contains(event)).collect::<Vec<_>>();
        self.events.extend(new);
        self.events.make_contiguous().sort_by_key(|event| event.at);
        self.overflow |= other.overflow;
    }

    /// As JSON: an array, oldest first, behind what is there already of this kind; `{"overflow":true}` says that there was more.
    ///
    /// `[{"at":"2026-11-22T18:05:59Z","event":"MailboxRename","mailbox":"Office","oldMailbox":"Work"}]`
    pub fn write(&self, before: &[u8]) -> String {
        let mut all: Vec<serde_json::Value> = serde_json::from_slice(before).unwrap_or_default();
        all.extend(self.overflow.then(|| json!({ "overflow": true })));
        all.extend(self.events.iter().map(Entry::shown));
        let over = all.len().saturating_sub(MOST_SHOWN);
        if over > 0 {
            all.splice(..=over, [json!({ "overflow": true })]);
        }
        serde_json::Value::Array(all).to_string()
    }

    /// What a device has missed, and forgets it.
    pub fn take(&mut self, now: Duration, most: &Missed) -> Self {
        self.shrink(now, most);
        std::mem::take(self)
    }
}

/// Events that are shown at once: a client that was away for so much synchronises everything.
const MOST_SHOWN: usize = 1000;

impl Entry {
    fn shown(&self) -> serde_json::Value {
        let name = |name: &Name| mailbox_name::as_people_read(&name.0).into_owned();
        let at = i64::try_from(self.at.as_secs()).ok().and_then(|at| DateTime::from_timestamp(at, 0));
        let mut shown = json!({
            "at": at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            "event": self.kind,
        });
        for (key, value) in [("mailbox", &self.mailbox), ("oldMailbox", &self.old_mailbox)] {
            if let Some(value) = value {
                shown[key] = json!(name(value));
            }
        }
        if !self.uids.is_empty() {
            (shown["uidset"], shown["uidvalidity"]) = (json!(self.uids), json!(self.uidvalidity));
        }
        shown
    }

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
    fn what_was_missed_is_read_behind_what_was_missed_before() {
        let mut ring = Ring::default();
        ring.push(&renamed(), at(1_000_000_000), &Missed::default());
        let mut other = ring.clone();
        let gone = Event {
            uids: [17, 19].into_iter().collect(),
            uidvalidity: Some(7),
            ..Event::of_mailbox(Kind::MessageExpunge, *b"INBOX")
        };
        other.push(&gone, at(999_999_999), &Missed::default());
        ring.join(other);
        let first = ring.write(b"");
        let expected = concat!(
            r#"[{"at":"2001-09-09T01:46:39Z","event":"MessageExpunge","mailbox":"INBOX","uidset":"17,19","uidvalidity":7},"#,
            r#"{"at":"2001-09-09T01:46:40Z","event":"MailboxRename","mailbox":"Office","oldMailbox":"Work"}]"#
        );
        assert_eq!(first, expected);
        let more = Ring { overflow: true, ..Ring::default() }.write(first.as_bytes());
        assert_eq!(more, expected.replace("}]", r#"},{"overflow":true}]"#));
        let mut many = Ring::default();
        (0..MOST_SHOWN).for_each(|_| many.events.push_back(ring.events[0].clone()));
        let all: Vec<serde_json::Value> = serde_json::from_str(&many.write(more.as_bytes())).unwrap();
        assert_eq!((all.len(), &all[0]), (MOST_SHOWN, &json!({ "overflow": true })));
    }

    #[test]
    fn age_counts_when_it_is_read_too() {
        let mut ring = Ring::default();
        ring.push(&renamed(), at(0), &Missed::default());
        let taken = ring.take(at(31 * 86_400), &Missed::default());
        assert_eq!((taken.events.len(), taken.overflow), (0, true));
    }
}
