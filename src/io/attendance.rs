//! What the desk of an account is told of a session: that it is there, and what its client has seen.
//!
//!     S: * 24 EXISTS            told up to UID 102: perhaps it arrives
//!     C: DONE                   soon behind it: perhaps it was said before
//!     C: b UID FETCH 101:*      it has arrived
//!
//! What was written to a client may be lost on its way: that it has seen it shows when it speaks again, later than a message takes,
//! or for the second time. Until then it would be told outband. Requirement N3.

use std::time::{Duration, Instant};

use crate::session::Shown;

/// A mailbox, its UIDVALIDITY, and the UID below which all was told.
pub(super) type Seen = (Box<[u8]>, Option<u32>, u32);

/// What the desk knows of a session.
#[derive(Debug)]
pub(super) struct Attendance {
    idles: bool,
    spoke_at: Instant,
    told: Option<Told>,
    confirmed: Option<Seen>,
}

#[derive(Debug)]
struct Told {
    seen: Seen,
    at: Instant,
    answers: u32,
}

/// That a client speaks is said once in this time: well below the half hour for which it counts.
const EVERY: Duration = Duration::from_secs(60);

/// Longer than what a client says is on its way.
const LATER: Duration = Duration::from_secs(1);

impl Attendance {
    pub(super) fn new(idles: bool) -> Self {
        Self { idles, spoke_at: Instant::now(), told: None, confirmed: None }
    }

    /// Whether the desk is to hear that the client speaks.
    pub(super) fn speaks(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.spoke_at) >= EVERY;
        if is_due {
            self.spoke_at = now;
        }
        is_due
    }

    /// The client is in IDLE, or is not; whether that is new.
    pub(super) fn idles(&mut self, idles: bool) -> Option<bool> {
        (std::mem::replace(&mut self.idles, idles) != idles).then_some(idles)
    }

    /// The client was told this, perhaps just now. If that is new: the mailbox, and the UID below which all was told.
    pub(super) fn saw(&mut self, shown: Option<Shown<'_>>) -> Option<(Box<[u8]>, u32)> {
        let Shown { mailbox, uidvalidity, uidnext } = shown?;
        let is_it = |seen: &Seen| *seen.0 == *mailbox && (seen.1, seen.2) == (uidvalidity, uidnext);
        let known = self.told.as_ref().map(|told| &told.seen).or(self.confirmed.as_ref());
        if known.is_some_and(is_it) {
            return None;
        }
        let seen = (mailbox.into(), uidvalidity, uidnext);
        self.told = Some(Told { seen, at: Instant::now(), answers: 0 });
        Some((mailbox.into(), uidnext))
    }

    /// The client says something: what it has seen by now, if that is new.
    pub(super) fn confirmed(&mut self, now: Instant) -> Option<Seen> {
        let told = self.told.as_mut()?;
        told.answers += 1;
        if told.answers < 2 && now.duration_since(told.at) < LATER {
            return None;
        }
        let Told { seen, .. } = self.told.take()?;
        self.confirmed = Some(seen.clone());
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uidnext: u32) -> Option<Shown<'static>> {
        Some(Shown { mailbox: b"INBOX", uidvalidity: Some(7), uidnext })
    }

    #[test]
    fn what_a_client_was_told_it_has_seen_when_it_speaks_later_or_twice() {
        let now = Instant::now();
        let mut session = Attendance::new(false);
        session.saw(shown(18));
        assert_eq!(session.confirmed(now), None, "it may have said so before");
        let seen = |uidnext| Some((Box::from(*b"INBOX"), Some(7), uidnext));
        assert_eq!(session.confirmed(now), seen(18));
        session.saw(shown(18));
        assert_eq!(session.confirmed(now), None, "that is known");
        session.saw(shown(19));
        session.saw(None);
        assert_eq!(session.confirmed(now + 2 * LATER), seen(19));
    }

    #[test]
    fn more_that_it_is_told_begins_anew() {
        let mut session = Attendance::new(false);
        session.saw(shown(18));
        session.confirmed(Instant::now());
        session.saw(shown(19));
        assert_eq!(session.confirmed(Instant::now()), None);
    }

    #[test]
    fn what_is_said_often_is_told_seldom() {
        let mut session = Attendance::new(true);
        let now = Instant::now();
        assert!(!session.speaks(now) && session.speaks(now + EVERY) && !session.speaks(now + EVERY));
        assert_eq!([session.idles(true), session.idles(false)], [None, Some(false)]);
    }
}
