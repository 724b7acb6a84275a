//! The selected mailboxes of all sessions, each once, while somebody follows: what several sessions see is told once.
//!
//!     session 1   * 3 FETCH (UID 15 FLAGS (\Seen))      ->  MessageRead 15
//!     session 2   * 3 FETCH (UID 15 FLAGS (\Seen))      ->  known already
//!
//! A mailbox is remembered as long as a session that has seen it has not gone on to another. Where all who followed have gone,
//! what was seen for them is no measure for what is new. Requirements E1 and E3.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dashmap::DashMap;

use super::events::Following;
use crate::{
    mailbox::{
        diff::{self, Messages},
        event::{Event, Kind},
        shadow::{Change, Shadow, Sight},
    },
    store::AccountName,
};

type Key = (Arc<AccountName>, Box<[u8]>);

/// All of them.
#[derive(Debug, Default)]
pub struct Shadows {
    known: DashMap<Key, Weak<Mutex<Known>>>,
}

/// One mailbox, as it was last seen.
#[derive(Debug, Default)]
struct Known {
    shadow: Option<Shadow>,
    /// For whom.
    following: Following,
}

/// A session's hold on the mailbox that it sees.
#[derive(Debug)]
pub struct Shared {
    key: Key,
    known: Arc<Mutex<Known>>,
    home: Arc<Shadows>,
}

impl Shadows {
    /// A hold on this mailbox.
    pub fn hold(self: &Arc<Self>, account: &Arc<AccountName>, mailbox: &[u8]) -> Shared {
        let key: Key = (Arc::clone(account), mailbox.into());
        let mut entry = self.known.entry(key.clone()).or_default();
        let known = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&known);
        Shared { key, known, home: Arc::clone(self) }
    }

    /// A client has stored messages: what is told of that is all that is to be told of them.
    pub fn stored(&self, account: &Arc<AccountName>, event: &Event) {
        let (Some(mailbox), Kind::MessageAppend) = (&event.mailbox, event.kind) else { return };
        let known = self.known.get(&(Arc::clone(account), mailbox.clone())).and_then(|entry| entry.upgrade());
        let Some(known) = known else { return };
        let mut known = lock(&known);
        let same = |shadow: &&mut Shadow| Some(shadow.uidvalidity()) == event.uidvalidity;
        if let Some(shadow) = known.shadow.as_mut().filter(same) {
            event.uids.iter().for_each(|uid| shadow.change(&Change::Seen { uid, flags: event.flags.clone() }));
        }
    }
}

impl Shared {
    /// Whether it is a hold on this mailbox.
    pub fn is_of(&self, mailbox: &[u8]) -> bool {
        *self.key.1 == *mailbox
    }

    /// This was seen. The answer is what of it is news.
    pub fn see(&self, sight: Sight, told: Messages, following: &Following) -> Vec<Event> {
        let mut known = lock(&self.known);
        if !following.goes_on(&known.following) {
            known.shadow = None;
        }
        known.following.clone_from(following);
        match (sight, known.shadow.as_mut()) {
            (Sight::Whole(after), before) => {
                let events = before.map(|before| diff::diff(&self.key.1, before, &after, told)).unwrap_or_default();
                known.shadow = Some(after);
                events
            }
            (Sight::Changes(changes), Some(shadow)) => diff::change(&self.key.1, shadow, &changes, told),
            // Seen by halves: what there was before is not known here any more.
            (Sight::Changes(_), None) => Vec::new(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.home.known.remove_if(&self.key, |_, known| known.strong_count() <= 1);
    }
}

/// What this guards is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<AccountName> {
        Arc::new(AccountName { backend: "main".into(), user: "joe".into() })
    }

    fn whole(uids: &[u32]) -> Sight {
        let mut shadow = Shadow::new(7);
        uids.iter().for_each(|uid| shadow.see(*uid, []));
        Sight::Whole(shadow)
    }

    fn read(uid: u32) -> Sight {
        Sight::Changes(vec![Change::Seen { uid, flags: vec!["\\Seen".into()] }])
    }

    fn kinds(events: &[Event]) -> Vec<(Kind, String)> {
        events.iter().map(|event| (event.kind, event.uids.to_string())).collect()
    }

    fn following(numbers: &[u64]) -> Following {
        numbers.iter().copied().collect()
    }

    fn see(shared: &Shared, sight: Sight) -> Vec<Event> {
        shared.see(sight, Messages::Simple, &following(&[1]))
    }

    #[test]
    fn what_several_sessions_see_is_told_once() {
        let shadows = Arc::new(Shadows::default());
        let [one, two] = [(); 2].map(|()| shadows.hold(&account(), b"INBOX"));
        assert_eq!(see(&one, whole(&[11, 12])), []);
        assert_eq!(kinds(&see(&two, whole(&[11, 12, 13]))), [(Kind::MessageNew, "13".to_owned())]);
        assert_eq!(kinds(&see(&one, read(12))), [(Kind::MessageRead, "12".to_owned())]);
        assert_eq!(see(&two, read(12)), []);
        assert_eq!(see(&two, whole(&[1])).len(), 2, "new and gone");
    }

    #[test]
    fn who_follows_now_hears_of_what_happens_now() {
        let shadows = Arc::new(Shadows::default());
        let held = shadows.hold(&account(), b"INBOX");
        held.see(whole(&[11, 12]), Messages::Simple, &following(&[1]));
        let told = held.see(read(12), Messages::Simple, &following(&[1, 2]));
        assert_eq!(told.len(), 1, "one of them was there before");
        assert_eq!(
            held.see(whole(&[11, 12, 13]), Messages::Simple, &following(&[2])).len(),
            2,
            "one is new, one unread"
        );
        assert_eq!(held.see(read(1), Messages::Simple, &following(&[3])), [], "nobody is left");
        assert_eq!(held.see(whole(&[1, 2]), Messages::Simple, &following(&[3])), []);
    }

    #[test]
    fn a_message_that_a_client_has_stored_is_not_new() {
        let shadows = Arc::new(Shadows::default());
        let held = shadows.hold(&account(), b"INBOX");
        assert_eq!(see(&held, whole(&[11])), []);
        let stored = |uidvalidity| Event {
            uidvalidity: Some(uidvalidity),
            uids: [12].into_iter().collect(),
            ..Event::of_mailbox(Kind::MessageAppend, *b"INBOX")
        };
        shadows.stored(&account(), &stored(7));
        assert_eq!(see(&held, whole(&[11, 12])), []);
        shadows.stored(&account(), &stored(8));
    }

    #[test]
    fn nothing_stays_behind() {
        let shadows = Arc::new(Shadows::default());
        let [one, two] = [(); 2].map(|()| shadows.hold(&account(), b"INBOX"));
        drop(one);
        assert_eq!(shadows.known.len(), 1);
        assert!(two.is_of(b"INBOX"));
        drop(two);
        assert_eq!(shadows.known.len(), 0);
    }
}
