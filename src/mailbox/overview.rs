//! An account as its sessions come to see it while somebody follows: its names, mailboxes that nobody has selected, quotas.
//!
//!     found   LIST: INBOX Work             what there is
//!     found   LIST: INBOX Work Work/New    MailboxCreate Work/New
//!     found   STATUS Work (MESSAGES 5 UIDNEXT 9)
//!     did     MessageAppend Work, 9        told already, by the client that did it
//!     found   STATUS Work (MESSAGES 7 UIDNEXT 11)    MessageNew Work, 10
//!     found   QUOTA "" (STORAGE 512 512)   QuotaExceed
//!
//! Several sessions look at the same things: what one has found is no news when another finds it. What a client has done itself
//! is told by its session, and an answer to a question that is older than that says nothing. RFC 5423 sections 4.1 and 4.4.
//! Requirements E1, E2 and E5.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    event::{Event, Kind, Quota},
    status::Status,
    tree::{Change, Renaming, Tree, moved},
};
use crate::imap::uid_set::UidSet;

/// What a session has found out about its account.
#[derive(Clone, Debug)]
pub struct Finding {
    /// When it asked.
    pub asked: Instant,
    /// The session's client has done it itself.
    pub own: bool,
    /// What.
    pub found: Found,
}

/// Something that is true of an account.
#[derive(Clone, Debug)]
pub enum Found {
    /// These are its names.
    Names {
        /// All of them.
        tree: Tree,
        /// What is subscribed to is among it.
        subscriptions: bool,
        /// These were called otherwise when they were asked for last.
        renamed: Vec<Renaming>,
    },
    /// So a mailbox stands that the session has not selected.
    Status {
        /// Its key.
        mailbox: Box<[u8]>,
        /// How.
        status: Status,
    },
    /// A client has done this. It is told later, when more is known of it.
    Done(Event),
    /// So much is used.
    Quotas {
        /// Of these.
        quotas: Vec<Quota>,
        /// What was refused because of one of them.
        refused: Option<Event>,
    },
}

/// What is known of an account.
#[derive(Debug, Default)]
pub struct Overview {
    tree: Option<Tree>,
    /// What is subscribed to is among it.
    subscriptions: bool,
    /// By key.
    statuses: BTreeMap<Box<[u8]>, Status>,
    quotas: Vec<Quota>,
    /// When a client has changed names last.
    renamed: Option<Instant>,
    /// When a client has stored messages last.
    stored: Option<Instant>,
}

impl Overview {
    /// Mailboxes that are remembered: all that ten clients of NOTIFY watch by default.
    const MOST_MAILBOXES: usize = 1000;
    /// Quotas that are compared. An account has one or two; an administrator may look at those of others.
    pub const MOST_QUOTAS: usize = 16;
    /// Messages that came at once and are named.
    const MOST_NAMED: u32 = 1000;

    /// This was found. The answer is what of it is news.
    pub fn found(&mut self, finding: Finding) -> Vec<Event> {
        let behind = |done: Option<Instant>| done.is_some_and(|done| finding.asked <= done);
        match finding.found {
            Found::Names { .. } if behind(self.renamed) => Vec::new(),
            Found::Names { tree, subscriptions, renamed } => self.compare_names(tree, subscriptions, &renamed),
            Found::Status { .. } if behind(self.stored) => Vec::new(),
            Found::Status { mailbox, status } => self.compare_status(mailbox, status),
            Found::Done(mut event) => {
                self.did(&mut event, finding.asked);
                Vec::new()
            }
            Found::Quotas { quotas, refused } => self.compare_quotas(quotas, refused),
        }
    }

    /// A client has done this, and it is told. It is said how the mailbox stands then, where that is known.
    pub fn did(&mut self, event: &mut Event, now: Instant) {
        let Some(key) = &event.mailbox else { return };
        if event.kind == Kind::MessageAppend {
            self.stored = Some(now);
            match self.statuses.get_mut(key).map(|status| (status.stored(event), status)) {
                Some((true, status)) => (event.messages, event.uidnext) = (status.messages, status.uidnext),
                Some((false, _)) => self.forget(&key.clone()),
                None => {}
            }
            return;
        }
        if matches!(event.kind, Kind::MailboxCreate | Kind::MailboxDelete | Kind::MailboxRename) {
            // A name may mean another mailbox now, and so may those below it.
            let names = [Some(key), event.old_mailbox.as_ref()].into_iter().flatten();
            names.for_each(|name| self.statuses.retain(|other, _| !other.starts_with(name)));
        }
        if let Some((change, tree)) = self.tree.as_mut().and_then(|tree| Some((Change::by(event, tree)?, tree))) {
            tree.apply(&change);
            self.renamed = Some(now);
        }
    }

    /// Whether what comes into this mailbox is found out by its status.
    pub fn watches(&self, mailbox: &[u8]) -> bool {
        self.statuses.contains_key(mailbox)
    }

    /// Somebody else tells what happens in this mailbox.
    pub fn forget(&mut self, mailbox: &[u8]) {
        self.statuses.remove(mailbox);
    }

    fn compare_names(&mut self, mut tree: Tree, subscriptions: bool, renamed: &[Renaming]) -> Vec<Event> {
        let Some(before) = self.tree.take() else {
            (self.tree, self.subscriptions) = (Some(tree), subscriptions);
            return Vec::new();
        };
        if !subscriptions {
            tree.subscribed.clone_from(&before.subscribed);
        }
        let mut events = told_names(&before, &tree, renamed);
        if subscriptions && self.subscriptions {
            events.extend(told_subscriptions(&before, &tree));
        }
        self.statuses.retain(|key, _| tree.names.contains_key(key));
        self.subscriptions |= subscriptions;
        self.tree = Some(tree);
        events
    }

    fn compare_status(&mut self, mailbox: Box<[u8]>, now: Status) -> Vec<Event> {
        let before = self.statuses.get(&mailbox).cloned();
        if before.is_some() || self.statuses.len() < Self::MOST_MAILBOXES {
            self.statuses.insert(mailbox.clone(), now.clone());
        }
        match before.filter(|before| before.uidvalidity == now.uidvalidity && now.uidvalidity.is_some()) {
            Some(before) => told_status(&mailbox, &before, &now),
            None => Vec::new(),
        }
    }

    fn compare_quotas(&mut self, quotas: Vec<Quota>, refused: Option<Event>) -> Vec<Event> {
        let used = |one: &&Quota, other: &&Quota| {
            let of = |a: &Quota, b: &Quota| u128::from(a.used) * u128::from(b.limit);
            of(one, other).cmp(&of(other, one))
        };
        let tightest = quotas.iter().max_by(used).cloned().filter(|_| refused.is_some());
        let mut events: Vec<Event> =
            refused.map(|event| Event { quota: tightest.clone(), ..event }).into_iter().collect();
        for quota in quotas {
            let told = tightest.as_ref() == Some(&quota);
            let kinds = self.compare_quota(&quota).into_iter().filter(|kind| !told || *kind != Kind::QuotaExceed);
            events.extend(kinds.map(|kind| Event { quota: Some(quota.clone()), ..Event::new(kind) }));
        }
        events
    }

    /// What is new about a quota. One that is seen for the first time is told if it is used up.
    fn compare_quota(&mut self, quota: &Quota) -> Vec<Kind> {
        let full = |quota: &Quota| quota.used >= quota.limit;
        let same = |known: &Quota| known.root == quota.root && known.resource == quota.resource;
        let at = self.quotas.iter().position(same);
        let before = at.map(|at| self.quotas.swap_remove(at));
        if self.quotas.len() < Self::MOST_QUOTAS {
            self.quotas.push(quota.clone());
        }
        let changed = before.as_ref().is_some_and(|before| before.limit != quota.limit);
        let moved = match (before.as_ref().is_some_and(full), full(quota)) {
            (false, true) => Some(Kind::QuotaExceed),
            (true, false) => Some(Kind::QuotaWithin),
            _ => None,
        };
        changed.then_some(Kind::QuotaChange).into_iter().chain(moved).collect()
    }
}

/// What has become of mailboxes. What cannot be selected is none: it is what stands above some, or was deleted above them.
fn told_names(before: &Tree, now: &Tree, renamed: &[Renaming]) -> Vec<Event> {
    let mailboxes = |tree: &Tree| {
        let names = tree.names.iter().filter(|(_, listed)| listed.is_selectable());
        names.map(|(key, _)| key.clone()).collect::<BTreeSet<_>>()
    };
    let (were, are, delimiter) = (mailboxes(before), mailboxes(now), now.delimiter());
    let (mut gone, mut new): (BTreeSet<_>, BTreeSet<_>) = (&were - &are, &are - &were);
    let mut events = Vec::new();
    for Renaming { from, to } in renamed {
        if !gone.contains(from) || !new.contains(to) {
            continue;
        }
        events.push(Event { old_mailbox: Some(from.clone()), ..Event::of_mailbox(Kind::MailboxRename, to.clone()) });
        // Those below are implied.
        gone.retain(|key| moved(key, from, to, delimiter).is_none());
        new.retain(|key| moved(key, to, from, delimiter).is_none());
    }
    // So are those above.
    let implied = |key: &[u8]| delimiter.is_some_and(|delimiter| has_below(&new, key, delimiter));
    let deleted = gone.into_iter().map(|key| Event::of_mailbox(Kind::MailboxDelete, key));
    let created = new.iter().filter(|key| !implied(key));
    let created = created.map(|key| Event::of_mailbox(Kind::MailboxCreate, key.clone()));
    events.into_iter().chain(deleted).chain(created).collect()
}

fn has_below(names: &BTreeSet<Box<[u8]>>, key: &[u8], delimiter: u8) -> bool {
    let above = [key, &[delimiter]].concat().into_boxed_slice();
    names.range(above.clone()..).next().is_some_and(|name| name.starts_with(&above))
}

fn told_subscriptions(before: &Tree, now: &Tree) -> Vec<Event> {
    let told = |kind, key: &[u8]| Event::of_mailbox(kind, key);
    let new = now.subscribed.difference(&before.subscribed).map(|key| told(Kind::MailboxSubscribe, key));
    let gone = before.subscribed.difference(&now.subscribed).map(|key| told(Kind::MailboxUnSubscribe, key));
    new.chain(gone).collect()
}

/// What has become of messages. Which they are is known where as many UIDs were given as there are more messages: then none
/// has gone, and each of these UIDs is one.
fn told_status(mailbox: &[u8], before: &Status, now: &Status) -> Vec<Event> {
    let (Some(were), Some(are)) = (before.messages, now.messages) else { return Vec::new() };
    let given = before.uidnext.zip(now.uidnext).map(|(from, to)| (from, to.saturating_sub(from)));
    let more = are.saturating_sub(were);
    let event = |kind, uids| Event {
        uidvalidity: now.uidvalidity,
        messages: now.messages,
        uidnext: now.uidnext,
        uids,
        ..Event::of_mailbox(kind, mailbox)
    };
    let named = given.filter(|(_, given)| *given == more && (1..=Overview::MOST_NAMED).contains(given));
    let uids = named.map(|(from, given)| UidSet::of_runs(&[(from, from + given - 1)])).unwrap_or_default();
    let came = given.map_or(more, |(_, given)| given) > 0;
    let new = came.then(|| event(Kind::MessageNew, uids));
    let gone = (are < were).then(|| event(Kind::MessageExpunge, UidSet::default()));
    gone.into_iter().chain(new).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mailbox::{event::Resource, tree::tests::tree};

    /// Looks at an account, one second after the other.
    struct Looks {
        overview: Overview,
        now: Instant,
    }

    impl Looks {
        fn new() -> Self {
            Self { overview: Overview::default(), now: Instant::now() }
        }

        fn find(&mut self, found: Found) -> Vec<String> {
            self.now += Duration::from_secs(1);
            told(self.overview.found(Finding { asked: self.now, own: false, found }))
        }

        fn names(&mut self, names: &[&str]) -> Vec<String> {
            self.renamed(names, &[])
        }

        fn renamed(&mut self, names: &[&str], renamed: &[(&str, &str)]) -> Vec<String> {
            let key = |name: &str| name.as_bytes().into();
            let renamed = renamed.iter().map(|(from, to)| Renaming { from: key(from), to: key(to) }).collect();
            self.find(Found::Names { tree: tree(names, &[]), subscriptions: false, renamed })
        }

        fn status(&mut self, items: &str) -> Vec<String> {
            let (mailbox, status) = Status::parse(format!("* STATUS A ({items} UIDVALIDITY 7)").as_bytes()).unwrap();
            self.find(Found::Status { mailbox, status })
        }

        fn quotas(&mut self, quotas: &[(u64, u64)], refused: bool) -> Vec<String> {
            let quota = |(used, limit): &(u64, u64)| {
                let root = (*limit % 10).to_string().into_bytes().into();
                Quota { root, resource: Resource::Storage, used: *used, limit: *limit }
            };
            let refused = refused.then(|| Event::of_mailbox(Kind::QuotaExceed, *b"A"));
            self.find(Found::Quotas { quotas: quotas.iter().map(quota).collect(), refused })
        }

        fn did(&mut self, mut event: Event) -> Event {
            self.now += Duration::from_secs(1);
            self.overview.did(&mut event, self.now);
            event
        }
    }

    fn told(events: Vec<Event>) -> Vec<String> {
        let name = |name: &Option<Box<[u8]>>| {
            name.as_ref().map_or(String::new(), |name| format!(" {}", String::from_utf8_lossy(name)))
        };
        let quota = |event: &Event| event.quota.as_ref().map_or(String::new(), |quota| format!(" {}", quota.limit));
        let told = |event: &Event| {
            let uids = if event.uids.is_empty() { String::new() } else { format!(" {}", event.uids) };
            format!("{:?}{}{}{uids}{}", event.kind, name(&event.mailbox), name(&event.old_mailbox), quota(event))
        };
        events.iter().map(told).collect()
    }

    fn nothing() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn names_are_told_once_and_what_is_implied_is_not() {
        let mut looks = Looks::new();
        assert_eq!(looks.names(&["INBOX", "Old", "Old/a"]), nothing(), "that is how it is");
        let now = ["INBOX", "Old/a", "New", "New/b", "New/b/c", "New.d"];
        assert_eq!(looks.names(&now), ["MailboxDelete Old", "MailboxCreate New.d", "MailboxCreate New/b/c"]);
        assert_eq!(looks.names(&now), nothing());
    }

    #[test]
    fn a_renaming_is_one_event() {
        let mut looks = Looks::new();
        looks.names(&["A", "A/b", "C"]);
        let now = ["D/E", "D/E/b", "D", "F"];
        let told = looks.renamed(&now, &[("A", "D/E"), ("X", "F")]);
        assert_eq!(told, ["MailboxRename D/E A", "MailboxDelete C", "MailboxCreate D", "MailboxCreate F"]);
    }

    #[test]
    fn a_mailbox_that_cannot_be_selected_is_gone() {
        let mut looks = Looks::new();
        looks.names(&["A", "A/b"]);
        let mut now = tree(&["A", "A/b"], &[]);
        now.names.get_mut(&b"A"[..]).unwrap().add(b"\\Noselect");
        let found = Found::Names { tree: now, subscriptions: false, renamed: Vec::new() };
        assert_eq!(looks.find(found), ["MailboxDelete A"]);
    }

    #[test]
    fn subscriptions_are_compared_with_those_of_who_has_asked_for_them() {
        let mut looks = Looks::new();
        let mut find = |subscribed: &[&str], subscriptions| {
            looks.find(Found::Names { tree: tree(&["A"], subscribed), subscriptions, renamed: Vec::new() })
        };
        assert_eq!(find(&[], false), nothing());
        assert_eq!(find(&["A"], true), nothing(), "that is how it is");
        assert_eq!(find(&[], false), nothing());
        assert_eq!(find(&["B"], true), ["MailboxSubscribe B", "MailboxUnSubscribe A"]);
    }

    #[test]
    fn what_a_client_does_itself_is_not_found() {
        let mut looks = Looks::new();
        looks.names(&["A"]);
        let asked = looks.now + Duration::from_millis(500);
        looks.did(Event::of_mailbox(Kind::MailboxCreate, *b"B"));
        let tree = tree(&["A"], &[]);
        let found = Found::Names { tree, subscriptions: false, renamed: Vec::new() };
        assert_eq!(told(looks.overview.found(Finding { asked, own: false, found })), nothing(), "asked before");
        assert_eq!(looks.names(&["A", "B"]), nothing());
        assert_eq!(looks.names(&["A"]), ["MailboxDelete B"]);
        looks.find(Found::Done(Event::of_mailbox(Kind::MailboxCreate, *b"C")));
        assert_eq!(looks.names(&["A", "C"]), nothing(), "it will be told");
    }

    #[test]
    fn messages_are_told_by_uid_where_it_is_sure() {
        let mut looks = Looks::new();
        let table: [(&str, &[&str]); 9] = [
            ("MESSAGES 5 UIDNEXT 9", &[]),
            ("MESSAGES 7 UIDNEXT 11", &["MessageNew A 9:10"]),
            ("MESSAGES 7 UIDNEXT 11", &[]),
            ("MESSAGES 6 UIDNEXT 11", &["MessageExpunge A"]),
            ("MESSAGES 6 UIDNEXT 12", &["MessageNew A"]),
            ("MESSAGES 4 UIDNEXT 13", &["MessageExpunge A", "MessageNew A"]),
            ("MESSAGES 5", &["MessageNew A"]),
            ("MESSAGES 5 UIDNEXT 14", &[]),
            ("MESSAGES 4000000005 UIDNEXT 4000000014", &["MessageNew A"]),
        ];
        for (items, expected) in table {
            assert_eq!(looks.status(items), expected, "{items}");
        }
    }

    #[test]
    fn what_a_client_stores_is_not_new() {
        let stored = |uids: &[u32]| Event {
            uidvalidity: Some(7),
            uids: uids.iter().copied().collect(),
            ..Event::of_mailbox(Kind::MessageAppend, *b"A")
        };
        let mut looks = Looks::new();
        looks.status("MESSAGES 5 UIDNEXT 9");
        let told = looks.did(stored(&[9]));
        assert_eq!((told.messages, told.uidnext), (Some(6), Some(10)), "so it stands then");
        assert_eq!(looks.status("MESSAGES 6 UIDNEXT 10"), nothing());
        looks.did(stored(&[]));
        assert_eq!(looks.status("MESSAGES 7 UIDNEXT 11"), nothing(), "which they are is not known");
        assert_eq!(looks.status("MESSAGES 8 UIDNEXT 12"), ["MessageNew A 11"]);
        looks.did(Event::of_mailbox(Kind::MailboxDelete, *b"A"));
        assert_eq!(looks.status("MESSAGES 1 UIDNEXT 40"), nothing(), "another one");
    }

    #[test]
    fn a_quota_is_told_when_it_moves() {
        type Row = (&'static [(u64, u64)], &'static [&'static str]);
        let mut looks = Looks::new();
        let table: [Row; 6] = [
            (&[(10, 512)], &[]),
            (&[(512, 512)], &["QuotaExceed 512"]),
            (&[(600, 512), (3, 101)], &[]),
            (&[(600, 1002)], &["QuotaChange 1002", "QuotaWithin 1002"]),
            (&[(101, 101)], &["QuotaExceed 101"]),
            (&[(1, 1)], &["QuotaChange 1"]),
        ];
        for (quotas, expected) in table {
            assert_eq!(looks.quotas(quotas, false), expected, "{quotas:?}");
        }
    }

    #[test]
    fn a_refusal_says_which_quota_and_is_told_once() {
        let mut looks = Looks::new();
        assert_eq!(looks.quotas(&[(3, 101), (512, 512)], true), ["QuotaExceed A 512"]);
        assert_eq!(looks.quotas(&[(512, 512)], false), nothing());
        assert_eq!(looks.quotas(&[], true), ["QuotaExceed A"], "the backend does not say");
        assert_eq!(looks.quotas(&[(400, 512)], false), ["QuotaWithin 512"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut looks = Looks::new();
        let quota = |number: u32| {
            let root = number.to_string().into_bytes().into();
            Quota { root, resource: Resource::Storage, used: 1, limit: 2 }
        };
        looks.find(Found::Quotas { quotas: (0..100).map(quota).collect(), refused: None });
        assert_eq!(looks.overview.quotas.len(), Overview::MOST_QUOTAS);
        for number in 0..2000 {
            let mailbox = number.to_string().into_bytes().into();
            looks.find(Found::Status { mailbox, status: Status::default() });
        }
        assert_eq!(looks.overview.statuses.len(), Overview::MOST_MAILBOXES);
    }
}
