//! How a backend tells its news, as far as its sessions have found out.
//!
//!     joe's session    "IDLE keeps things to itself here: NOOP"      joe's next sessions begin with NOOP
//!     ann's session    "so it is"                                    and so do all others, for a day
//!
//! One odd mailbox shall not change how everybody is served: what one account finds holds for that account, and for others only
//! when a second one has found it too. Servers are mended, so nothing of it lasts longer than a day. Issue 4.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::session::profile::Look;

/// What is held against a backend.
#[derive(Debug, Default)]
pub struct Learning(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What an account has found. One is enough to remember: it is the second one that decides.
    first: Option<(Box<str>, Look, Instant)>,
    /// What two have found.
    agreed: Option<(Look, Instant)>,
}

/// So long it is believed; then the backend may show what it can do now.
const LASTS: Duration = Duration::from_secs(24 * 3600);

impl Learning {
    /// How the sessions of this user begin, if not as the backend says.
    pub fn look(&self, user: &str, now: Instant) -> Option<Look> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.forget(now);
        let own = known.first.as_ref().filter(|(first, ..)| **first == *user).map(|(_, look, _)| *look);
        own.max(known.agreed.map(|(agreed, _)| agreed))
    }

    /// A session of this user has found this out. The answer is what holds for everybody from now on and did not before.
    pub fn found(&self, user: &str, look: Look, now: Instant) -> Option<Look> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.forget(now);
        let other = known.first.as_ref().filter(|(first, ..)| **first != *user).map(|(_, other, _)| *other);
        if other.is_none_or(|other| look > other) {
            known.first = Some((user.into(), look, now));
        }
        let agreed =
            other.map(|other| other.min(look)).filter(|both| known.agreed.is_none_or(|(old, _)| old < *both))?;
        known.agreed = Some((agreed, now));
        Some(agreed)
    }
}

impl Known {
    fn forget(&mut self, now: Instant) {
        let lasts = |since: Instant| now < since + LASTS;
        self.first = self.first.take().filter(|(.., since)| lasts(*since));
        self.agreed = self.agreed.filter(|(_, since)| lasts(*since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_account_finds_holds_for_that_account() {
        let (learning, now) = (Learning::default(), Instant::now());
        assert_eq!(learning.found("joe", Look::Noop, now), None);
        assert_eq!(learning.found("joe", Look::Reselect, now), None, "the same account again is no second one");
        assert_eq!(learning.look("joe", now), Some(Look::Reselect));
        assert_eq!(learning.look("ann", now), None);
    }

    #[test]
    fn what_two_accounts_find_holds_for_all() {
        let (learning, now) = (Learning::default(), Instant::now());
        assert_eq!(learning.found("joe", Look::Reselect, now), None);
        assert_eq!(learning.found("ann", Look::Noop, now), Some(Look::Noop), "as far as they agree");
        assert_eq!(learning.look("sue", now), Some(Look::Noop));
        assert_eq!(learning.look("joe", now), Some(Look::Reselect));
        assert_eq!(learning.found("sue", Look::Noop, now), None, "known");
        assert_eq!(learning.found("sue", Look::Reselect, now), Some(Look::Reselect));
    }

    #[test]
    fn it_is_forgotten_after_a_day() {
        let (learning, now) = (Learning::default(), Instant::now());
        assert_eq!(learning.found("joe", Look::Noop, now), None);
        let later = now + LASTS;
        assert_eq!(learning.found("ann", Look::Noop, later), None, "what joe has found is a day old");
        assert_eq!(learning.found("joe", Look::Noop, later), Some(Look::Noop));
        assert_eq!(learning.look("sue", later + LASTS), None);
    }
}
