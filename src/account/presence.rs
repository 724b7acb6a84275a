//! Whether a device is there, by what its sessions do.
//!
//!     session 1   comes   speaks   IDLE ................ a write  no acknowledgement for 2 min
//!     device      ------- present -----------------------------------------------------------| away: no grace, 2 min were
//!     session 2                       comes ...... LOGOUT                                       enough
//!
//! A device is present while one of its sessions, all of them authenticated, is in IDLE or has had traffic in the last 30 min, and has
//! no write that is unacknowledged for 2 min. A device that goes may be back soon: how long to wait for it depends on how its last session
//! went, 0 s behind LOGOUT, 30 s normally, 120 s behind a broken connection. That time is told and not waited for here: the state GRACE
//! of a route waits, because a route outlives a restart and this does not. Where no session has ended, and the only one has been silent for
//! too long, there is no grace: its own time was one. Requirement N3.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// When a session counts, and how long a device that has gone is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attention {
    /// A session outside IDLE counts so long behind its last traffic.
    pub silence: Span,
    /// A session counts no more when something written to it is unacknowledged for so long: its connection is given up, also where
    /// `tcp.user_timeout` is longer.
    pub unacknowledged: Span,
    /// So long a device is waited for behind LOGOUT, ...
    pub grace_logout: Span,
    /// ... when a connection was closed without one, ...
    pub grace_closed: Span,
    /// ... and when it broke; also behind a restart.
    pub grace_broken: Span,
}

/// A device, and its sessions.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// Those that are authenticated. How many there can be is bounded where they are admitted.
    sessions: BTreeMap<u64, Session>,
    /// What was last said of it.
    was_present: bool,
}

/// A session.
#[derive(Clone, Copy, Debug)]
struct Session {
    idles: bool,
    spoke_at: Duration,
    unacknowledged_since: Option<Duration>,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has logged in.
    Comes,
    /// Octets came from the client.
    Speaks,
    /// It is in IDLE, or is not any more.
    Idles(bool),
    /// When the oldest of what the client has not acknowledged was written to it; none: it has acknowledged all. The kernel says it when it
    /// gives a connection up.
    Unacknowledged(Option<Duration>),
    /// It is over.
    Goes(End),
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said LOGOUT.
    Logout,
    /// The connection was closed without it.
    Closed,
    /// It broke: it was reset, or nothing came through any more.
    Broken,
}

/// A device has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is there.
    Came,
    /// It is not there any more.
    Left {
        /// It may be back within this time.
        grace: Duration,
    },
}

impl Presence {
    /// Takes in what a session does; whether the device has come or gone by it. Signs of a session that is unknown say nothing, but that
    /// it comes.
    pub fn on(&mut self, session: u64, sign: Sign, now: Duration, attention: &Attention) -> Option<Turn> {
        let comes = Session { idles: false, spoke_at: now, unacknowledged_since: None };
        let mut grace = Duration::ZERO;
        match (sign, self.sessions.get_mut(&session)) {
            (Sign::Comes, _) => _ = self.sessions.insert(session, comes),
            (Sign::Speaks, Some(session)) => session.spoke_at = now,
            (Sign::Idles(idles), Some(session)) => (session.idles, session.spoke_at) = (idles, now),
            (Sign::Unacknowledged(since), Some(session)) => session.unacknowledged_since = since,
            (Sign::Goes(end), _) => {
                let gone = self.sessions.remove(&session);
                // One that did not count any more has had its grace.
                if gone.is_some_and(|session| session.counts(now, attention)) {
                    grace = attention.grace(end);
                }
            }
            (_, None) => {}
        }
        self.compare(grace, now, attention)
    }

    /// Whether the device has gone by the time that has passed: asked at [`Presence::next_change`].
    pub fn turn(&mut self, now: Duration, attention: &Attention) -> Option<Turn> {
        self.compare(Duration::ZERO, now, attention)
    }

    /// Nobody knows any more which sessions there are. Those that are there come again.
    pub fn lose_sight(&mut self, now: Duration, attention: &Attention) -> Option<Turn> {
        self.sessions.clear();
        self.compare(attention.grace_broken.0, now, attention)
    }

    /// Whether it is there.
    pub fn is_present(&self, now: Duration, attention: &Attention) -> bool {
        self.sessions.values().any(|session| session.counts(now, attention))
    }

    /// When it will be gone if nobody does anything; none: never, or it is gone.
    pub fn next_change(&self, now: Duration, attention: &Attention) -> Option<Duration> {
        let present = self.sessions.values().filter(|session| session.counts(now, attention));
        let ends: Option<Vec<Duration>> = present.map(|session| session.counts_until(attention)).collect();
        ends?.into_iter().max()
    }

    fn compare(&mut self, grace: Duration, now: Duration, attention: &Attention) -> Option<Turn> {
        let is_present = self.is_present(now, attention);
        let turn = if is_present { Turn::Came } else { Turn::Left { grace } };
        (std::mem::replace(&mut self.was_present, is_present) != is_present).then_some(turn)
    }
}

impl Session {
    fn counts(&self, now: Duration, attention: &Attention) -> bool {
        self.counts_until(attention).is_none_or(|end| now < end)
    }

    /// Until when it counts if nothing happens; none: for ever.
    fn counts_until(&self, attention: &Attention) -> Option<Duration> {
        let silent = (!self.idles).then(|| self.spoke_at.saturating_add(attention.silence.0));
        let deaf = self.unacknowledged_since.map(|since| since.saturating_add(attention.unacknowledged.0));
        silent.into_iter().chain(deaf).min()
    }
}

impl Attention {
    /// How long a device is waited for whose last session ended like this.
    pub fn grace(&self, end: End) -> Duration {
        match end {
            End::Logout => self.grace_logout.0,
            End::Closed => self.grace_closed.0,
            End::Broken => self.grace_broken.0,
        }
    }
}

impl Default for Attention {
    fn default() -> Self {
        Self {
            silence: Span::minutes(30),
            unacknowledged: Span::minutes(2),
            grace_logout: Span::seconds(0),
            grace_closed: Span::seconds(30),
            grace_broken: Span::seconds(120),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Option<Turn> = Some(Turn::Left { grace: Duration::ZERO });
    const CAME: Option<Turn> = Some(Turn::Came);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn until(presence: &Presence, now: u64) -> Option<u64> {
        presence.next_change(at(now), &Attention::default()).map(|at| at.as_secs())
    }

    /// What comes of these signs of sessions, at these seconds.
    fn turns(signs: &[(u64, u64, Sign)]) -> (Presence, Vec<Option<Turn>>) {
        let mut presence = Presence::default();
        let attention = Attention::default();
        let turns = signs.iter().map(|&(second, session, sign)| presence.on(session, sign, at(second), &attention));
        let turns = turns.collect();
        (presence, turns)
    }

    #[test]
    fn the_grace_is_that_of_the_end() {
        for (end, seconds) in [(End::Logout, 0), (End::Closed, 30), (End::Broken, 120)] {
            let (presence, turns) = turns(&[(0, 1, Sign::Comes), (5, 1, Sign::Goes(end))]);
            assert_eq!(turns, [CAME, Some(Turn::Left { grace: at(seconds) })]);
            assert_eq!(until(&presence, 5), None);
        }
    }

    #[test]
    fn a_device_is_there_while_one_of_its_sessions_is() {
        let (presence, turns) = turns(&[
            (0, 1, Sign::Comes),
            (1, 2, Sign::Comes),
            (2, 1, Sign::Goes(End::Broken)),
            (3, 2, Sign::Goes(End::Logout)),
        ]);
        assert_eq!(turns, [CAME, None, None, AWAY]);
        assert!(!presence.is_present(at(3), &Attention::default()));
    }

    #[test]
    fn a_session_outside_idle_counts_for_half_an_hour() {
        let (mut presence, _) = turns(&[(0, 1, Sign::Comes), (100, 1, Sign::Speaks)]);
        assert_eq!(until(&presence, 100), Some(1900));
        assert_eq!(presence.turn(at(1899), &Attention::default()), None);
        assert_eq!(presence.turn(at(1900), &Attention::default()), AWAY);
        assert_eq!(presence.turn(at(1901), &Attention::default()), None, "it is said once");
        assert_eq!(presence.on(1, Sign::Speaks, at(2000), &Attention::default()), CAME);
    }

    #[test]
    fn a_session_in_idle_counts_until_a_write_is_unacknowledged_for_two_minutes() {
        let (mut presence, _) = turns(&[(0, 1, Sign::Comes), (1, 1, Sign::Idles(true))]);
        assert_eq!(until(&presence, 1), None);
        assert!(presence.is_present(at(86_400), &Attention::default()));
        presence.on(1, Sign::Unacknowledged(Some(at(86_400))), at(86_410), &Attention::default());
        assert_eq!(until(&presence, 86_410), Some(86_520));
        presence.on(1, Sign::Unacknowledged(None), at(86_500), &Attention::default());
        assert_eq!(until(&presence, 86_500), None);
        presence.on(1, Sign::Unacknowledged(Some(at(90_000))), at(90_000), &Attention::default());
        assert_eq!(presence.turn(at(90_120), &Attention::default()), AWAY);
    }

    #[test]
    fn a_session_that_counted_no_more_gives_no_grace_when_it_breaks() {
        let (_, turns) = turns(&[
            (0, 1, Sign::Comes),
            (0, 1, Sign::Idles(true)),
            (10, 1, Sign::Unacknowledged(Some(at(10)))),
            // Nobody has looked at 130.
            (200, 1, Sign::Goes(End::Broken)),
        ]);
        assert_eq!(turns, [CAME, None, None, AWAY]);
    }

    #[test]
    fn behind_idle_the_half_hour_begins_anew() {
        let (presence, _) = turns(&[(0, 1, Sign::Comes), (0, 1, Sign::Idles(true)), (9000, 1, Sign::Idles(false))]);
        assert_eq!(until(&presence, 9000), Some(10_800));
    }

    #[test]
    fn what_is_said_of_an_unknown_session_says_nothing() {
        let (presence, turns) =
            turns(&[(0, 1, Sign::Speaks), (0, 1, Sign::Idles(true)), (0, 1, Sign::Goes(End::Closed))]);
        assert_eq!(turns, [None, None, None]);
        assert_eq!(until(&presence, 0), None);
    }
}
