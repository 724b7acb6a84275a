//! Admission: how many connections and sessions one peer may have, and how often it may fail to log in.
//!
//! Counters are by IPv4 address, by IPv6 /64 (the least that a subscriber gets, so its addresses cost nothing) and by user.
//! Failures slow down the next attempt, ever more, and then it is refused; a success forgives the user, not the address.
//! All of it is bounded: counters live as long as what they count, the table of failures has a size.
//!
//! Nothing here asks the clock.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hash},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use serde::{Deserialize, Serialize};

use crate::{session::effect::DialError, units::Span};

/// `[admission]`: how much one address or one user may have of us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Connections in all. Each needs a file descriptor, and another one to the backend.
    pub connections: u32,
    /// Connections of one address. A carrier puts up to a few thousand phones behind one IPv4 address, and each of them
    /// may hold several connections, so this is a bound on damage, not on use.
    pub connections_per_address: u32,
    /// Connections of one IPv6 /64, which is one phone, one household or one office, never a whole carrier.
    pub connections_per_64: u32,
    /// Sessions of one user: five devices that open ten connections each.
    pub sessions_per_user: u32,
    /// Failed logins of one address (or IPv6 /64) within the window before it is refused. Behind a carrier's address some
    /// phones always have an old password, so this is far above what one of them can do.
    pub failures_per_address: u32,
    /// Failed logins of one user within the window before the user is refused.
    pub failures_per_user: u32,
    /// How long the next login of a user waits after a failed one; it doubles with each further failure. Those of an address
    /// wait from half its limit on, so that one phone does not slow down all the others behind the same address.
    pub failure_delay: Span,
    /// The longest such wait.
    pub failure_delay_limit: Span,
    /// How long after the last of them failures are remembered.
    pub failure_window: Span,
    /// TLS handshakes under way at the same time, in all: each costs a signature.
    pub handshakes: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 4096,
            connections_per_64: 512,
            sessions_per_user: 50,
            failures_per_address: 500,
            failures_per_user: 20,
            failure_delay: Span::seconds(1),
            failure_delay_limit: Span::seconds(15),
            failure_window: Span::minutes(10),
            handshakes: 1024,
        }
    }
}

/// Who is here, and who has failed.
#[derive(Debug)]
pub struct Door {
    rules: ArcSwap<Admission>,
    total: Arc<Counters<()>>,
    addresses: Arc<Counters<IpAddr>>,
    networks: Arc<Counters<Ipv6Addr>>,
    users: Arc<Counters<Arc<str>>>,
    failures: DashMap<u64, Failures>,
    /// Names are kept as keyed hashes: a guesser fills the table with what it likes, but not with long names.
    hasher: RandomState,
}

/// Why a connection is closed before a word is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are too many connections.
    #[error("too many connections")]
    Total,
    /// The address has too many.
    #[error("too many connections of this address")]
    Address,
    /// The IPv6 /64 has too many.
    #[error("too many connections of this network")]
    Network,
}

/// A connection that was let in; dropping it makes room again.
#[derive(Debug)]
pub struct Admitted {
    _total: Counted<()>,
    _address: Counted<IpAddr>,
    _network: Option<Counted<Ipv6Addr>>,
}

/// A session of a user; dropping it makes room again.
pub type UserSession = Counted<Arc<str>>;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Door {
    /// Entries of the table of failures, some 40 octets each. When it is full of fresh ones, further failures are not
    /// remembered by user; those of addresses, which are fewer, have half of it for themselves.
    const FAILURES: usize = 1 << 16;

    /// A house with nobody in it.
    pub fn new(rules: Admission) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            total: Arc::default(),
            addresses: Arc::default(),
            networks: Arc::default(),
            users: Arc::default(),
            failures: DashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Other rules from now on; who is in stays in.
    pub fn change(&self, rules: Admission) {
        self.rules.store(Arc::new(rules));
    }

    /// Lets a connection in.
    pub fn admit(&self, address: IpAddr) -> Result<Admitted, Refusal> {
        let rules = self.rules.load();
        let address = address.to_canonical();
        let network = network_of(address)
            .map(|network| self.networks.count(network, rules.connections_per_64).ok_or(Refusal::Network))
            .transpose()?;
        Ok(Admitted {
            _total: self.total.count((), rules.connections).ok_or(Refusal::Total)?,
            _address: self.addresses.count(address, rules.connections_per_address).ok_or(Refusal::Address)?,
            _network: network,
        })
    }

    /// Lets a user in once more.
    pub fn admit_user(&self, user: &Arc<str>) -> Result<UserSession, DialError> {
        let most = self.rules.load().sessions_per_user;
        self.users.count(user.clone(), most).ok_or(DialError::TooManySessions)
    }

    /// How long an attempt to log in has to wait, or that it is refused.
    pub fn delay(&self, user: Option<&str>, address: IpAddr, now: Instant) -> Result<Duration, DialError> {
        let rules = self.rules.load();
        let free = rules.failures_per_address / 2;
        let address = self.wait(self.address_key(address), rules.failures_per_address, free, now)?;
        let user = match user {
            Some(user) => self.wait(self.user_key(user), rules.failures_per_user, 0, now)?,
            None => Duration::ZERO,
        };
        Ok(user.max(address))
    }

    fn wait(&self, key: u64, most: u32, free: u32, now: Instant) -> Result<Duration, DialError> {
        let rules = self.rules.load();
        let count = match self.failures.get(&key) {
            Some(failures) if !failures.is_over(&rules, now) => failures.count,
            _ => return Ok(Duration::ZERO),
        };
        if count >= most {
            return Err(DialError::TooManyFailures);
        }
        let Some(doublings) = count.checked_sub(free + 1) else { return Ok(Duration::ZERO) };
        let wait = rules.failure_delay.0.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        Ok(wait.min(rules.failure_delay_limit.0))
    }

    /// A backend refused a login.
    pub fn failed(&self, user: Option<&str>, address: IpAddr, now: Instant) {
        self.remember(self.address_key(address), Self::FAILURES, now);
        if let Some(user) = user {
            self.remember(self.user_key(user), Self::FAILURES / 2, now);
        }
    }

    fn remember(&self, key: u64, most: usize, now: Instant) {
        let rules = self.rules.load();
        if let Some(mut failures) = self.failures.get_mut(&key) {
            failures.count = if failures.is_over(&rules, now) { 1 } else { failures.count.saturating_add(1) };
            failures.last = now;
            return;
        }
        if self.failures.len() < most {
            self.failures.insert(key, Failures { count: 1, last: now });
        }
    }

    /// A backend accepted a login: what the user failed at before is forgotten.
    pub fn succeeded(&self, user: &str) {
        // Nearly always there is nothing to forget, and looking is cheaper than locking.
        let key = self.user_key(user);
        if self.failures.contains_key(&key) {
            self.failures.remove(&key);
        }
    }

    /// Forgets failures whose window is over; to be called now and then.
    pub fn sweep(&self, now: Instant) {
        let rules = self.rules.load();
        self.failures.retain(|_, failures| !failures.is_over(&rules, now));
    }

    fn address_key(&self, address: IpAddr) -> u64 {
        let address = address.to_canonical();
        self.hasher.hash_one((0u8, network_of(address).map_or(address, IpAddr::V6)))
    }

    /// Most backends do not tell `Joe` from `joe`, and a guesser shall not gain by it.
    fn user_key(&self, user: &str) -> u64 {
        self.hasher.hash_one((1u8, user.to_ascii_lowercase()))
    }
}

impl Failures {
    fn is_over(&self, rules: &Admission, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= rules.failure_window.0
    }
}

/// The /64 of an IPv6 address.
fn network_of(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// How many there are of each; what there is none of takes no room.
type Counters<K> = DashMap<K, u32>;

/// Counting, and counting back.
trait Count<K: Eq + Hash + Clone> {
    /// One more of these, unless there are `most` already.
    fn count(&self, key: K, most: u32) -> Option<Counted<K>>;
}

impl<K: Eq + Hash + Clone> Count<K> for Arc<Counters<K>> {
    fn count(&self, key: K, most: u32) -> Option<Counted<K>> {
        match self.entry(key.clone()) {
            Entry::Occupied(mut number) if *number.get() < most => *number.get_mut() += 1,
            Entry::Vacant(place) if most > 0 => drop(place.insert(1)),
            _ => return None,
        }
        Some(Counted { of: self.clone(), key })
    }
}

/// One that is counted for as long as it lives.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash + Clone> {
    of: Arc<Counters<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.of.entry(self.key.clone()) {
            match entry.get_mut() {
                1 => drop(entry.remove()),
                number => *number -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(change: impl FnOnce(&mut Admission)) -> Door {
        let mut rules = Admission::default();
        change(&mut rules);
        Door::new(rules)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_number_of_connections_and_gets_them_back() {
        let door = door(|rules| rules.connections_per_address = 2);
        let first = door.admit(ip("192.0.2.7")).unwrap();
        let _second = door.admit(ip("::ffff:192.0.2.7")).unwrap();
        assert_eq!(door.admit(ip("192.0.2.7")).unwrap_err(), Refusal::Address);
        assert!(door.admit(ip("192.0.2.8")).is_ok());
        drop(first);
        assert!(door.admit(ip("192.0.2.7")).is_ok());
    }

    #[test]
    fn the_addresses_of_one_64_count_together() {
        let door = door(|rules| rules.connections_per_64 = 2);
        let held = [door.admit(ip("2001:db8::1")).unwrap(), door.admit(ip("2001:db8::ffff:2")).unwrap()];
        assert_eq!(door.admit(ip("2001:db8::3")).unwrap_err(), Refusal::Network);
        assert!(door.admit(ip("2001:db8:0:1::3")).is_ok());
        drop(held);
        assert!(door.networks.is_empty() && door.addresses.is_empty() && door.total.is_empty());
    }

    #[test]
    fn there_is_a_number_of_connections_in_all() {
        let door = door(|rules| rules.connections = 1);
        let held = door.admit(ip("192.0.2.7"));
        assert_eq!(door.admit(ip("192.0.2.8")).unwrap_err(), Refusal::Total);
        drop(held);
        assert!(door.admit(ip("192.0.2.8")).is_ok());
    }

    #[test]
    fn a_limit_of_none_leaves_nothing_behind() {
        let door = door(|rules| rules.sessions_per_user = 0);
        assert_eq!(door.admit_user(&"joe".into()).unwrap_err(), DialError::TooManySessions);
        assert!(door.users.is_empty());
    }

    #[test]
    fn a_user_waits_longer_after_each_failure_and_is_then_refused() {
        let door = door(|rules| rules.failures_per_user = 6);
        let now = Instant::now();
        let waits = [0, 1, 2, 4, 8, 15];
        for (failures, seconds) in waits.into_iter().enumerate() {
            assert_eq!(door.delay(Some("joe"), ip("192.0.2.7"), now), Ok(Duration::from_secs(seconds)), "{failures}");
            door.failed(Some("Joe"), ip("192.0.2.7"), now);
        }
        assert_eq!(door.delay(Some("joe"), ip("192.0.2.8"), now), Err(DialError::TooManyFailures));
        assert_eq!(door.delay(Some("ann"), ip("192.0.2.7"), now), Ok(Duration::ZERO));
    }

    #[test]
    fn failures_are_forgotten_when_the_window_is_over() {
        let door = door(|rules| rules.failures_per_user = 1);
        let now = Instant::now();
        door.failed(Some("joe"), ip("192.0.2.7"), now);
        assert!(door.delay(Some("joe"), ip("192.0.2.7"), now + Duration::from_secs(599)).is_err());
        let later = now + Duration::from_secs(600);
        assert!(door.delay(Some("joe"), ip("192.0.2.7"), later).is_ok());
        door.sweep(later);
        assert!(door.failures.is_empty());
    }

    #[test]
    fn a_success_forgives_the_user_and_not_the_address() {
        let door = door(|rules| rules.failures_per_address = 4);
        let now = Instant::now();
        for _ in 0..4 {
            door.failed(Some("joe"), ip("2001:db8::1"), now);
        }
        door.succeeded("JOE");
        assert_eq!(door.delay(Some("joe"), ip("2001:db8:0:1::1"), now), Ok(Duration::ZERO));
        assert_eq!(door.delay(Some("joe"), ip("2001:db8::2"), now), Err(DialError::TooManyFailures));
    }

    #[test]
    fn an_address_is_slowed_down_from_half_its_limit_on() {
        let door = door(|rules| rules.failures_per_address = 4);
        let now = Instant::now();
        for seconds in [0, 0, 0, 1] {
            assert_eq!(door.delay(None, ip("192.0.2.7"), now), Ok(Duration::from_secs(seconds)));
            door.failed(None, ip("192.0.2.7"), now);
        }
        assert!(door.delay(None, ip("192.0.2.7"), now).is_err());
    }

    #[test]
    fn the_table_of_failures_is_bounded() {
        let door = door(|_| ());
        let now = Instant::now();
        for n in 0..Door::FAILURES {
            door.failed(Some(&n.to_string()), ip("192.0.2.7"), now);
        }
        assert!(door.failures.len() <= Door::FAILURES / 2);
        door.failed(None, ip("192.0.2.8"), now);
        assert!(door.failures.contains_key(&door.address_key(ip("192.0.2.8"))));
    }
}
