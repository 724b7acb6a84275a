//! How much an account may make us write in a day, whatever its devices say.
//!
//!     devices 20         with routes; those beyond wait until others go
//!     notices 1000       a day, questions among them; the next one waits for the next day
//!     destinations 20    addresses a day to which something goes for the first time; codes a day
//!
//! What was counted is saved with what it was counted for, before that is sent: so it holds across a restart. A day is one of UTC. What is
//! beyond a quota is not lost: it waits, and the journal says so. Requirements N13, N21.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::store::{DeviceName, Memo, Way};

/// Codes a day for one device.
const CODES: u32 = 3;

/// The name under which it is remembered what was counted.
const NAME: &str = "quota";

/// `[outband.quota]`: of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Devices that are told.
    pub devices: u32,
    /// Notices a day.
    pub notices: u32,
    /// New addresses a day; as many codes are sent.
    pub destinations: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { devices: 20, notices: 1000, destinations: 20 }
    }
}

/// What of it is used up today.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The day, of the days since 1970.
    day: u64,
    notices: u32,
    /// Hashes of the new addresses.
    destinations: BTreeSet<Box<str>>,
    codes: BTreeMap<Box<str>, u32>,
    /// It has changed since it was saved.
    #[serde(skip)]
    is_fresh: bool,
}

impl Used {
    /// What was remembered; of what cannot be read nothing is used up.
    pub fn read(memos: &[Memo]) -> Self {
        let state = memos.iter().find(|memo| &*memo.name == NAME).and_then(|memo| memo.state.as_deref());
        state.and_then(|state| serde_json::from_str(state).ok()).unwrap_or_default()
    }

    /// What is to be remembered, where it has changed.
    pub fn take(&mut self) -> Option<Memo> {
        // Nothing in it can fail: its keys are text.
        let state = || Some(serde_json::to_string(self).unwrap_or_default().into());
        let memo = self.is_fresh.then(|| Memo { name: NAME.into(), state: state() });
        self.is_fresh = false;
        memo
    }

    /// Whether another notice may go.
    pub fn has_notice(&self, quota: &Quota, now: Duration) -> bool {
        !self.is_of(now) || self.notices < quota.notices
    }

    /// Whether something may go to an address for the first time.
    pub fn has_destination(&self, quota: &Quota, way: &Way, now: Duration) -> bool {
        let most = usize::try_from(quota.destinations).unwrap_or(usize::MAX);
        !self.is_of(now) || self.destinations.len() < most || self.destinations.contains(&*hash(way))
    }

    /// Whether a device may be sent a code.
    pub fn has_code(&self, quota: &Quota, device: &DeviceName, now: Duration) -> bool {
        let own = self.codes.get(device.as_str()).copied().unwrap_or_default();
        !self.is_of(now) || (own < CODES && self.codes.values().sum::<u32>() < quota.destinations)
    }

    /// Counts a notice.
    pub fn count_notice(&mut self, now: Duration) {
        self.roll(now);
        self.notices += 1;
    }

    /// Counts an address to which something goes for the first time.
    pub fn count_destination(&mut self, way: &Way, now: Duration) {
        self.roll(now);
        self.destinations.insert(hash(way));
    }

    /// Counts a code.
    pub fn count_code(&mut self, device: &DeviceName, now: Duration) {
        self.roll(now);
        *self.codes.entry(device.as_str().into()).or_default() += 1;
    }

    /// A clock that goes back gives nobody more.
    fn roll(&mut self, now: Duration) {
        if !self.is_of(now) {
            *self = Self { day: day(now), ..Self::default() };
        }
        self.is_fresh = true;
    }

    fn is_of(&self, now: Duration) -> bool {
        day(now) <= self.day
    }
}

/// When the next day begins, since 1970.
pub fn tomorrow(now: Duration) -> Duration {
    Duration::from_secs((day(now) + 1) * DAY)
}

fn day(now: Duration) -> u64 {
    now.as_secs() / DAY
}

fn hash(way: &Way) -> Box<str> {
    let hash = digest(&SHA256, way.to.as_bytes());
    hash.as_ref()[..8].iter().map(|octet| format!("{octet:02x}")).collect::<String>().into()
}

/// Seconds of a day.
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(20_000 * DAY + DAY / 2);

    fn way(device: &str, to: &str) -> Way {
        Way { device: DeviceName::parse(device.as_bytes()).unwrap(), to: to.into() }
    }

    #[test]
    fn what_is_used_up_is_there_again_the_next_day() {
        let quota = Quota { devices: 1, notices: 2, destinations: 1 };
        let (one, other) = (way("phone", "SMS +4915112345678"), way("phone", "SMS +4915112345679"));
        let mut used = Used::default();
        (0..2).for_each(|_| used.count_notice(NOON));
        used.count_destination(&one, NOON);
        used.count_code(&one.device, NOON);
        let may = |now| {
            let destinations = [&one, &other].map(|way| used.has_destination(&quota, way, now));
            (used.has_notice(&quota, now), destinations, used.has_code(&quota, &one.device, now))
        };
        assert_eq!(may(NOON), (false, [true, false], false), "the same address is not a new one");
        assert_eq!(may(NOON - Duration::from_secs(DAY)), may(NOON), "the clock has gone back");
        assert_eq!(may(tomorrow(NOON)), (true, [true, true], true));
        assert_eq!(tomorrow(NOON), Duration::from_secs(20_001 * DAY));
    }

    #[test]
    fn a_device_gets_three_codes() {
        let mut used = Used::default();
        let (phone, tablet) = (way("phone", "x").device, way("tablet", "x").device);
        (0..3).for_each(|_| used.count_code(&phone, NOON));
        let has = |device| used.has_code(&Quota::default(), device, NOON);
        assert_eq!((has(&phone), has(&tablet)), (false, true));
    }

    #[test]
    fn what_was_counted_is_remembered_and_names_no_address() {
        let mut used = Used::default();
        assert_eq!(used.take(), None);
        used.count_destination(&way("phone", "SMS +4915112345678"), NOON);
        let memo = used.take().unwrap();
        assert_eq!((Used::read(std::slice::from_ref(&memo)), used.take()), (used.clone(), None));
        assert!(!memo.state.unwrap().contains("4915112345678"));
        let broken = Memo { name: NAME.into(), state: Some("{".into()) };
        assert_eq!((Used::read(&[broken]), Used::read(&[])), (Used::default(), Used::default()));
    }
}
