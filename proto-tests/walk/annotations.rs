//! A walk over annotations: two devices of one user, a few mailboxes that come, go and are renamed, and a truth beside it.
//!
//!     pixel:   SETMETADATA Work (/private/comment {3}..) -> OK       the truth takes it over; after NO and BAD it does not
//!     default: RENAME Work Office                        -> OK       the truth moves what stood in it and below it
//!     default: GETMETADATA (DEPTH infinity) Office (..)  -> what the truth has, octet for octet
//!
//! | file | question |
//! |---|---|
//! | `truth` | what should be kept now, and what may be set? |
//! | `wire` | how is it written, and what was answered? |
//! | `octets` | is there an octet that does harm? |
//!
//! The backend keeps annotations itself or does not; to a client that makes no difference. Requirements N12 to N15.

mod octets;
mod truth;
mod wire;

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use lemonade_proxy::store::{AccountName, Answer, Change, Changed, Found, Owner, Query, Quota, Store, memory::Memory};
use proto_tests::{
    cast::Cut,
    model::{Backend, Settings},
    random::Random,
};

use self::{
    truth::{Get, Place, Truth},
    wire::{Dialect, Session},
};

/// Steps of each walk.
const STEPS: usize = 10_000;

/// Steps within which a flaw has to be found.
const FLAWED: usize = 3_000;

/// Names that mailboxes may get: below one another, beginning alike, with what has to be quoted.
const NAMES: [&str; 10] = [
    "Work",
    "Work/a",
    "Work/a/b",
    "Worker",
    "Office",
    "Office/a",
    "INBOX/sub",
    "q\"uote \\ {3} and",
    "M&APY-chte",
    "star*",
];

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Entries do not follow their mailbox.
    StaysBehind,
    /// Entries outlive their mailbox.
    Outlives,
    /// Of several edits the last one is lost.
    LosesTheLast,
}

impl Flaw {
    /// Whether a change that follows the backend's OK is not made.
    fn forgets(self, change: &Change) -> bool {
        match self {
            Self::StaysBehind => matches!(change, Change::Renamed { .. }),
            Self::Outlives => matches!(change, Change::Deleted(_)),
            Self::LosesTheLast => false,
        }
    }
}

/// A store, perhaps with a flaw.
#[derive(Default)]
struct Kept {
    inner: Memory,
    flaw: Option<Flaw>,
}

impl Store for Kept {
    fn save<'a>(&'a self, account: &'a AccountName, change: &'a Change) -> Answer<'a, Changed> {
        match (change, self.flaw) {
            (Change::Once { mark, change }, Some(flaw)) if flaw.forgets(change) => Box::pin(async move {
                let (edits, quota) = (vec![(mark.key.clone(), None)], Quota::NONE);
                self.inner.save(account, &Change::Entries { edits, quota }).await
            }),
            (Change::Entries { edits, quota }, Some(Flaw::LosesTheLast)) if edits.len() > 1 => Box::pin(async move {
                let edits = edits[..edits.len() - 1].to_vec();
                self.inner.save(account, &Change::Entries { edits, quota: *quota }).await
            }),
            _ => self.inner.save(account, change),
        }
    }

    fn load<'a>(&'a self, account: &'a AccountName, query: &'a Query) -> Answer<'a, Found> {
        self.inner.load(account, query)
    }

    fn subscribers(&self) -> Answer<'_, Vec<AccountName>> {
        self.inner.subscribers()
    }
}

struct World {
    random: Random,
    truth: Truth,
    sessions: [Session; 2],
    store: Arc<Kept>,
}

impl World {
    fn new(mut random: Random, native: bool, flaw: Option<Flaw>) -> Result<Self, String> {
        let words = if native { "IMAP4rev1 ENABLE METADATA" } else { "IMAP4rev1" };
        let words = if random.one_in(2) { format!("{words} LITERAL+") } else { words.to_owned() };
        // The backend's own bound is out of reach: a command that names several mailboxes is whole for ours alone.
        let mut settings = Settings { most_entries: 100_000, ..Settings::with(&words) };
        settings.mischief.literal_names = random.one_in(3);
        let store = Arc::new(Kept { flaw, ..Kept::default() });
        let most = *random.pick(&[2_000, 25]);
        let mut session = |backend| {
            let cut = if random.one_in(4) { Cut::Random(Random::new(random.bits())) } else { Cut::Whole };
            Session::new(&settings, cut, Random::new(random.bits()), store.clone(), most, backend)
        };
        let mut first = session(None)?;
        let mut second = session(Some(first.scene.backend.clone()))?;
        second.ok(vec![b"ID (\"device-id\" \"pixel\")".to_vec()])?;
        first.device = "default".to_owned();
        second.device = "pixel".to_owned();
        Ok(Self { random, truth: Truth::new(native, most), sessions: [first, second], store })
    }

    /// Walks, then compares everything; a failure shows the end of the session that met it.
    fn walk(mut self, steps: usize) -> Result<(), String> {
        let end = (0..steps).try_for_each(|_| self.step()).and_then(|()| self.compare_all());
        end.map_err(|(at, why)| {
            let trace = &self.sessions[at].scene.trace;
            format!("{why}\n  {}", trace[trace.len().saturating_sub(40)..].join("\n  "))
        })
    }

    fn step(&mut self) -> Result<(), (usize, String)> {
        let at = self.random.below(2);
        // Traces grow with the walk, and only their end is shown.
        let trace = &mut self.sessions[at].scene.trace;
        if trace.len() > 400 {
            trace.drain(..200);
        }
        let done = match self.random.below(20) {
            0..=8 => self.set(at),
            9..=14 => self.get(at),
            15 | 16 => self.create(at),
            17 => self.delete(at),
            _ => self.rename(at),
        };
        done.and_then(|()| self.compare_store()).map_err(|why| (at, why))
    }

    fn set(&mut self, at: usize) -> Result<(), String> {
        let session = &mut self.sessions[at];
        let dialect = if self.random.one_in(2) { Dialect::Rfc5464 } else { Dialect::Draft };
        let on_server = self.random.one_in(3);
        let (pattern, mailboxes) = match dialect {
            _ if on_server => (String::new(), vec![String::new()]),
            Dialect::Draft if self.random.one_in(6) => {
                let pattern = *self.random.pick(&["*", "Work*", "Office/%", "No*"]);
                (pattern.to_owned(), self.truth.matching(pattern))
            }
            _ => {
                let name = some_mailbox(&mut self.random, &self.truth);
                if dialect == Dialect::Draft && name.contains('*') {
                    // To the draft it is a pattern.
                    return Ok(());
                }
                (name.clone(), vec![name])
            }
        };
        let edits = truth::some_edits(&mut self.random, on_server);
        let expected = self.truth.set(&mailboxes, &session.device, &edits);
        let answer = session.set(dialect, &pattern, &edits)?;
        match (answer.is_ok(), expected) {
            (true, Ok((truth, device))) => {
                self.truth = truth;
                session.device = device;
                Ok(())
            }
            (false, Err(_)) => Ok(()),
            (true, Err(why)) => Err(format!("it was taken: {why}")),
            (false, Ok(_)) => Err(format!("refused: {} {}", answer.status, answer.text)),
        }
    }

    fn get(&mut self, at: usize) -> Result<(), String> {
        let session = &mut self.sessions[at];
        if self.random.one_in(4) {
            let (patterns, attributes) = truth::some_attributes(&mut self.random);
            let expected = self.truth.attributes(&session.device, &patterns, &attributes);
            let found = session.get_attributes(&patterns, &attributes)?;
            return same("the draft's answer", &found, &expected);
        }
        let mailbox = match self.random.one_in(3) {
            true => String::new(),
            false => some_mailbox(&mut self.random, &self.truth),
        };
        let get = Get::random(&mut self.random, mailbox);
        let expected = self.truth.get(&session.device, &get);
        let found = session.get(&get)?;
        match (found, expected) {
            (None, None) => Ok(()),
            (Some((found, longest)), Some((expected, skipped))) => {
                same("the answer", &found, &expected)?;
                same("LONGENTRIES", &longest, &skipped)
            }
            (found, expected) => Err(format!("answered: {}, expected: {}", found.is_some(), expected.is_some())),
        }
    }

    fn create(&mut self, at: usize) -> Result<(), String> {
        let name = *self.random.pick(&NAMES);
        let expected = !self.truth.mailboxes.contains(name);
        if self.sessions[at].command("CREATE", &[name])? != expected {
            return Err(format!("CREATE {name}: expected {expected}"));
        }
        self.truth.mailboxes.insert(name.to_owned());
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<(), String> {
        let name = some_mailbox(&mut self.random, &self.truth);
        let expected = name != "INBOX" && self.truth.mailboxes.contains(&name);
        if self.sessions[at].command("DELETE", &[&name])? != expected {
            return Err(format!("DELETE {name}: expected {expected}"));
        }
        if expected {
            self.truth.delete(&name);
        }
        Ok(())
    }

    fn rename(&mut self, at: usize) -> Result<(), String> {
        let from = some_mailbox(&mut self.random, &self.truth);
        let to = *self.random.pick(&NAMES);
        if !self.truth.may_be_renamed(&from, to) {
            return Ok(());
        }
        let expected = self.truth.mailboxes.contains(&from) && !self.truth.mailboxes.contains(to);
        if self.sessions[at].command("RENAME", &[&from, to])? != expected {
            return Err(format!("RENAME {from} {to}: expected {expected}"));
        }
        if expected {
            self.truth.rename(&from, to);
        }
        Ok(())
    }

    /// What is kept, here and by the backend, is what the truth says.
    fn compare_store(&mut self) -> Result<(), String> {
        let [here, there] = kept(&self.store, &self.sessions[0].scene.backend)?;
        same("the store", &here, &self.truth.entries_here())?;
        same("the backend", &there, &self.truth.entries_there())
    }

    /// Everything below every root, as each device reads it.
    fn compare_all(&mut self) -> Result<(), (usize, String)> {
        let mailboxes: Vec<String> = self.truth.mailboxes.iter().cloned().chain([String::new()]).collect();
        for at in 0..2 {
            for mailbox in &mailboxes {
                let get = Get::everything(mailbox.clone());
                let session = &mut self.sessions[at];
                let found = session.get(&get).map_err(|why| (at, why))?;
                let expected = self.truth.get(&session.device, &get);
                same("at the end", &found, &expected).map_err(|why| (at, format!("{mailbox:?} {why}")))?;
            }
        }
        Ok(())
    }
}

/// All entries that are kept here, and by the backend.
fn kept(store: &Kept, backend: &Backend) -> Result<[BTreeMap<Place, Vec<u8>>; 2], String> {
    let account = AccountName { backend: "main".into(), user: "joe".into() };
    let mut answer = store.inner.load(&account, &Query::Entries);
    let Poll::Ready(Ok(Found::Entries(entries))) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        return Err("the store is not there".to_owned());
    };
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let here = entries.iter().map(|entry| {
        let device = match &entry.key.owner {
            Owner::User => String::new(),
            Owner::Device(device) => device.to_string(),
        };
        ((text(&entry.key.mailbox), device, entry.key.name.to_string()), entry.value.to_vec())
    });
    let store = backend.store();
    let of_mailboxes = store.mailboxes.iter().map(|(name, mailbox)| (name.as_str(), &mailbox.annotations));
    let there = of_mailboxes.chain([("", &store.annotations)]).flat_map(|(mailbox, annotations)| {
        annotations.iter().map(move |(name, value)| ((mailbox.to_owned(), String::new(), name.clone()), value.clone()))
    });
    Ok([here.collect(), there.collect()])
}

/// One that is there, mostly; and INBOX in any case.
fn some_mailbox(random: &mut Random, truth: &Truth) -> String {
    if random.one_in(10) {
        return (*random.pick(&NAMES)).to_owned();
    }
    let there: Vec<&String> = truth.mailboxes.iter().collect();
    (*random.pick(&there)).clone()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}:\n   found {found:?}\nexpected {expected:?}")),
    }
}

/// Walks of some hundred steps, until the steps are used up; what was noticed, if anything.
fn walks(seed: u64, steps: usize, native: impl Fn(&mut Random) -> bool, flaw: Option<Flaw>) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut left = steps;
    while left > 0 {
        let length = random.within(50..400).min(left);
        left -= length;
        let native = native(&mut random);
        let walk = random.bits();
        let end = World::new(Random::new(walk), native, flaw).and_then(|world| world.walk(length));
        end.map_err(|why| format!("SEED={seed}, walk {walk}, native {native}: {why}"))?;
    }
    Ok(())
}

fn walk(native: bool) {
    let seed = Random::seed();
    println!("SEED={seed}");
    let steps = std::env::var("WALK_STEPS").ok().and_then(|steps| steps.parse().ok());
    let usual = if std::env::var_os("LEMONADE_LONG").is_some() { 10 * STEPS } else { STEPS };
    let steps = steps.unwrap_or(usual);
    if let Err(failure) = walks(seed, steps, |_| native, None) {
        panic!("{failure}");
    }
}

#[test]
fn annotations_of_ours_are_what_was_set() {
    walk(false);
}

#[test]
fn annotations_are_the_same_before_a_backend_that_has_its_own() {
    walk(true);
}

#[test]
fn flaws_of_a_store_are_caught() {
    for flaw in [Flaw::StaysBehind, Flaw::Outlives, Flaw::LosesTheLast] {
        let noticed = walks(4711, FLAWED, |random| random.one_in(2), Some(flaw));
        assert!(noticed.is_err(), "{flaw:?} was not noticed within {FLAWED} steps");
    }
}
