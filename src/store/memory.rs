//! The store of tests: the same answers, and nothing left when it is dropped.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    AccountName, Answer, Change, Changed, Device, DeviceName, Entry, Found, Key, Line, MOST_DEVICES, MOST_LINES, Memo,
    Outband, Owner, Query, Quota, Store, StoreError, Turn, Way,
    feed::{Feed, Keep, Logged, Position, Tail},
    renamed,
};

/// Keeps all of it in memory.
#[derive(Debug, Default)]
pub struct Memory {
    accounts: Mutex<BTreeMap<AccountName, Account>>,
    log: Mutex<Log>,
}

/// The events that wait for another server.
#[derive(Debug, Default)]
struct Log {
    position: Option<Position>,
    events: BTreeMap<u64, Logged>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    entries: BTreeMap<Key, Box<[u8]>>,
    devices: BTreeMap<DeviceName, Device>,
    routes: BTreeMap<Way, Box<str>>,
    looked: BTreeMap<Box<[u8]>, Box<str>>,
    memos: BTreeMap<Box<str>, Box<str>>,
    journal: Vec<Line>,
}

impl Memory {
    /// An account is replaced as a whole, so it is whole after a panic elsewhere too.
    fn accounts(&self) -> MutexGuard<'_, BTreeMap<AccountName, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn save<'a>(&'a self, account: &'a AccountName, change: &'a Change) -> Answer<'a, Changed> {
        Box::pin(async move {
            let mut accounts = self.accounts();
            let known = accounts.get(account).cloned();
            if known.is_none() && matches!(change, Change::Turn(_)) {
                // Of an account that was purged nothing comes back.
                return Ok(Changed::default());
            }
            let mut after = known.unwrap_or_default();
            let changed = after.change(change)?;
            match after.is_empty() {
                true => _ = accounts.remove(account),
                false => _ = accounts.insert(account.clone(), after),
            }
            Ok(changed)
        })
    }

    fn load<'a>(&'a self, account: &'a AccountName, query: &'a Query) -> Answer<'a, Found> {
        Box::pin(async move {
            let account = self.accounts().get(account).cloned().unwrap_or_default();
            let wanted = |key: &Key| !matches!(query, Query::Mailbox(mailbox) if *mailbox != key.mailbox);
            Ok(match query {
                Query::Devices => Found::Devices(account.devices.into_values().collect()),
                Query::Outband => {
                    let (routes, looked) = (account.routes.into_iter().collect(), account.looked.into_iter().collect());
                    let memos = account.memos.into_iter().map(|(name, state)| Memo { name, state: Some(state) });
                    Found::Outband(Outband { routes, looked, memos: memos.collect() })
                }
                Query::Journal => Found::Journal(account.journal),
                Query::Mailbox(_) | Query::Entries => {
                    let found = account.entries.into_iter().filter(|(key, _)| wanted(key));
                    Found::Entries(found.map(|(key, value)| Entry { key, value }).collect())
                }
            })
        })
    }

    fn subscribers(&self) -> Answer<'_, Vec<AccountName>> {
        Box::pin(async move {
            let accounts = self.accounts();
            let says = |key: &Key| key.owner != Owner::User;
            let subscribes = |account: &Account| !account.routes.is_empty() || account.entries.keys().any(says);
            let subscribed = accounts.iter().filter(|(_, account)| subscribes(account));
            Ok(subscribed.map(|(name, _)| name.clone()).collect())
        })
    }
}

impl Feed for Memory {
    fn begin<'a>(&'a self, stream: &'a str) -> Answer<'a, Position> {
        Box::pin(async move {
            let begun = || Position { stream: stream.into(), acked: 0, next: 1 };
            Ok(self.log().position.get_or_insert_with(begun).clone())
        })
    }

    fn append<'a>(&'a self, events: &'a [Logged], next: u64, keep: Keep) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut log = self.log();
            events.iter().for_each(|event| _ = log.events.entry(event.seq).or_insert_with(|| event.clone()));
            log.position.iter_mut().for_each(|position| position.next = position.next.max(next));
            let before = log.events.len();
            let (mut octets, mut first) = (0, next);
            for (seq, event) in log.events.iter().rev() {
                if octets >= keep.octets {
                    break;
                }
                octets += event.line.len() as u64;
                if event.at >= keep.since {
                    first = *seq;
                }
            }
            let first = first.max(next.saturating_sub(keep.events));
            log.events.retain(|seq, _| *seq >= first);
            Ok((before - log.events.len()) as u64)
        })
    }

    fn read(&self, behind: u64, events: u32, octets: u64) -> Answer<'_, Tail> {
        Box::pin(async move {
            let log = self.log();
            let mut left = octets;
            let fits = |(at, event): &(usize, &Logged)| {
                let len = if *at == 0 { 0 } else { event.line.len() as u64 };
                let fits = len <= left;
                left = left.saturating_sub(len);
                fits
            };
            let found = log.events.range(behind + 1..).map(|(_, event)| event).take(events as usize);
            let found = found.enumerate().take_while(fits).map(|(_, event)| event.clone()).collect();
            Ok(Tail { next: log.position.as_ref().map_or(1, |position| position.next), events: found })
        })
    }

    fn settle<'a>(&'a self, stream: &'a str, acked: u64, dropped: &'a [u64]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut log = self.log();
            if let Some(position) = &mut log.position {
                (position.stream, position.acked) = (stream.into(), acked);
            }
            log.events.retain(|seq, _| *seq > acked && !dropped.contains(seq));
            Ok(())
        })
    }
}

impl Account {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.devices.is_empty()
            && self.routes.is_empty()
            && self.looked.is_empty()
            && self.memos.is_empty()
            && self.journal.is_empty()
    }

    fn take_turn(&mut self, turn: &Turn) {
        turn.routes.iter().for_each(|(way, state)| set(&mut self.routes, way, state));
        turn.looked.iter().for_each(|(mailbox, state)| set(&mut self.looked, mailbox, state));
        turn.memos.iter().for_each(|memo| set(&mut self.memos, &memo.name, &memo.state));
        turn.entries.iter().for_each(|(key, value)| set(&mut self.entries, key, value));
        self.journal.extend_from_slice(&turn.journal);
        self.journal.drain(..self.journal.len().saturating_sub(MOST_LINES));
    }

    fn keeps_to(&self, quota: Quota) -> Result<(), StoreError> {
        let octets = self.entries.iter().map(|(key, value)| key.name.as_str().len() + value.len());
        quota.judge(self.entries.len() as u64, octets.sum::<usize>() as u64)
    }

    /// Of the devices that nothing is kept of, those that were seen last stay.
    fn forget_the_oldest(&mut self) {
        let kept = |name: &DeviceName| self.entries.keys().any(|key| key.owner == Owner::Device(name.clone()));
        let idle = self.devices.values().filter(|device| !kept(&device.name));
        let mut idle: Vec<_> = idle.map(|device| (Reverse(device.last_seen), device.name.clone())).collect();
        idle.sort();
        for (_, name) in idle.into_iter().skip(MOST_DEVICES) {
            self.devices.remove(&name);
        }
    }

    fn change(&mut self, change: &Change) -> Result<Changed, StoreError> {
        let (entries, devices) = (self.entries.len(), self.devices.len());
        let mut changed = Changed::default();
        match change {
            Change::Entries { edits, quota } => {
                for (key, value) in edits {
                    changed.entries += match value {
                        Some(value) => {
                            self.entries.insert(key.clone(), value.clone());
                            1
                        }
                        None => u64::from(self.entries.remove(key).is_some()),
                    };
                }
                if edits.iter().any(|(_, value)| value.is_some()) {
                    self.keeps_to(*quota)?;
                }
            }
            Change::Renamed { from, to, delimiter } => {
                let new_name = |mailbox: &[u8]| renamed(mailbox, from, to, *delimiter);
                let new_key = |key: &Key| new_name(&key.mailbox).map(|mailbox| Key { mailbox, ..key.clone() });
                changed.entries = rename(&mut self.entries, to, |key| &key.mailbox, new_key);
                rename(&mut self.looked, to, |mailbox| mailbox, |mailbox| new_name(mailbox));
            }
            Change::Copied { from, to, except, quota } => {
                self.entries.retain(|key, _| key.mailbox != *to);
                let goes = |key: &Key| key.mailbox == *from && !except.contains(&key.name.as_str());
                let copied: Vec<_> = self.entries.iter().filter(|(key, _)| goes(key)).collect();
                let copied =
                    copied.into_iter().map(|(key, value)| (Key { mailbox: to.clone(), ..key.clone() }, value.clone()));
                let copied: BTreeMap<_, _> = copied.collect();
                changed.entries = copied.len() as u64;
                self.entries.extend(copied);
                self.keeps_to(*quota)?;
            }
            Change::Deleted(mailbox) => {
                self.entries.retain(|key, _| key.mailbox != *mailbox);
                changed.entries = (entries - self.entries.len()) as u64;
            }
            Change::Once { mark, change } if self.entries.get(&mark.key) == Some(&mark.value) => {
                self.entries.remove(&mark.key);
                return self.change(change);
            }
            Change::Once { .. } => {}
            Change::Seen(device) => {
                let first_seen = self.devices.get(&device.name).map_or(device.first_seen, |known| known.first_seen);
                self.devices.insert(device.name.clone(), Device { first_seen, ..device.clone() });
                self.forget_the_oldest();
                changed.devices = 1;
            }
            Change::Turn(turn) => self.take_turn(turn),
            Change::Forget(name) => {
                self.routes.retain(|way, _| way.device != *name);
                self.journal.retain(|line| line.device.as_ref() != Some(name));
                self.entries.retain(|key, _| key.owner != Owner::Device(name.clone()));
                self.devices.remove(name);
                changed.entries = (entries - self.entries.len()) as u64;
                changed.devices = (devices - self.devices.len()) as u64;
            }
            Change::Purge => {
                *self = Self::default();
                changed = Changed { entries: entries as u64, devices: devices as u64 };
            }
        }
        Ok(changed)
    }
}

/// Moves rows to the new names of their mailboxes, which take all that is there; how many were moved.
fn rename<K: Ord, V>(
    rows: &mut BTreeMap<K, V>,
    to: &[u8],
    mailbox: impl Fn(&K) -> &Box<[u8]>,
    new_key: impl Fn(&K) -> Option<K>,
) -> u64 {
    let moved: BTreeMap<K, V> = rows
        .extract_if(.., |key, _| new_key(key).is_some())
        .filter_map(|(key, value)| Some((new_key(&key)?, value)))
        .collect();
    let taken: BTreeSet<&[u8]> = moved.keys().map(|key| &**mailbox(key)).chain([to]).collect();
    rows.retain(|key, _| !taken.contains(&**mailbox(key)));
    let count = moved.len() as u64;
    rows.extend(moved);
    count
}

fn set<K: Clone + Ord, V: Clone>(rows: &mut BTreeMap<K, V>, key: &K, row: &Option<V>) {
    match row {
        Some(row) => _ = rows.insert(key.clone(), row.clone()),
        None => _ = rows.remove(key),
    }
}
