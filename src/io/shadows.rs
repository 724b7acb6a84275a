//! What the sessions of an account see, each thing once, while somebody follows: what several sessions see is told once.
//!
//!     session 1   * 3 FETCH (UID 15 FLAGS (\Seen))      ->  MessageRead 15
//!     session 2   * 3 FETCH (UID 15 FLAGS (\Seen))      ->  known already
//!
//! A mailbox is remembered as long as a session that has seen it has not gone on to another, an account as long as one of those
//! that have looked at its names, mailboxes or quotas is there. Where all who followed have gone, what was seen for them is no
//! measure for what is new. Requirements E1, E2, E3 and E5.

use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use dashmap::DashMap;

use super::events::Following;
use crate::{
    mailbox::{
        diff::{self, Messages},
        event::{Event, Kind},
        overview::{Finding, Found, Overview},
        shadow::{Change, Shadow, Sight},
    },
    store::AccountName,
};

type Key = (Arc<AccountName>, Box<[u8]>);

/// All of it.
#[derive(Debug, Default)]
pub struct Shadows {
    mailboxes: Arc<Shelf<Key, Shadow>>,
    accounts: Arc<Shelf<Arc<AccountName>, Overview>>,
}

/// Things that are known by their names, as long as somebody holds them.
#[derive(Debug)]
struct Shelf<K: Eq + Hash, T>(DashMap<K, Weak<Mutex<Known<T>>>>);

/// One thing, as it was last seen.
#[derive(Debug)]
struct Known<T> {
    seen: Option<T>,
    /// For whom.
    following: Following,
}

/// A session's hold on a thing.
#[derive(Debug)]
struct Hold<K: Eq + Hash, T> {
    key: K,
    known: Arc<Mutex<Known<T>>>,
    home: Arc<Shelf<K, T>>,
}

/// A session's hold on the mailbox that it sees.
#[derive(Debug)]
pub struct Shared(Hold<Key, Shadow>);

/// A session's hold on the account that it looks at.
#[derive(Debug)]
pub struct Surveyed(Hold<Arc<AccountName>, Overview>);

impl Shadows {
    /// A hold on this mailbox.
    pub fn hold(&self, account: &Arc<AccountName>, mailbox: &[u8]) -> Shared {
        Shared(self.mailboxes.hold((Arc::clone(account), mailbox.into())))
    }

    /// A hold on this account.
    pub fn survey(&self, account: &Arc<AccountName>) -> Surveyed {
        Surveyed(self.accounts.hold(Arc::clone(account)))
    }

    /// A client has done this: what is told of it is all that is to be told of it. How the mailbox stands then is said where it
    /// is known.
    pub fn did(&self, account: &Arc<AccountName>, event: &mut Event, now: Instant) {
        if let Some(known) = self.accounts.get(account) {
            lock(&known).seen.iter_mut().for_each(|overview| overview.did(event, now));
        }
        let (Some(mailbox), Kind::MessageAppend) = (&event.mailbox, event.kind) else { return };
        let Some(known) = self.mailboxes.get(&(Arc::clone(account), mailbox.clone())) else { return };
        let mut known = lock(&known);
        let same = |shadow: &&mut Shadow| Some(shadow.uidvalidity()) == event.uidvalidity;
        if let Some(shadow) = known.seen.as_mut().filter(same) {
            event.uids.iter().for_each(|uid| shadow.change(&Change::Seen { uid, flags: event.flags.clone() }));
            (event.messages, event.uidnext) = (Some(shadow.messages().len()), shadow.uidnext());
        }
    }

    /// Whether a session sees this mailbox, or asks for its status again and again: what comes is told by that.
    pub fn is_seen(&self, account: &Arc<AccountName>, mailbox: &[u8]) -> bool {
        let selected = self.mailboxes.get(&(Arc::clone(account), mailbox.into()));
        let surveyed = self.accounts.get(account);
        selected.is_some_and(|known| lock(&known).seen.is_some())
            || surveyed.is_some_and(|known| lock(&known).seen.iter().any(|overview| overview.watches(mailbox)))
    }

    /// This was found out about an account. The answer is what of it is news.
    ///
    /// A mailbox that a session has selected is seen message by message: what its STATUS says is told by that.
    pub fn found(&self, held: &Surveyed, finding: Finding, following: &Following) -> Vec<Event> {
        let Surveyed(hold) = held;
        let mut known = lock(&hold.known);
        let overview = known.of(following).get_or_insert_default();
        if let Found::Status { mailbox, .. } = &finding.found {
            let selected = self.mailboxes.get(&(Arc::clone(&hold.key), mailbox.clone()));
            if selected.is_some_and(|known| lock(&known).seen.is_some()) {
                overview.forget(mailbox);
                return Vec::new();
            }
        }
        overview.found(finding)
    }
}

impl Shared {
    /// Whether it is a hold on this mailbox.
    pub fn is_of(&self, mailbox: &[u8]) -> bool {
        *self.0.key.1 == *mailbox
    }

    /// This was seen. The answer is what of it is news.
    pub fn see(&self, sight: Sight, told: Messages, following: &Following) -> Vec<Event> {
        let Self(hold) = self;
        let mut known = lock(&hold.known);
        let seen = known.of(following);
        match (sight, seen.as_mut()) {
            (Sight::Whole(after), before) => {
                let events = before.map(|before| diff::diff(&hold.key.1, before, &after, told)).unwrap_or_default();
                *seen = Some(after);
                events
            }
            (Sight::Changes(changes), Some(shadow)) => diff::change(&hold.key.1, shadow, &changes, told),
            // Seen by halves: what there was before is not known here any more.
            (Sight::Changes(_), None) => Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T> Shelf<K, T> {
    fn hold(self: &Arc<Self>, key: K) -> Hold<K, T> {
        let mut entry = self.0.entry(key.clone()).or_default();
        let known = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&known);
        Hold { key, known, home: Arc::clone(self) }
    }

    fn get(&self, key: &K) -> Option<Arc<Mutex<Known<T>>>> {
        self.0.get(key)?.upgrade()
    }
}

impl<K: Eq + Hash, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<T> Known<T> {
    /// What is known for those who follow now.
    fn of(&mut self, following: &Following) -> &mut Option<T> {
        if !following.goes_on(&self.following) {
            self.seen = None;
        }
        self.following.clone_from(following);
        &mut self.seen
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { seen: None, following: Following::default() }
    }
}

impl<K: Eq + Hash, T> Drop for Hold<K, T> {
    fn drop(&mut self) {
        self.home.0.remove_if(&self.key, |_, known| known.strong_count() <= 1);
    }
}

/// What this guards is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::status::Status;

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
        let shadows = Shadows::default();
        let [one, two] = [(); 2].map(|()| shadows.hold(&account(), b"INBOX"));
        assert_eq!(see(&one, whole(&[11, 12])), []);
        assert_eq!(kinds(&see(&two, whole(&[11, 12, 13]))), [(Kind::MessageNew, "13".to_owned())]);
        assert_eq!(kinds(&see(&one, read(12))), [(Kind::MessageRead, "12".to_owned())]);
        assert_eq!(see(&two, read(12)), []);
        assert_eq!(see(&two, whole(&[1])).len(), 2, "new and gone");
    }

    #[test]
    fn who_follows_now_hears_of_what_happens_now() {
        let shadows = Shadows::default();
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
        let shadows = Shadows::default();
        let held = shadows.hold(&account(), b"INBOX");
        assert_eq!(see(&held, whole(&[11])), []);
        let stored = |uidvalidity| Event {
            uidvalidity: Some(uidvalidity),
            uids: [12].into_iter().collect(),
            ..Event::of_mailbox(Kind::MessageAppend, *b"INBOX")
        };
        let (mut known, mut unknown) = (stored(7), stored(8));
        shadows.did(&account(), &mut known, Instant::now());
        shadows.did(&account(), &mut unknown, Instant::now());
        assert_eq!((known.messages, unknown.messages), (Some(2), None));
        assert_eq!(see(&held, whole(&[11, 12])), []);
    }

    #[test]
    fn a_mailbox_that_is_selected_is_not_told_twice() {
        let shadows = Shadows::default();
        let surveyed = shadows.survey(&account());
        let find = |messages: u32| {
            let items = format!("* STATUS INBOX (MESSAGES {messages} UIDNEXT {} UIDVALIDITY 7)", 11 + messages);
            let (mailbox, status) = Status::parse(items.as_bytes()).unwrap();
            let finding = Finding { asked: Instant::now(), own: false, found: Found::Status { mailbox, status } };
            shadows.found(&surveyed, finding, &following(&[1])).len()
        };
        let is_seen = || shadows.is_seen(&account(), b"INBOX");
        assert!(!is_seen());
        assert_eq!([find(1), find(2)], [0, 1]);
        assert!(is_seen(), "by its status");
        let held = shadows.hold(&account(), b"INBOX");
        see(&held, whole(&[11, 12]));
        assert_eq!([find(3), find(4)], [0, 0], "message by message");
        assert!(is_seen());
        drop(held);
        assert!(!is_seen());
        assert_eq!([find(4), find(5)], [0, 1]);
    }

    #[test]
    fn nothing_stays_behind() {
        let shadows = Shadows::default();
        let [one, two] = [(); 2].map(|()| shadows.hold(&account(), b"INBOX"));
        let surveyed = shadows.survey(&account());
        drop(one);
        assert_eq!((shadows.mailboxes.0.len(), shadows.accounts.0.len()), (1, 1));
        assert!(two.is_of(b"INBOX"));
        drop((two, surveyed));
        assert_eq!((shadows.mailboxes.0.len(), shadows.accounts.0.len()), (0, 0));
    }
}
