//! Which mailboxes a client wants to hear of, and of which events (RFC 5465 sections 3.1 and 6).
//!
//!     C: a NOTIFY SET (mailboxes Work NONE) (personal (MessageNew MessageExpunge)) (subtree Lists (MailboxName))
//!
//! Which group decides of an event in a mailbox says [`Groups`]. Requirement N2.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    groups::{Asked, Groups},
    status::Status,
    tree::{self, Change, Renaming, Tree},
};
use crate::imap::{
    list::Listed,
    notify::{Event, Group},
    token,
};

/// What a client has asked for, and what is known of it.
#[derive(Debug, Default)]
pub struct Watch {
    groups: Groups,
    /// The names as they were last told.
    pub tree: Tree,
    /// With what the names of other users' mailboxes begin, and of shared ones (RFC 2342).
    pub foreign: Vec<Box<[u8]>>,
    /// Those whose messages count, by key.
    pub mailboxes: BTreeMap<Box<[u8]>, Watched>,
    /// Of the others whose names count, how each stood once: by that it is known again under another name. None: it would not say.
    identities: BTreeMap<Box<[u8]>, Option<Status>>,
    /// Those that were not asked yet.
    unidentified: Vec<Box<[u8]>>,
    /// The last one where something was found.
    pub latest: Option<Box<[u8]>>,
    /// The one that is selected: what happens in it is told otherwise.
    selected: Option<Box<[u8]>>,
}

/// A mailbox whose messages count.
#[derive(Debug, Default)]
pub struct Watched {
    /// Flags count too.
    pub flags: bool,
    /// How it stood when it was looked at last; nothing is known of what was before.
    pub status: Option<Status>,
    /// When to look next; none: now.
    pub due: Option<Instant>,
    /// How long it was from the last look to this.
    pub every: Duration,
    /// How long the answer took.
    pub took: Duration,
    /// Its STATUS was refused: it may be gone, which the names will tell.
    pub doubtful: bool,
    /// It is listed, and its STATUS is refused.
    pub refused: bool,
}

impl Watch {
    /// What these groups ask for. Nothing is known yet.
    pub fn new(groups: Vec<Group>) -> Self {
        Self { groups: Groups::new(groups), ..Self::default() }
    }

    /// Whether some group names this event.
    pub fn wants(&self, event: Event) -> bool {
        self.groups.wants(event)
    }

    /// Whether it has to be known which mailboxes there are.
    pub fn needs_names(&self) -> bool {
        self.groups.want_mailboxes()
    }

    /// Whether it has to be known what is subscribed to.
    pub fn needs_subscriptions(&self) -> bool {
        self.wants(Event::SubscriptionChange) || self.wants(Event::MailboxName) || self.groups.want_subscribed()
    }

    /// Whether it has to be known whose mailboxes are whose.
    pub fn needs_namespaces(&self) -> bool {
        self.groups.want_personal()
    }

    /// Whether the client is to hear of this event in this mailbox.
    pub fn yields(&self, listed: &Listed, event: Event) -> bool {
        self.yields_by(&listed.key(), listed, event)
    }

    fn yields_by(&self, key: &[u8], listed: &Listed, event: Event) -> bool {
        let personal = listed.is_selectable() && !self.foreign.iter().any(|prefix| key.starts_with(prefix));
        let subscribed = self.tree.subscribed.contains(key) || listed.has(b"\\Subscribed");
        self.groups.yields(Asked { key, delimiter: listed.delimiter, personal, subscribed }, event)
    }

    /// Which mailboxes these are now. What is known of those that stay is kept.
    pub fn resolve(&mut self) {
        let mut before = std::mem::take(&mut self.mailboxes);
        let names = self.tree.names.iter().filter(|(_, listed)| listed.is_selectable());
        let counting = names.filter(|(key, listed)| self.yields_by(key, listed, Event::MessageNew));
        let resolved = counting.map(|(key, listed)| {
            let flags = self.yields_by(key, listed, Event::FlagChange);
            let known = before.remove(key).unwrap_or_default();
            (key.clone(), Watched { flags, ..known })
        });
        self.mailboxes = resolved.collect();
        self.identities.retain(|key, _| self.tree.names.contains_key(key) && !self.mailboxes.contains_key(key));
        let known = |key: &[u8]| self.mailboxes.contains_key(key) || self.identities.contains_key(key);
        let names = self.tree.names.iter().filter(|(key, listed)| listed.is_selectable() && !known(key));
        let named = names.filter(|(key, listed)| self.yields_by(key, listed, Event::MailboxName));
        self.unidentified = named.map(|(key, _)| key.clone()).collect();
    }

    /// Which mailbox is to be asked once how it stands, if they are not too many for that.
    pub fn unidentified(&self, most: usize) -> Option<Box<[u8]>> {
        let all = self.mailboxes.len() + self.identities.len() + self.unidentified.len();
        self.unidentified.last().filter(|_| all <= most).cloned()
    }

    /// So it stands; none: it does not say.
    pub fn identify(&mut self, key: Box<[u8]>, status: Option<Status>) {
        self.unidentified.retain(|other| *other != key);
        if self.tree.names.contains_key(&key) && !self.mailboxes.contains_key(&key) {
            self.identities.insert(key, status);
        }
    }

    /// Whether the mailbox that stands so now is the one that was called this: nothing but its name has changed. Where UIDVALIDITY
    /// is the same for others too, it says little.
    pub fn was(&self, key: &[u8], now: &Status) -> bool {
        let Some(before) = self.status(key) else { return false };
        let watched = self.mailboxes.iter().filter_map(|(key, watched)| Some((key, watched.status.as_ref()?)));
        let identified = self.identities.iter().filter_map(|(key, status)| Some((key, status.as_ref()?)));
        let mut others = watched.chain(identified).filter(|(other, _)| ***other != *key);
        let common = others.any(|(_, status)| status.uidvalidity == now.uidvalidity);
        match common || self.mailboxes.contains_key(key) {
            true => now.is_as(before),
            false => now.may_follow(before),
        }
    }

    /// Whether it could be told that a mailbox was called this.
    pub fn knows(&self, key: &[u8]) -> bool {
        self.status(key).is_some_and(|status| status.uidvalidity.is_some())
    }

    fn status(&self, key: &[u8]) -> Option<&Status> {
        let watched = self.mailboxes.get(key).and_then(|watched| watched.status.as_ref());
        watched.or(self.identities.get(key).and_then(Option::as_ref))
    }

    /// This mailbox is selected now. The one that was is looked at as if for the first time.
    pub fn select(&mut self, selected: Option<Box<[u8]>>) {
        if self.selected == selected {
            return;
        }
        for key in [self.selected.take(), selected.clone()].into_iter().flatten() {
            if let Some(watched) = self.mailboxes.get_mut(&key) {
                (watched.status, watched.due) = (None, None);
            }
        }
        self.selected = selected;
    }

    /// Which mailbox is to be looked at until then, the one that waits longest.
    pub fn due(&self, until: Instant) -> Option<Box<[u8]>> {
        let (key, watched) = self.looked_at().min_by_key(|(_, watched)| watched.due)?;
        watched.due.is_none_or(|due| due <= until).then(|| key.clone())
    }

    /// When the first one is to be looked at.
    pub fn next(&self) -> Option<Instant> {
        self.looked_at().filter_map(|(_, watched)| watched.due).min()
    }

    fn looked_at(&self) -> impl Iterator<Item = (&Box<[u8]>, &Watched)> {
        self.mailboxes.iter().filter(|(key, _)| Some(*key) != self.selected.as_ref())
    }

    /// Of which mailbox the client is likely to want to hear soonest: INBOX, else the one that had news last, else the first one.
    pub fn foremost(&self) -> Option<(&[u8], &Watched)> {
        let open = || self.looked_at().filter(|(_, watched)| !watched.refused).map(|(key, watched)| (&**key, watched));
        let named = |name: &[u8]| open().find(|(key, _)| *key == name);
        named(b"INBOX").or_else(|| named(self.latest.as_deref()?)).or_else(|| open().next())
    }

    /// How long it takes to look at all of them.
    pub fn round(&self) -> Duration {
        self.mailboxes.values().map(|watched| watched.took).sum()
    }

    /// What has become of names, as lines without their ends. The new tree is what is known from now on. `renamed`: these are some
    /// of the changes.
    pub fn tell(&mut self, tree: Tree, changes: &[Change], renamed: &[Renaming]) -> Vec<Vec<u8>> {
        let mut told = Told { watch: self, tree: &tree, keys: BTreeSet::new(), lines: Vec::new() };
        renamed.iter().for_each(|Renaming { from, to }| told.renamed(from, to));
        let delimiter = tree.delimiter();
        let was = |key: &[u8]| renamed.iter().any(|to| tree::moved(key, &to.from, &to.to, delimiter).is_some());
        let is = |key: &[u8]| renamed.iter().any(|to| tree::moved(key, &to.to, &to.from, delimiter).is_some());
        for change in changes {
            match change {
                Change::Deleted(key) if !was(key) => told.name(key),
                Change::Created(key) if !is(key) => told.name(key),
                Change::Subscription(key) => told.subscription(key),
                _ => {}
            }
        }
        let lines = told.lines;
        renamed.iter().for_each(|Renaming { from, to }| self.rename(from, to, delimiter));
        self.tree = tree;
        self.resolve();
        lines
    }

    /// What is known of a mailbox, and of those below it, is known under another name.
    fn rename(&mut self, from: &[u8], to: &[u8], delimiter: Option<u8>) {
        let moved: Vec<_> = self.mailboxes.keys().filter_map(|key| tree::moved(key, from, to, delimiter)).collect();
        for Renaming { from, to } in moved {
            if let Some(watched) = self.mailboxes.remove(&from) {
                self.mailboxes.insert(to, watched);
            }
        }
        let moved: Vec<_> = self.identities.keys().filter_map(|key| tree::moved(key, from, to, delimiter)).collect();
        for Renaming { from, to } in moved {
            if let Some(status) = self.identities.remove(&from) {
                self.identities.insert(to, status);
            }
        }
    }
}

/// Lines about names.
struct Told<'a> {
    watch: &'a Watch,
    tree: &'a Tree,
    /// Of these one was told already.
    keys: BTreeSet<Box<[u8]>>,
    lines: Vec<Vec<u8>>,
}

impl Told<'_> {
    /// A mailbox was created or deleted; what stands above it is affected too (section 5.4).
    fn name(&mut self, key: &[u8]) {
        let known = self.watch.tree.names.get(key).or(self.tree.names.get(key)).cloned();
        let Some(known) = known else { return };
        self.line(key, &known, Event::MailboxName);
        if let Some(parent) = self.tree.parent(key, known.delimiter) {
            let listed = self.tree.listed(&parent, known.delimiter);
            self.line(&parent, &listed, Event::MailboxName);
        }
    }

    fn subscription(&mut self, key: &[u8]) {
        let delimiter = self.tree.delimiter();
        let mut listed = self.tree.listed(key, delimiter);
        // Who watches what is subscribed to hears of what is not any more, too.
        listed.add(b"\\Subscribed");
        self.line(key, &listed, Event::SubscriptionChange);
    }

    /// One line for a mailbox; `known`: what tells which groups cover it.
    fn line(&mut self, key: &[u8], known: &Listed, event: Event) {
        if self.watch.yields(known, event) && self.keys.insert(key.into()) {
            self.write(&self.tree.listed(key, known.delimiter));
        }
    }

    fn renamed(&mut self, from: &[u8], to: &[u8]) {
        let mut listed = self.tree.listed(to, self.tree.delimiter());
        let before = self.watch.tree.listed(from, listed.delimiter);
        if [&listed, &before].iter().any(|listed| self.watch.yields(listed, Event::MailboxName)) {
            let mut extended = b"(\"OLDNAME\" (".to_vec();
            token::write_string(from, &mut extended);
            extended.extend_from_slice(b"))");
            listed.extended = extended.into();
            self.keys.insert(to.into());
            self.write(&listed);
        }
    }

    fn write(&mut self, listed: &Listed) {
        let mut line = Vec::new();
        listed.write(&mut line);
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{imap::notify::Notify, mailbox::tree::tests::tree};

    fn watch(groups: &str) -> Watch {
        let Ok(Notify::Set { groups, .. }) = Notify::parse(format!("SET {groups}").as_bytes()) else {
            panic!("{groups}")
        };
        let mut watch = Watch::new(groups);
        watch.foreign = vec![(*b"shared/").into()];
        watch.tree = tree(&["INBOX", "Lists", "Lists/a", "Lists.b", "Work", "shared/x"], &["Work", "shared/x"]);
        watch.resolve();
        watch
    }

    fn watched(groups: &str) -> Vec<String> {
        watch(groups).mailboxes.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    #[test]
    fn groups_name_mailboxes() {
        let new = "(MessageNew MessageExpunge)";
        let table: [(String, &[&str]); 8] = [
            (format!("(inboxes {new})"), &["INBOX", "Lists", "Lists.b", "Lists/a", "Work"]),
            (format!("(subscribed {new})"), &["Work", "shared/x"]),
            (format!("(subtree Lists {new})"), &["Lists", "Lists/a"]),
            (format!("(mailboxes (inbox Nowhere \"*\") {new})"), &["INBOX"]),
            (format!("(mailboxes Work NONE) (subscribed {new})"), &["shared/x"]),
            (format!("(mailboxes Work (MailboxName)) (subscribed {new})"), &["Work", "shared/x"]),
            (format!("(selected {new})"), &[]),
            ("(personal (MailboxName))".to_owned(), &[]),
        ];
        for (groups, expected) in table {
            assert_eq!(watched(&groups), expected, "{groups}");
        }
    }

    #[test]
    fn the_selected_mailbox_is_not_looked_at() {
        let mut watch = watch("(mailboxes (INBOX Work) (MessageNew MessageExpunge))");
        let now = Instant::now();
        watch.mailboxes.values_mut().for_each(|watched| watched.due = Some(now + Duration::from_secs(1)));
        watch.select(Some((*b"INBOX").into()));
        assert_eq!((watch.due(now), watch.next()), (None, Some(now + Duration::from_secs(1))));
        watch.select(Some((*b"Work").into()));
        assert_eq!(watch.due(now).as_deref(), Some(&b"INBOX"[..]), "the one that was left comes at once");
    }

    #[test]
    fn inbox_is_foremost_unless_it_is_selected() {
        let mut watch = watch("(mailboxes (INBOX Lists Work) (MessageNew MessageExpunge))");
        let foremost = |watch: &Watch| watch.foremost().map(|(key, _)| String::from_utf8_lossy(key).into_owned());
        assert_eq!(foremost(&watch).as_deref(), Some("INBOX"));
        watch.select(Some((*b"INBOX").into()));
        assert_eq!(foremost(&watch).as_deref(), Some("Lists"), "nothing is known of any");
        watch.latest = Some((*b"Work").into());
        assert_eq!(foremost(&watch).as_deref(), Some("Work"));
        watch.mailboxes.get_mut(&b"Work"[..]).unwrap().refused = true;
        assert_eq!(foremost(&watch).as_deref(), Some("Lists"), "nobody is let into Work");
        watch.select(Some((*b"Lists").into()));
        assert_eq!(foremost(&watch).as_deref(), Some("INBOX"));
        let mut watch = super::tests::watch("(mailboxes INBOX (MessageNew MessageExpunge))");
        watch.select(Some((*b"INBOX").into()));
        assert_eq!(foremost(&watch), None);
    }

    #[test]
    fn names_are_told_once_with_what_stands_above() {
        let mut watch = watch("(subtree Lists (MailboxName SubscriptionChange))");
        let now = tree(&["INBOX", "Lists", "Lists/b", "Lists.b", "Other"], &["Lists/b"]);
        let changes = now.changes(&watch.tree);
        let lines = watch.tell(now, &changes, &[]);
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let expected = [
            "* LIST (\\NonExistent) \"/\" Lists/a",
            "* LIST (\\HasChildren) \"/\" Lists",
            "* LIST (\\Subscribed \\HasNoChildren) \"/\" Lists/b",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_renamed_mailbox_is_told_with_its_old_name() {
        let mut watch = watch("(personal (MailboxName))");
        let now = tree(&["INBOX", "Play", "Play/a", "Lists.b", "Work", "shared/x"], &["Work", "shared/x"]);
        let changes = now.changes(&watch.tree);
        let renamed = now.renaming(&changes);
        let lines = watch.tell(now, &changes, renamed.as_slice());
        assert_eq!(lines, [b"* LIST (\\HasChildren) \"/\" Play (\"OLDNAME\" (\"Lists\"))".to_vec()]);
    }

    #[test]
    fn beside_a_renaming_other_names_are_told() {
        let mut watch = watch("(personal (MailboxName))");
        let now = tree(&["INBOX", "Play", "Play/a", "New", "Work", "shared/x"], &["Work", "shared/x"]);
        let changes = now.changes(&watch.tree);
        assert_eq!(now.renaming(&changes), None, "there is more");
        let renamed = [Renaming { from: (*b"Lists").into(), to: (*b"Play").into() }];
        let lines = watch.tell(now, &changes, &renamed);
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let expected = [
            "* LIST (\\HasChildren) \"/\" Play (\"OLDNAME\" (\"Lists\"))",
            "* LIST (\\NonExistent) \"/\" Lists.b",
            "* LIST (\\HasNoChildren) \"/\" New",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_mailbox_is_known_again_by_how_it_stood() {
        let status = |items: &str| Status::parse(format!("* STATUS x ({items})").as_bytes()).unwrap().1;
        let mut watch = watch("(personal (MailboxName))");
        assert_eq!((watch.unidentified(4), watch.unidentified(5).as_deref()), (None, Some(&b"Work"[..])));
        watch.identify((*b"Work").into(), Some(status("MESSAGES 5 UIDNEXT 9 UIDVALIDITY 7")));
        watch.identify((*b"Lists").into(), None);
        assert!(watch.knows(b"Work") && !watch.knows(b"Lists") && !watch.knows(b"INBOX"));
        let table = [
            ("MESSAGES 5 UIDNEXT 9 UIDVALIDITY 7", true),
            ("MESSAGES 2 UIDNEXT 12 UIDVALIDITY 7", true),
            ("MESSAGES 5 UIDNEXT 9 UIDVALIDITY 8", false),
            ("MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7", false),
            ("MESSAGES 5 UIDNEXT 9", false),
        ];
        for (items, expected) in table {
            assert_eq!(watch.was(b"Work", &status(items)), expected, "{items}");
        }
        watch.identify((*b"INBOX").into(), Some(status("MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7")));
        assert!(watch.was(b"Work", &status("MESSAGES 5 UIDNEXT 9 UIDVALIDITY 7")));
        assert!(!watch.was(b"Work", &status("MESSAGES 2 UIDNEXT 12 UIDVALIDITY 7")), "all have the same here");
        watch.resolve();
        assert_eq!(watch.unidentified.len(), 2, "what was asked is not asked again");
    }
}
