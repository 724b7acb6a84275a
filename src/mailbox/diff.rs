//! What has happened between two moments of a mailbox: two shadows become events (RFC 5423 sections 4.1 and 4.2).
//!
//!     before   11 \Seen   12   13           after   11 \Seen   13 \Deleted   14
//!
//!     MessageExpunge 12      MessageNew 14      MessageTrash 13
//!
//! Who did it is not to be seen: a message that is there now is new, and one that is gone was expunged. Whoever knows better
//! (an APPEND of ours, a policy of expiry) says so before. Requirements E1 and E3.

use serde::{Deserialize, Serialize};

use super::{
    event::{Event, Kind},
    shadow::{Change, Shadow},
};
use crate::imap::uid_set::UidSet;

/// How events of messages and their flags are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Messages {
    /// \Seen and \Deleted, when they are set, as MessageRead and MessageTrash (RFC 5423 section 4.2).
    #[default]
    Simple,
    /// As FlagsSet, like all other flags.
    Flags,
    /// Not at all, but for what clients store: the backend is asked nothing for their sake.
    None,
}

/// New messages that are told one by one, with their flags; what comes beyond at the same time is a copy of a mailbox, and told
/// as a set.
pub const MOST_SINGLE: usize = 100;

/// Runs of UIDs in one event: some 20 octets each make a line that can be held. What is more is told in further events.
pub const MOST_RUNS: usize = 1000;

/// The events between two moments of the mailbox of this name, in the order: gone, new, set, cleared.
///
/// Under another UIDVALIDITY nothing can be compared, and nothing is told: it is a new beginning.
pub fn diff(name: &[u8], before: &Shadow, after: &Shadow, style: Messages) -> Vec<Event> {
    if before.uidvalidity() != after.uidvalidity() {
        return Vec::new();
    }
    Between { name, before, after, all: after, events: Vec::new() }.events(style)
}

/// Does this to a mailbox, and tells it. What is not concerned is not looked at.
pub fn change(name: &[u8], shadow: &mut Shadow, changes: &[Change], style: Messages) -> Vec<Event> {
    let mut concerned = UidSet::default();
    changes.iter().for_each(|change| concerned.extend(shadow.concerned(change).iter()));
    let before = shadow.part(&concerned);
    changes.iter().for_each(|change| shadow.change(change));
    let after = shadow.part(&concerned);
    Between { name, before: &before, after: &after, all: shadow, events: Vec::new() }.events(style)
}

struct Between<'a> {
    name: &'a [u8],
    before: &'a Shadow,
    after: &'a Shadow,
    /// The whole mailbox as it is now.
    all: &'a Shadow,
    events: Vec<Event>,
}

impl Between<'_> {
    fn events(mut self, style: Messages) -> Vec<Event> {
        self.went();
        self.came();
        self.set(style);
        self.cleared();
        self.events
    }

    fn went(&mut self) {
        let gone = self.before.messages().without(self.after.messages()).collect();
        self.tell(&self.of_all(Kind::MessageExpunge), &gone);
    }

    fn came(&mut self) {
        let mut new = self.after.messages().without(self.before.messages());
        let singles: Vec<u32> = new.by_ref().take(MOST_SINGLE).collect();
        let others = new.collect();
        let event = self.of_all(Kind::MessageNew);
        for uid in singles {
            let flags = self.after.flags_of(uid).map(Into::into).collect();
            self.tell(&Event { flags, ..event.clone() }, &[uid].into_iter().collect());
        }
        self.tell(&event, &others);
    }

    /// An addition or removal, which says how the mailbox stands.
    fn of_all(&self, kind: Kind) -> Event {
        let (messages, uidnext) = (Some(self.all.messages().len()), self.all.uidnext());
        Event { messages, uidnext, ..self.of(kind) }
    }

    fn of(&self, kind: Kind) -> Event {
        Event { uidvalidity: Some(self.after.uidvalidity()), ..Event::of_mailbox(kind, self.name) }
    }

    fn set(&mut self, style: Messages) {
        let mut others = Changed::default();
        for (flag, set) in moved(self.after, self.before) {
            match simple(flag).filter(|_| style == Messages::Simple) {
                Some(kind) => self.tell(&self.of(kind), &set),
                None => others.add(flag, set),
            }
        }
        self.tell_changed(Kind::FlagsSet, others);
    }

    fn cleared(&mut self) {
        let mut changed = Changed::default();
        for (flag, cleared) in moved(self.before, self.after) {
            changed.add(flag, cleared);
        }
        self.tell_changed(Kind::FlagsClear, changed);
    }

    fn tell_changed(&mut self, kind: Kind, changed: Changed) {
        for (flags, uids) in changed.0 {
            self.tell(&Event { flags, ..self.of(kind) }, &uids);
        }
    }

    /// The event, of these messages; several where the set is long, none where it is empty.
    fn tell(&mut self, event: &Event, uids: &UidSet) {
        let runs: Vec<(u32, u32)> = uids.runs().collect();
        let parts = runs.chunks(MOST_RUNS).map(|runs| Event { uids: UidSet::of_runs(runs), ..event.clone() });
        self.events.extend(parts);
    }
}

/// Flags that changed, those of the same messages together.
#[derive(Default)]
struct Changed(Vec<(Vec<Box<str>>, UidSet)>);

impl Changed {
    fn add(&mut self, flag: &str, uids: UidSet) {
        match self.0.iter_mut().find(|(_, same)| *same == uids) {
            Some((flags, _)) => flags.push(flag.into()),
            None => self.0.push((vec![flag.into()], uids)),
        }
    }
}

/// Each flag that messages have here and do not have there, of those messages that are in both.
fn moved<'a>(here: &'a Shadow, there: &'a Shadow) -> impl Iterator<Item = (&'a str, UidSet)> {
    let none = UidSet::default();
    here.flags().filter_map(move |(flag, having)| {
        let without = there.flagged(flag).unwrap_or(&none);
        let moved: UidSet = having.without(without).filter(|uid| there.messages().contains(*uid)).collect();
        (!moved.is_empty()).then_some((flag, moved))
    })
}

fn simple(flag: &str) -> Option<Kind> {
    match () {
        () if flag.eq_ignore_ascii_case("\\Seen") => Some(Kind::MessageRead),
        () if flag.eq_ignore_ascii_case("\\Deleted") => Some(Kind::MessageTrash),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::mailbox::shadow::{Storing, tests::Random};

    /// A mailbox as anybody would write it down.
    type Model = BTreeMap<u32, BTreeSet<String>>;

    fn shadow(model: &Model) -> Shadow {
        let mut shadow = Shadow::new(7);
        for (uid, flags) in model {
            shadow.see(*uid, flags.iter().map(String::as_str));
        }
        shadow
    }

    /// `11 \Seen, 12` and so on.
    fn model(text: &str) -> Model {
        let message = |text: &str| {
            let mut words = text.split_whitespace();
            Some((words.next()?.parse().ok()?, words.map(str::to_owned).collect()))
        };
        text.split(',').filter_map(message).collect()
    }

    fn between(before: &str, after: &str, style: Messages) -> Vec<String> {
        let events = diff(b"A", &shadow(&model(before)), &shadow(&model(after)), style);
        let flags = |event: &Event| event.flags.iter().map(|flag| format!(" {flag}")).collect::<String>();
        events.iter().map(|event| format!("{:?} {}{}", event.kind, event.uids, flags(event))).collect()
    }

    #[test]
    fn what_has_happened_is_told_once() {
        let table: &[(&str, &str, &[&str])] = &[
            ("11, 12 x", "11, 12 X", &[]),
            (
                "11 \\Seen, 12, 13",
                "11 \\Seen, 13 \\Deleted, 14",
                &["MessageExpunge 12", "MessageNew 14", "MessageTrash 13"],
            ),
            ("", "11 \\Seen, 12", &["MessageNew 11 \\Seen", "MessageNew 12"]),
            ("11 \\Seen, 12 \\Seen x", "", &["MessageExpunge 11:12"]),
            ("11, 12, 13", "11 \\Seen, 12 \\Seen x, 13 x", &["MessageRead 11:12", "FlagsSet 12:13 x"]),
            ("11, 12", "11 x y, 12 y x", &["FlagsSet 11:12 x y"]),
            ("11 \\Seen \\Deleted", "11", &["FlagsClear 11 \\Deleted \\Seen"]),
            ("11 \\Recent", "11", &[]),
            ("11", "11 \\Recent", &[]),
        ];
        for (before, after, events) in table {
            assert_eq!(between(before, after, Messages::Simple), *events, "{before} -> {after}");
        }
        assert_eq!(between("11", "11 \\Seen \\Deleted", Messages::Flags), ["FlagsSet 11 \\Deleted \\Seen"]);
    }

    /// Any changes, as a session sees them.
    fn changes(model: &Model, random: &mut Random) -> Vec<Change> {
        let flags = |random: &mut Random| {
            let all = ["\\Seen", "\\Deleted", "work"].into_iter().map(Into::into);
            all.filter(|_| random.below(2) == 0).collect::<Vec<Box<str>>>()
        };
        let uids = |random: &mut Random| model.keys().copied().filter(|_| random.below(3) == 0).chain([900]).collect();
        let any = |random: &mut Random| match random.below(6) {
            0 => Change::Purged,
            1 => Change::Gone(uids(random)),
            2 => Change::Stored { uids: uids(random), how: Storing::Add, flags: flags(random) },
            3 => Change::Stored { uids: uids(random), how: Storing::Remove, flags: flags(random) },
            4 => Change::Stored { uids: uids(random), how: Storing::Replace, flags: flags(random) },
            _ => Change::Seen { uid: 1 + random.below(30), flags: flags(random) },
        };
        (0..random.below(6)).map(|_| any(random)).collect()
    }

    #[test]
    fn what_is_done_to_some_messages_is_told_as_if_all_were_compared() {
        let mut random = Random::from_the_environment();
        let all = model("1 \\Seen, 2, 5 \\Deleted work, 7 work, 11, 12 \\Deleted, 20 \\Seen work");
        for _ in 0..2000 {
            let changes = changes(&all, &mut random);
            let before = shadow(&all);
            let mut after = before.clone();
            changes.iter().for_each(|change| after.change(change));
            let mut changed = before.clone();
            let told = change(b"A", &mut changed, &changes, Messages::Simple);
            assert_eq!(told, diff(b"A", &before, &after, Messages::Simple), "{changes:?}");
            assert_eq!(diff(b"A", &after, &changed, Messages::Simple), []);
        }
    }

    #[test]
    fn under_another_uidvalidity_it_is_a_new_beginning() {
        let before = shadow(&model("11, 12"));
        assert_eq!(diff(b"A", &before, &Shadow::new(8), Messages::Simple), []);
    }

    #[test]
    fn an_addition_says_how_the_mailbox_stands() {
        let mut after = shadow(&model("11, 14"));
        after.expect(15);
        let event = diff(b"A", &shadow(&model("11")), &after, Messages::Simple).remove(0);
        assert_eq!((event.uidvalidity, event.messages, event.uidnext), (Some(7), Some(2), Some(15)));
        assert_eq!(event.mailbox.as_deref(), Some(&b"A"[..]));
    }

    #[test]
    fn many_messages_are_few_events_and_no_event_is_long() {
        let mut after = Shadow::new(7);
        (0..5000).for_each(|number| after.see(1 + 2 * number, []));
        let before = Shadow::new(7);
        let new = diff(b"A", &before, &after, Messages::Simple);
        assert_eq!(new.len(), MOST_SINGLE + 5);
        assert!(new.iter().all(|event| event.uids.runs().count() <= MOST_RUNS));
        assert_eq!(new.iter().map(|event| event.uids.len()).sum::<u32>(), 5000);
        assert_eq!(diff(b"A", &after, &before, Messages::Simple).len(), 5);
    }

    /// Does to a mailbox what an event says, and insists that each word of it is news.
    fn apply(model: &mut Model, event: &Event) {
        for uid in event.uids.iter() {
            let flags: Vec<String> = match event.kind {
                Kind::MessageRead => vec!["\\Seen".to_owned()],
                Kind::MessageTrash => vec!["\\Deleted".to_owned()],
                _ => event.flags.iter().map(|flag| String::from(&**flag)).collect(),
            };
            match event.kind {
                Kind::MessageExpunge => assert!(model.remove(&uid).is_some(), "{event:?}"),
                Kind::MessageNew => assert!(model.insert(uid, flags.into_iter().collect()).is_none(), "{event:?}"),
                Kind::FlagsClear => {
                    let message = model.get_mut(&uid).expect("a message that is there");
                    assert!(flags.iter().all(|flag| message.remove(flag)), "{event:?}");
                }
                _ => {
                    let message = model.get_mut(&uid).expect("a message that is there");
                    assert!(flags.into_iter().all(|flag| message.insert(flag)), "{event:?}");
                }
            }
        }
    }

    /// Any change, done to the model and to the shadow.
    fn step(model: &mut Model, shadow: &mut Shadow, next: &mut u32, random: &mut Random) {
        const FLAGS: [&str; 6] = ["\\Seen", "\\Deleted", "\\Flagged", "work", "$Forwarded", "play"];
        let any = model.keys().nth(random.below(model.len().max(1) as u32) as usize).copied();
        match (random.below(5), any) {
            (0, _) | (_, None) => {
                model.insert(*next, BTreeSet::new());
                *next += 1 + random.below(3);
            }
            (1, Some(uid)) => {
                model.remove(&uid);
                shadow.lose(uid);
            }
            (change, Some(uid)) => {
                let flag = FLAGS[random.below(FLAGS.len() as u32) as usize].to_owned();
                let flags = model.entry(uid).or_default();
                _ = if change == 2 { flags.remove(&flag) } else { flags.insert(flag) };
            }
        }
        for (uid, flags) in model.iter().filter(|_| random.below(4) == 0) {
            shadow.see(*uid, flags.iter().map(String::as_str));
        }
    }

    #[test]
    fn what_is_told_leads_from_one_moment_to_the_next() {
        let mut random = Random::from_the_environment();
        let (mut model, mut seen, mut next) = (Model::new(), Shadow::new(7), 1);
        for _ in 0..500 {
            let (before, mut told) = (shadow(&model), model.clone());
            for _ in 0..random.below(20) {
                step(&mut model, &mut seen, &mut next, &mut random);
            }
            // Seen message by message as things changed, and then all of them once more, as a FETCH would show them.
            for (uid, flags) in &model {
                seen.see(*uid, flags.iter().map(String::as_str));
            }
            let style = if random.below(2) == 0 { Messages::Simple } else { Messages::Flags };
            for event in diff(b"A", &before, &seen, style) {
                apply(&mut told, &event);
            }
            assert_eq!(told, model);
            assert_eq!(diff(b"A", &seen, &shadow(&model), style), []);
        }
    }
}
