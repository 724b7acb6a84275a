//! Which group of a NOTIFY decides of an event in a mailbox (RFC 5465 sections 3.1 and 6).
//!
//!     (mailboxes Work NONE) (personal (MessageNew MessageExpunge)) (subtree Lists (MailboxName))
//!
//!     MessageNew in Work        the first group: silent
//!     MessageNew in Lists/a     the second group: told
//!     MailboxName in Lists/a    the second group does not name it, the third does: told
//!
//! For each event alone: the first group that covers a mailbox and names the event yields it, and one that covers it and names
//! none at all keeps it silent. The names of groups are sorted once, when NOTIFY is given: with all mailboxes and all names a
//! user can have, a mailbox is looked up and not compared with each of them. Requirement N2.

use std::collections::{BTreeMap, BTreeSet};

use crate::imap::{
    list,
    notify::{EVENTS, Event, Group, Which},
};

/// All that a client has asked for, but of the selected mailbox.
#[derive(Debug, Default)]
pub struct Groups {
    events: BTreeSet<Event>,
    /// By key.
    mailboxes: BTreeMap<Box<[u8]>, Decisions>,
    /// By the key of what stands above.
    subtrees: BTreeMap<Box<[u8]>, Decisions>,
    /// `inboxes` too: where mail is delivered to, no server tells (section 6.3).
    personal: Option<Decisions>,
    subscribed: Option<Decisions>,
}

/// What is to be known of a mailbox.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// What stands between the levels of its name.
    pub delimiter: Option<u8>,
    /// It can be selected, and is nobody else's.
    pub personal: bool,
    /// It is subscribed to.
    pub subscribed: bool,
}

/// Of each event, in the order of [`EVENTS`], what the first group says that speaks of it.
type Decisions = [Option<Decision>; EVENTS.len()];

/// The place of a group, and whether it yields the event.
type Decision = (u16, bool);

impl Groups {
    /// These groups, in their order. NOTIFY has bounded how many they are.
    pub fn new(groups: Vec<Group>) -> Self {
        let mut all = Self::default();
        for (place, group) in groups.iter().filter(|group| !group.which.is_selected()).enumerate() {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            all.events.extend(&group.events);
            let decide = |decisions: &mut Decisions| decide(decisions, place, &group.events);
            match &group.which {
                Which::Selected | Which::SelectedDelayed => {}
                Which::Inboxes | Which::Personal => decide(all.personal.get_or_insert_default()),
                Which::Subscribed => decide(all.subscribed.get_or_insert_default()),
                Which::Subtree(names) => {
                    names.iter().for_each(|name| decide(all.subtrees.entry(list::canonical(name)).or_default()));
                }
                Which::Mailboxes(names) => {
                    names.iter().for_each(|name| decide(all.mailboxes.entry(list::canonical(name)).or_default()));
                }
            }
        }
        all
    }

    /// Whether some group names this event.
    pub fn wants(&self, event: Event) -> bool {
        self.events.contains(&event)
    }

    /// Whether some group names an event of a mailbox.
    pub fn want_mailboxes(&self) -> bool {
        self.events.iter().any(|event| *event != Event::ServerMetadataChange)
    }

    /// Whether it matters what is subscribed to.
    pub fn want_subscribed(&self) -> bool {
        self.subscribed.is_some()
    }

    /// Whether it matters whose mailboxes are whose.
    pub fn want_personal(&self) -> bool {
        self.personal.is_some()
    }

    /// Whether this event is to be told of this mailbox.
    pub fn yields(&self, of: Asked<'_>, event: Event) -> bool {
        let Some(at) = EVENTS.iter().position(|(_, known)| *known == event) else { return false };
        let ends = of.key.iter().enumerate().filter(|(_, octet)| Some(**octet) == of.delimiter).map(|(end, _)| end);
        let above = ends.chain([of.key.len()]).filter_map(|end| self.subtrees.get(&of.key[..end]));
        let classes = [&self.personal, &self.subscribed].into_iter().zip([of.personal, of.subscribed]);
        let classes = classes.filter_map(|(decisions, covers)| decisions.as_ref().filter(|_| covers));
        let covering = self.mailboxes.get(of.key).into_iter().chain(above).chain(classes);
        covering.filter_map(|decisions| decisions[at]).min().is_some_and(|(_, yields)| yields)
    }
}

/// What a group says of each event, where none has spoken before it.
fn decide(decisions: &mut Decisions, place: u16, events: &[Event]) {
    for (decision, (_, event)) in decisions.iter_mut().zip(EVENTS) {
        let named = events.contains(&event);
        if named || events.is_empty() {
            decision.get_or_insert((place, named));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::shadow::tests::Random;

    const NAMES: [&str; 8] = ["INBOX", "inbox", "A", "A/b", "A/b/c", "A.b", "A/", ""];

    /// Any group.
    fn group(random: &mut Random) -> Group {
        let mut name = || NAMES[random.below(NAMES.len() as u32) as usize].as_bytes().to_vec();
        let names = vec![name(), name()];
        let which = match random.below(5) {
            0 => Which::Inboxes,
            1 => Which::Personal,
            2 => Which::Subscribed,
            3 => Which::Subtree(names),
            _ => Which::Mailboxes(names),
        };
        let mut events: Vec<Event> = EVENTS.iter().map(|(_, event)| *event).collect();
        events.retain(|_| random.below(4) == 0);
        Group { which, events, items: None }
    }

    /// The same, group by group.
    fn yields(groups: &[Group], of: Asked<'_>, event: Event) -> bool {
        let within = |name: &Vec<u8>| {
            let rest = of.key.strip_prefix(&*list::canonical(name));
            rest.is_some_and(|rest| rest.is_empty() || rest.first().copied() == of.delimiter)
        };
        let covers = |which: &Which| match which {
            Which::Selected | Which::SelectedDelayed => false,
            Which::Inboxes | Which::Personal => of.personal,
            Which::Subscribed => of.subscribed,
            Which::Subtree(names) => names.iter().any(within),
            Which::Mailboxes(names) => names.iter().any(|name| *list::canonical(name) == *of.key),
        };
        let decisive = |group: &&Group| group.events.is_empty() || group.events.contains(&event);
        groups.iter().filter(|group| covers(&group.which)).find(decisive).is_some_and(|group| !group.events.is_empty())
    }

    #[test]
    fn the_first_group_that_speaks_of_an_event_decides() {
        let mut random = Random::from_the_environment();
        for _ in 0..2000 {
            let groups: Vec<Group> = (0..=random.below(6)).map(|_| group(&mut random)).collect();
            let all = Groups::new(groups.clone());
            for name in NAMES {
                let key = list::canonical(name.as_bytes());
                let [personal, subscribed, flat] = [(); 3].map(|()| random.below(2) == 0);
                let delimiter = (!flat).then_some(b'/');
                let of = Asked { key: &key, delimiter, personal, subscribed };
                for (word, event) in EVENTS {
                    assert_eq!(all.yields(of, event), yields(&groups, of, event), "{groups:?} {of:?} {word}");
                }
            }
        }
    }
}
