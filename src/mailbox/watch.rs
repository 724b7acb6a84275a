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
        let personal = is_selectable(listed) && !self.foreign.iter().any(|prefix| key.starts_with(prefix));
        let subscribed = self.tree.subscribed.contains(key) || listed.has(b"\\Subscribed");
        self.groups.yields(Asked { key, delimiter: listed.delimiter, personal, subscribed }, event)
    }

    /// Which mailboxes these are now. What is known of those that stay is kept.
    pub fn resolve(&mut self) {
        let mut before = std::mem::take(&mut self.mailboxes);
        let names = self.tree.names.iter().filter(|(_, listed)| is_selectable(listed));
        let counting = names.filter(|(key, listed)| self.yields_by(key, listed, Event::MessageNew));
        let resolved = counting.map(|(key, listed)| {
            let flags = self.yields_by(key, listed, Event::FlagChange);
            let known = before.remove(key).unwrap_or_default();
            (key.clone(), Watched { flags, ..known })
        });
        self.mailboxes = resolved.collect();
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

    /// How long it takes to look at all of them.
    pub fn round(&self) -> Duration {
        self.mailboxes.values().map(|watched| watched.took).sum()
    }

    /// What has become of names, as lines without their ends. The new tree is what is known from now on. `renamed`: that is all
    /// that has become of mailboxes.
    pub fn tell(&mut self, tree: Tree, changes: &[Change], renamed: Option<&Renaming>) -> Vec<Vec<u8>> {
        let mut told = Told { watch: self, tree: &tree, keys: BTreeSet::new(), lines: Vec::new() };
        if let Some(Renaming { from, to }) = renamed {
            told.renamed(from, to);
        }
        for change in changes {
            match change {
                Change::Deleted(key) | Change::Created(key) if renamed.is_none() => told.name(key),
                Change::Subscription(key) => told.subscription(key),
                _ => {}
            }
        }
        let lines = told.lines;
        if let Some(Renaming { from, to }) = renamed {
            self.rename(from, to, tree.delimiter());
        }
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

fn is_selectable(listed: &Listed) -> bool {
    !listed.has(b"\\Noselect") && !listed.has(b"\\NonExistent")
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
    fn names_are_told_once_with_what_stands_above() {
        let mut watch = watch("(subtree Lists (MailboxName SubscriptionChange))");
        let now = tree(&["INBOX", "Lists", "Lists/b", "Lists.b", "Other"], &["Lists/b"]);
        let changes = now.changes(&watch.tree);
        let lines = watch.tell(now, &changes, None);
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
        let lines = watch.tell(now, &changes, renamed.as_ref());
        assert_eq!(lines, [b"* LIST (\\HasChildren) \"/\" Play (\"OLDNAME\" (\"Lists\"))".to_vec()]);
    }
}
