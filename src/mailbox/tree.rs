//! The names of an account's mailboxes, and what has become of them between two moments (RFC 5423 4.4, RFC 5465 5.4 and 5.5).
//!
//!     before: INBOX Work Work/Old          now: INBOX Play Play/Old
//!
//! One name is gone, one is new, and below them all is as it was: a mailbox may have been renamed. Whether it was, its
//! UIDVALIDITY tells, which is not known here. Requirement N2.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, Kind};
use crate::imap::list::{self, Listed};

/// The names that LIST tells, and those that LSUB does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// By key.
    pub names: BTreeMap<Box<[u8]>, Listed>,
    /// Keys, existing or not.
    pub subscribed: BTreeSet<Box<[u8]>>,
}

/// What has become of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there.
    Created(Box<[u8]>),
    /// It is not there any more.
    Deleted(Box<[u8]>),
    /// It is called otherwise, and so is what is below it.
    Renamed(Renaming),
    /// It is subscribed to, or not any more.
    Subscription(Box<[u8]>),
}

/// A mailbox has another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// What it was called.
    pub from: Box<[u8]>,
    /// What it is called.
    pub to: Box<[u8]>,
}

impl Change {
    /// What a client has done to a name of this tree, if it has.
    pub fn by(event: &Event, tree: &Tree) -> Option<Self> {
        let key = event.mailbox.clone()?;
        match event.kind {
            Kind::MailboxCreate => Some(Self::Created(without_delimiter(key, tree.delimiter()))),
            Kind::MailboxDelete => Some(Self::Deleted(key)),
            Kind::MailboxRename => match event.old_mailbox.clone() {
                // RFC 3501 6.3.5: INBOX stays.
                Some(from) if *from != *b"INBOX" => Some(Self::Renamed(Renaming { from, to: key })),
                _ => Some(Self::Created(key)),
            },
            Kind::MailboxSubscribe if !tree.subscribed.contains(&key) => Some(Self::Subscription(key)),
            Kind::MailboxUnSubscribe if tree.subscribed.contains(&key) => Some(Self::Subscription(key)),
            _ => None,
        }
    }
}

/// RFC 3501 6.3.3: a delimiter at the end of a new name only says what it will be used for.
fn without_delimiter(key: Box<[u8]>, delimiter: Option<u8>) -> Box<[u8]> {
    match (key.split_last(), delimiter) {
        (Some((last, rest)), Some(delimiter)) if *last == delimiter => rest.into(),
        _ => key,
    }
}

impl Tree {
    /// The names of these lines.
    pub fn new(listed: impl IntoIterator<Item = Listed>, subscribed: impl IntoIterator<Item = Listed>) -> Self {
        Self {
            names: listed.into_iter().map(|listed| (listed.key(), listed)).collect(),
            // RFC 3501 6.3.9: what LSUB calls \Noselect stands for what is below it.
            subscribed: subscribed
                .into_iter()
                .filter(|listed| !listed.has(b"\\Noselect"))
                .map(|listed| listed.key())
                .collect(),
        }
    }

    /// What has become of the names of `before`: those that were deleted first.
    pub fn changes(&self, before: &Self) -> Vec<Change> {
        let deleted = before.names.keys().filter(|key| !self.names.contains_key(*key));
        let created = self.names.keys().filter(|key| !before.names.contains_key(*key));
        let subscriptions = self.subscribed.symmetric_difference(&before.subscribed);
        let deleted = deleted.cloned().map(Change::Deleted);
        let created = created.cloned().map(Change::Created);
        deleted.chain(created).chain(subscriptions.cloned().map(Change::Subscription)).collect()
    }

    /// The one mailbox that may have been renamed, with all that is below it, if these changes are nothing else.
    pub fn renaming(&self, changes: &[Change]) -> Option<Renaming> {
        let gone = changes.iter().filter_map(|change| if let Change::Deleted(key) = change { Some(key) } else { None });
        let new = changes.iter().filter_map(|change| if let Change::Created(key) = change { Some(key) } else { None });
        let (gone, new): (Vec<_>, Vec<_>) = (gone.collect(), new.collect());
        // What is above stands in front of what is below it.
        let (from, to) = (*gone.first()?, *new.first()?);
        let delimiter = self.names.get(to)?.delimiter;
        let below = |key: &[u8], root: &[u8]| {
            let rest = key.strip_prefix(root)?;
            (rest.is_empty() || rest.first().copied() == delimiter).then(|| rest.to_vec())
        };
        let mut olds: Vec<_> = gone.iter().map(|key| below(key, from)).collect::<Option<_>>()?;
        let mut news: Vec<_> = new.iter().map(|key| below(key, to)).collect::<Option<_>>()?;
        olds.sort_unstable();
        news.sort_unstable();
        (olds == news).then(|| Renaming { from: from.clone(), to: to.clone() })
    }

    /// What stands above this name, whether it is a mailbox or not.
    pub fn parent(&self, key: &[u8], delimiter: Option<u8>) -> Option<Box<[u8]>> {
        let at = key.iter().rposition(|octet| Some(*octet) == delimiter)?;
        (at > 0).then(|| key[..at].into())
    }

    /// How this name is listed, with all that is known of it; one that is not there as \NonExistent.
    pub fn listed(&self, key: &[u8], delimiter: Option<u8>) -> Listed {
        let absent = || Listed {
            attributes: vec![(*b"\\NonExistent").into()],
            delimiter,
            name: key.into(),
            extended: Box::default(),
        };
        let mut listed = self.names.get(key).cloned().unwrap_or_else(absent);
        if self.subscribed.contains(key) {
            listed.add(b"\\Subscribed");
        }
        let parent = self.has_below(key, listed.delimiter);
        let unsaid = !listed.has(b"\\HasChildren") && !listed.has(b"\\HasNoChildren") && !listed.has(b"\\Noinferiors");
        if parent || (unsaid && self.names.contains_key(key)) {
            listed.remove(b"\\HasNoChildren");
            listed.add(if parent { b"\\HasChildren" } else { b"\\HasNoChildren" });
        }
        listed
    }

    fn has_below(&self, key: &[u8], delimiter: Option<u8>) -> bool {
        let Some(delimiter) = delimiter else { return false };
        let above = [key, &[delimiter]].concat().into_boxed_slice();
        self.names.range(above.clone()..).next().is_some_and(|(name, _)| name.starts_with(&above))
    }

    /// What stands between the levels.
    pub fn delimiter(&self) -> Option<u8> {
        self.names.values().find_map(|listed| listed.delimiter)
    }

    /// The client has done this itself.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Created(key) => {
                let (delimiter, extended) = (self.delimiter(), Box::default());
                let listed = Listed { attributes: Vec::new(), delimiter, name: key.clone(), extended };
                self.names.entry(key.clone()).or_insert(listed);
            }
            // RFC 3501 6.3.4: the name stays, as long as there are others below it.
            Change::Deleted(key) => match self.names.get(key).map(|listed| listed.delimiter) {
                Some(delimiter) if self.has_below(key, delimiter) => {
                    self.names.get_mut(key).into_iter().for_each(|listed| listed.add(b"\\Noselect"));
                }
                _ => _ = self.names.remove(key),
            },
            Change::Renamed(Renaming { from, to }) => {
                let delimiter = self.delimiter();
                let moved: Vec<_> = self.names.keys().filter_map(|key| moved(key, from, to, delimiter)).collect();
                for Renaming { from, to } in moved {
                    if let Some(listed) = self.names.remove(&from) {
                        self.names.insert(to.clone(), Listed { name: to, ..listed });
                    }
                }
            }
            Change::Subscription(key) => {
                if !self.subscribed.remove(key) {
                    self.subscribed.insert(key.clone());
                }
            }
        }
    }
}

/// What this name is called when `from` is called `to`; none: as it is.
pub(super) fn moved(key: &[u8], from: &[u8], to: &[u8], delimiter: Option<u8>) -> Option<Renaming> {
    let rest = key.strip_prefix(from)?;
    let within = rest.is_empty() || rest.first().copied() == delimiter;
    within.then(|| Renaming { from: key.into(), to: list::canonical(&[to, rest].concat()) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn listed(name: &str) -> Listed {
        let (attributes, extended) = (Vec::new(), Box::default());
        Listed { attributes, delimiter: Some(b'/'), name: name.as_bytes().into(), extended }
    }

    /// A tree of these names.
    pub(in crate::mailbox) fn tree(names: &[&str], subscribed: &[&str]) -> Tree {
        Tree::new(names.iter().copied().map(listed), subscribed.iter().copied().map(listed))
    }

    fn key(name: &str) -> Box<[u8]> {
        name.as_bytes().into()
    }

    #[test]
    fn what_became_of_names_is_found() {
        let before = tree(&["INBOX", "Work", "Old"], &["Work"]);
        let now = tree(&["INBOX", "Work", "New"], &["New"]);
        let expected = [
            Change::Deleted(key("Old")),
            Change::Created(key("New")),
            Change::Subscription(key("New")),
            Change::Subscription(key("Work")),
        ];
        assert_eq!(now.changes(&before), expected);
        assert_eq!(now.changes(&now), []);
    }

    #[test]
    fn a_mailbox_may_have_been_renamed() {
        type Row = (&'static [&'static str], &'static [&'static str], Option<(&'static str, &'static str)>);
        let table: [Row; 5] = [
            (&["INBOX", "Work", "Work/Old"], &["INBOX", "Play", "Play/Old"], Some(("Work", "Play"))),
            (&["Work"], &["Play"], Some(("Work", "Play"))),
            (&["Work", "Work/Old"], &["Play", "Play/New"], None),
            (&["Work"], &["Work", "Play"], None),
            (&["Work", "Sent"], &["Play", "Mail"], None),
        ];
        for (before, now, expected) in table {
            let now = tree(now, &[]);
            let found = now.renaming(&now.changes(&tree(before, &[])));
            assert_eq!(found, expected.map(|(from, to)| Renaming { from: key(from), to: key(to) }), "{before:?}");
        }
    }

    #[test]
    fn what_the_client_does_itself_is_no_change() {
        let mut known = tree(&["INBOX", "Work", "Work/Old"], &[]);
        known.apply(&Change::Renamed(Renaming { from: key("Work"), to: key("Play") }));
        known.apply(&Change::Created(key("New")));
        known.apply(&Change::Deleted(key("Play/Old")));
        known.apply(&Change::Subscription(key("New")));
        assert_eq!(tree(&["INBOX", "Play", "New"], &["New"]).changes(&known), []);
    }

    #[test]
    fn a_name_is_listed_with_all_that_is_known() {
        let tree = tree(&["INBOX", "Work/Old"], &["Work/Old"]);
        let line = |name: &str| {
            let mut line = Vec::new();
            tree.listed(name.as_bytes(), Some(b'/')).write(&mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(line("Work/Old"), "* LIST (\\Subscribed \\HasNoChildren) \"/\" Work/Old");
        assert_eq!(line("Work"), "* LIST (\\NonExistent \\HasChildren) \"/\" Work");
        assert_eq!(line("Gone"), "* LIST (\\NonExistent) \"/\" Gone");
        assert_eq!(tree.parent(b"Work/Old", Some(b'/')), Some(key("Work")));
        assert_eq!(tree.parent(b"Work", Some(b'/')), None);
    }
}
