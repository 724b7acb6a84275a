//! What a device has not seen of which mailbox, and what of that it was told of.
//!
//!     INBOX   dirty  fresh   MessageNew, UID 18, 299 unseen     nobody has told the device: a notice is due
//!     Work    dirty  told 7                                     notice 7 covered it: due again only for want of a reaction
//!     Lists                  0 unseen                           synchronised; kept, so that 0 -> n is seen
//!
//! `dirty` means changed since the client last synchronised the mailbox, `fresh` changed since a notice covered it that the channel has
//! taken: what it refused has told nobody (digest section 10). The empty name stands for the
//! whole account, until the ring is read. Requirement N11.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::stored::{Name, maybe, millis};
use crate::mailbox::event::{Event, Kind};

/// Mailboxes of a route that are remembered: more than one looks after, and few enough for one row.
pub const MOST: usize = 500;

/// Octets of their names together, for the same reason.
pub const MOST_OCTETS: u64 = 64 << 10;

/// The mailboxes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// They, by name.
    pub mailboxes: BTreeMap<Name, Mailbox>,
    /// Events so far: they put mailboxes in order.
    events: u64,
}

/// How a mailbox stands with a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Under which UIDVALIDITY its UIDs are true, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uidvalidity: Option<u32>,
    /// The highest UID that is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_uid: Option<u32>,
    /// The highest mod-sequence that is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modseq: Option<u64>,
    /// Messages without \Seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<u32>,
    /// It has changed since the client synchronised it.
    pub dirty: bool,
    /// Since when there is something that nobody has told: fresh.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub fresh_since: Option<Duration>,
    /// Something in it should be looked at at once.
    pub urgent: bool,
    /// The kinds of what has happened since it was synchronised: a bit each, in the order of [`Kind`].
    pub kinds: u32,
    /// What happened last.
    pub last: Kind,
    /// When.
    #[serde(with = "millis")]
    pub at: Duration,
    /// Which of all events that was.
    order: u64,
    /// The notice that covered it last; 0: none.
    told: u64,
}

/// An event for a device.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// What has happened.
    pub event: &'a Event,
    /// How many messages of its mailbox are unseen now, if that is known.
    pub unseen: Option<u32>,
    /// Whether a device that is away is to be told (type C, and what filter.priv says); else it is remembered only.
    pub rings: bool,
    /// Whether somebody should look at once.
    pub urgent: bool,
}

/// How a mailbox stood when a client of the device was shown it: by SELECT, EXAMINE, STATUS or NOTIFY, or by what it was told inband and
/// has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// Its name.
    pub mailbox: &'a [u8],
    /// Its UIDVALIDITY.
    pub uidvalidity: Option<u32>,
    /// The UID that the next message will have.
    pub uidnext: Option<u32>,
    /// Its mod-sequence.
    pub modseq: Option<u64>,
    /// How many messages are unseen.
    pub unseen: Option<u32>,
}

/// What an event has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// There was nothing unseen in the mailbox, and now there is.
    pub flip: bool,
    /// A mailbox that was dirty had to go for it.
    pub dropped: bool,
}

impl Marks {
    /// Takes an event in.
    pub fn mark(&mut self, news: &News, now: Duration) -> Marked {
        let event = news.event;
        self.events += 1;
        let name = Name(event.mailbox.clone().unwrap_or_default());
        let mailbox = self.mailboxes.entry(name).or_insert_with(|| Mailbox::new(event.kind, now));
        if mailbox.uidvalidity.is_some() && event.uidvalidity.is_some() && mailbox.uidvalidity != event.uidvalidity {
            // UIDs and mod-sequences begin anew.
            (mailbox.last_uid, mailbox.modseq) = (None, None);
        }
        let last_uid = event.uids.last().max(event.uidnext.map(|next| next.saturating_sub(1)));
        let flip = mailbox.unseen == Some(0) && news.unseen.is_some_and(|unseen| unseen > 0);
        let kinds = if mailbox.dirty { mailbox.kinds } else { 0 };
        let fresh_since = mailbox.fresh_since.or(news.rings.then_some(now));
        *mailbox = Mailbox {
            uidvalidity: event.uidvalidity.or(mailbox.uidvalidity),
            last_uid: last_uid.max(mailbox.last_uid),
            modseq: event.modseq.max(mailbox.modseq),
            unseen: news.unseen.or(mailbox.unseen),
            dirty: true,
            fresh_since,
            urgent: (mailbox.urgent && mailbox.fresh_since.is_some()) || (news.urgent && news.rings),
            kinds: kinds | 1 << event.kind as u32,
            last: event.kind,
            at: now,
            order: self.events,
            told: mailbox.told,
        };
        Marked { flip: flip && news.rings, dropped: self.shrink() }
    }

    /// Forgets mailboxes that are too many: those that are synchronised first, then those that were told, then the oldest.
    fn shrink(&mut self) -> bool {
        let mut dropped = false;
        while self.mailboxes.len() > MOST || self.mailboxes.keys().map(Name::octets).sum::<u64>() > MOST_OCTETS {
            let key = |mailbox: &Mailbox| (mailbox.dirty, mailbox.fresh_since.is_some(), mailbox.order);
            let least = self.mailboxes.iter().min_by_key(|(_, mailbox)| key(mailbox)).map(|(name, _)| name.clone());
            dropped |= least.and_then(|name| self.mailboxes.remove(&name)).is_some_and(|mailbox| mailbox.dirty);
        }
        dropped
    }

    /// The client has been shown a mailbox; whether that was all there was to see.
    pub fn synced(&mut self, shown: &Shown) -> bool {
        let Some(mailbox) = self.mailboxes.get_mut(&Name(shown.mailbox.into())) else { return false };
        if !mailbox.dirty || !mailbox.is_shown(shown) {
            return false;
        }
        (mailbox.dirty, mailbox.fresh_since, mailbox.urgent) = (false, None, false);
        (mailbox.told, mailbox.unseen) = (0, shown.unseen.or(mailbox.unseen));
        true
    }

    /// A notice covers all that is fresh.
    pub fn tell(&mut self, seq: u64) {
        for mailbox in self.mailboxes.values_mut().filter(|mailbox| mailbox.fresh_since.is_some()) {
            (mailbox.fresh_since, mailbox.told) = (None, seq);
        }
    }

    /// That notice has not come to anybody: what it covered is fresh again, unless it was synchronised.
    pub fn untell(&mut self, seq: u64) {
        for mailbox in self.mailboxes.values_mut().filter(|mailbox| mailbox.dirty && mailbox.told == seq) {
            mailbox.fresh_since = mailbox.fresh_since.or(Some(mailbox.at));
            mailbox.told = 0;
        }
    }

    /// All that the device has not seen is fresh again.
    pub fn untell_all(&mut self) {
        for mailbox in self.mailboxes.values_mut().filter(|mailbox| mailbox.dirty) {
            mailbox.fresh_since = mailbox.fresh_since.or(Some(mailbox.at));
            mailbox.told = 0;
        }
    }

    /// Nothing of it is to be told.
    pub fn clear(&mut self) {
        for mailbox in self.mailboxes.values_mut() {
            (mailbox.dirty, mailbox.fresh_since, mailbox.urgent, mailbox.told) = (false, None, false, 0);
        }
    }

    /// Whether anything is fresh.
    pub fn any_fresh(&self) -> bool {
        self.oldest_fresh().is_some()
    }

    /// Whether anything fresh is urgent.
    pub fn any_urgent(&self) -> bool {
        self.mailboxes.values().any(|mailbox| mailbox.urgent && mailbox.fresh_since.is_some())
    }

    /// Whether anything is dirty.
    pub fn any_dirty(&self) -> bool {
        self.mailboxes.values().any(|mailbox| mailbox.dirty)
    }

    /// Since when something is fresh.
    pub fn oldest_fresh(&self) -> Option<Duration> {
        self.mailboxes.values().filter_map(|mailbox| mailbox.fresh_since).min()
    }

    /// What a notice is about: where something happened last, among what is fresh, else among what is dirty.
    pub fn latest(&self) -> Option<(&Name, &Mailbox)> {
        let dirty = self.mailboxes.iter().filter(|(_, mailbox)| mailbox.dirty);
        dirty.max_by_key(|(_, mailbox)| (mailbox.fresh_since.is_some(), mailbox.order))
    }
}

impl Mailbox {
    /// A mailbox of which nothing is known.
    fn new(last: Kind, at: Duration) -> Self {
        Self {
            uidvalidity: None,
            last_uid: None,
            modseq: None,
            unseen: None,
            dirty: false,
            fresh_since: None,
            urgent: false,
            kinds: 0,
            last,
            at,
            order: 0,
            told: 0,
        }
    }

    /// Whether a client that was shown this has seen all. What one side does not know is not compared.
    fn is_shown(&self, shown: &Shown) -> bool {
        let reaches = |shown: Option<u64>, known: Option<u64>| shown.zip(known).is_none_or(|(is, was)| is >= was);
        match self.uidvalidity.zip(shown.uidvalidity) {
            // RFC 3501 2.3.1.1: a mailbox that is made anew has a higher one. Of the old one there is nothing to see any more.
            Some((known, is)) if known != is => is > known,
            _ => {
                let next = self.last_uid.map(|uid| u64::from(uid) + 1);
                reaches(shown.uidnext.map(u64::from), next) && reaches(shown.modseq, self.modseq)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INBOX: &[u8] = b"INBOX";

    fn new(mailbox: &[u8], uid: u32) -> Event {
        let uids = [uid].into_iter().collect();
        Event { uids, uidvalidity: Some(7), ..Event::of_mailbox(Kind::MessageNew, mailbox) }
    }

    fn news(event: &Event) -> News<'_> {
        News { event, unseen: None, rings: true, urgent: false }
    }

    fn marked(events: &[Event]) -> Marks {
        let mut marks = Marks::default();
        for (second, event) in (1..).zip(events) {
            marks.mark(&news(event), Duration::from_secs(second));
        }
        marks
    }

    #[test]
    fn a_mailbox_is_synchronised_when_all_was_shown() {
        let changed = Event { modseq: Some(90), ..Event::of_mailbox(Kind::FlagsSet, INBOX) };
        let shown = Shown { mailbox: INBOX, uidvalidity: Some(7), ..Shown::default() };
        for (name, shown, synced) in [
            ("its next UID", Shown { uidnext: Some(19), ..shown }, true),
            ("an older UID", Shown { uidnext: Some(18), ..shown }, false),
            ("an older mod-sequence", Shown { uidnext: Some(19), modseq: Some(89), ..shown }, false),
            ("its mod-sequence", Shown { uidnext: Some(19), modseq: Some(90), ..shown }, true),
            ("made anew", Shown { uidvalidity: Some(8), uidnext: Some(1), ..shown }, true),
            ("as it was before it was made anew", Shown { uidvalidity: Some(6), uidnext: Some(99), ..shown }, false),
            ("another mailbox", Shown { mailbox: b"Work", uidnext: Some(19), ..shown }, false),
        ] {
            let mut marks = marked(&[new(INBOX, 18), changed.clone()]);
            assert_eq!(marks.synced(&shown), synced, "{name}");
            assert_eq!((marks.any_dirty(), marks.any_fresh()), (!synced, !synced), "{name}");
        }
    }

    #[test]
    fn a_notice_is_about_what_happened_last_and_covers_all() {
        let mut marks = marked(&[new(INBOX, 18), new(b"Work", 3), new(INBOX, 19), new(b"Lists", 5)]);
        let about = |marks: &Marks| marks.latest().map(|(name, mailbox)| (name.0.to_vec(), mailbox.last_uid));
        assert_eq!(about(&marks), Some((b"Lists".to_vec(), Some(5))));
        marks.tell(1);
        assert!(!marks.any_fresh() && marks.any_dirty());
        marks.mark(&news(&new(b"Work", 4)), Duration::from_secs(9));
        assert_eq!(about(&marks), Some((b"Work".to_vec(), Some(4))));
        assert_eq!(marks.oldest_fresh(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn what_a_refused_notice_covered_is_fresh_again() {
        let mut marks = marked(&[new(INBOX, 18), new(b"Work", 3)]);
        marks.tell(1);
        marks.synced(&Shown { mailbox: b"Work", uidnext: Some(4), ..Shown::default() });
        marks.untell(2);
        assert!(!marks.any_fresh(), "that was another notice");
        marks.untell(1);
        assert_eq!(marks.oldest_fresh(), Some(Duration::from_secs(1)), "INBOX alone");
    }

    #[test]
    fn it_is_seen_when_nothing_unseen_becomes_something() {
        let mut marks = Marks::default();
        let event = new(INBOX, 18);
        let mut flips = |unseen, rings| marks.mark(&News { unseen, rings, ..news(&event) }, Duration::ZERO).flip;
        assert!(!flips(Some(1), true), "nobody knows what was before");
        assert!(!flips(Some(0), true) && flips(Some(1), true) && !flips(Some(2), true));
        assert!(!flips(Some(0), true) && !flips(Some(1), false), "what does not ring is no reason");
    }

    #[test]
    fn mailboxes_are_bounded_and_what_goes_is_told() {
        let names: Vec<Vec<u8>> = (0..=MOST).map(|number| number.to_string().into_bytes()).collect();
        let events: Vec<Event> = names.iter().map(|name| new(name, 1)).collect();
        let mut marks = marked(&events[..MOST]);
        marks.synced(&Shown { mailbox: &names[5], ..Shown::default() });
        assert_eq!(marks.mark(&news(&events[MOST]), Duration::ZERO), Marked::default());
        assert!(!marks.mailboxes.contains_key(&Name(names[5].clone().into())), "what is synchronised goes first");
        assert!(marks.mark(&news(&new(b"Work", 1)), Duration::ZERO).dropped);
        assert!(!marks.mailboxes.contains_key(&Name(names[0].clone().into())) && marks.mailboxes.len() == MOST);
        let long = vec![b'x'; MOST_OCTETS as usize - 100];
        assert!(marks.mark(&news(&new(&long, 1)), Duration::ZERO).dropped);
        assert!(marks.mailboxes.keys().map(Name::octets).sum::<u64>() <= MOST_OCTETS);
    }
}
