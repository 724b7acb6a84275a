//! The rows of the table: what an input does to a route, but for sending.
//!
//!     from        input      to
//!     ONLINE      Left       GRACE, and when that is over: fresh -> PENDING, nothing fresh -> IDLE
//!     IDLE        Event      PENDING, for d0
//!     SENT        Time       5 notices, or 24 h: SUSPENDED
//!     any         Came       ONLINE
//!
//! Digest section 10; what it leaves open is decided in the header of [`super`]. Whatever is late is made good first: no result depends on
//! how exactly a timer goes off. Requirements N3, N11.

use std::time::Duration;

use super::{
    Effect, Input, Now, Route, State,
    marks::{News, Shown},
    ring::Ring,
};
use crate::{account::channel::Kind, mailbox::event::Group};

impl Route {
    /// Takes in what happens.
    pub fn on(&mut self, input: Input<'_>, now: Now<'_>) -> Effect {
        let late = self.advance(now);
        let changed = match input {
            Input::Came => self.came(now),
            Input::Left { grace } => self.left(grace, now),
            Input::Event(news) => self.event(&news, now),
            Input::Missed => !std::mem::replace(&mut self.ring.overflow, true),
            Input::Synced(shown) => self.marks.synced(&shown),
            Input::Provisioned(channel) => self.provisioned(channel, now),
            Input::Delivered { seq } => self.delivered(seq, now),
            Input::Dead { address_version } => address_version == self.address_version && self.die(),
            Input::Restarted { grace } => self.restarted(grace, now),
            Input::Time => false,
        };
        self.effect(late | changed, now)
    }

    /// What the device will not find by itself; it is given once. Save the row.
    pub fn missed(&mut self, now: Now<'_>) -> Ring {
        self.marks.synced(&Shown::default());
        self.ring.take(now.time, &now.patience.missed)
    }

    /// An operator wants it told again: what the device has not seen is fresh, and all patience is restored.
    pub fn again(&mut self, now: Now<'_>) -> Effect {
        self.abandon();
        self.marks.untell_all();
        self.react();
        if !matches!(self.state, State::Online | State::Grace) && self.in_flight.is_none() {
            self.settle_down(now);
        }
        self.effect(true, now)
    }

    /// An operator wants nothing told of what has come so far.
    pub fn forget(&mut self, now: Now<'_>) -> Effect {
        self.abandon();
        self.marks.clear();
        if matches!(self.state, State::Pending | State::Sent | State::Capped | State::Suspended)
            && self.in_flight.is_none()
        {
            self.wait(State::Idle, None);
        }
        self.effect(true, now)
    }

    /// Does what the time has made due and needs no sending; whether there was something.
    pub(super) fn advance(&mut self, now: Now<'_>) -> bool {
        let mut changed = false;
        while self.next_at.is_some_and(|at| at <= now.time) && self.step(now) {
            changed = true;
        }
        changed
    }

    fn step(&mut self, now: Now<'_>) -> bool {
        let is_free = self.in_flight.is_none();
        match self.state {
            State::Grace => self.settle_down(now),
            State::Capped => self.dawn(now),
            State::Pending | State::Sent if is_free && self.is_hopeless(now) => {
                self.wait(State::Suspended, Some(now.time + now.patience.wake.0))
            }
            State::Suspended if is_free && self.wake_ups >= now.patience.wake_ups => self.wait(State::Dormant, None),
            _ => return false,
        }
        true
    }

    /// The day is over, or the user has travelled and it is not.
    fn dawn(&mut self, now: Now<'_>) {
        if !self.roll(now) {
            self.next_at = Some(self.midnight(now));
        } else if self.has_reason() {
            self.arm(now);
        } else {
            self.wait(State::Idle, None);
        }
    }

    pub(super) fn effect(&mut self, changed: bool, now: Now<'_>) -> Effect {
        let changed = self.advance(now) | changed;
        match (self.is_due(now.time), changed) {
            (true, _) => Effect::Claim,
            (false, true) => Effect::Save,
            (false, false) => Effect::Nothing,
        }
    }

    fn came(&mut self, now: Now<'_>) -> bool {
        self.abandon();
        self.react();
        self.last_reacted_at = Some(now.time);
        self.wait(State::Online, None);
        true
    }

    fn left(&mut self, grace: Duration, now: Now<'_>) -> bool {
        let was_there = self.state == State::Online;
        if was_there {
            self.wait(State::Grace, Some(now.time.saturating_add(grace)));
        }
        was_there
    }

    fn event(&mut self, news: &News<'_>, now: Now<'_>) -> bool {
        if news.event.kind.group() == Group::Access {
            return false;
        }
        let is_kept = self.ring.push(news.event, now.time, &now.patience.missed);
        if news.event.mailbox.is_none() && !news.rings {
            // About the account, which nobody selects: the ring is where it is found.
            return is_kept;
        }
        let marked = self.marks.mark(news, now.time);
        self.ring.overflow |= marked.dropped;
        match self.state {
            State::Idle if news.rings => self.arm(now),
            // What is due already is not put off.
            State::Pending if news.rings && !self.is_due(now.time) => {
                let gathered = self.marks.oldest_fresh().map(|oldest| oldest + now.patience.gather.0);
                self.arm(now);
                self.next_at = self.next_at.min(gathered.max(Some(now.time)));
            }
            State::Sent if news.rings && (news.urgent || marked.flip) && !self.is_hopeless(now) => self.hurry(now),
            _ => {}
        }
        true
    }

    /// Urgent news shorten the pause to nothing, or to the end of the time since they last did.
    fn hurry(&mut self, now: Now<'_>) {
        let free_at = self.hurried_at.map(|last| last + now.patience.hurry.0);
        let at = free_at.max(Some(now.time));
        if self.next_at > at {
            (self.next_at, self.hurried_at) = (at, at);
        }
    }

    fn provisioned(&mut self, channel: Option<Kind>, now: Now<'_>) -> bool {
        self.address_version += 1;
        (self.question, self.is_new) = (None, true);
        (self.channel, self.dead) = (channel, false);
        self.abandon();
        self.react();
        if !matches!(self.state, State::Online | State::Grace) {
            self.settle_down(now);
        }
        true
    }

    pub(super) fn delivered(&mut self, seq: u64, now: Now<'_>) -> bool {
        if seq > self.seq || seq <= self.last_delivered {
            return false;
        }
        self.last_delivered = seq;
        if seq == self.seq && self.state == State::Sent && self.in_flight.is_none() && !self.marks.any_urgent() {
            let patient = now.time + 4 * now.patience.pause(self.attempts, now.chance);
            self.next_at = self.next_at.max(Some(patient));
        }
        true
    }

    pub(super) fn die(&mut self) -> bool {
        (self.dead, self.question) = (true, None);
        self.abandon();
        if !matches!(self.state, State::Online | State::Grace) {
            self.wait(State::Disabled, None);
        }
        true
    }

    fn restarted(&mut self, grace: Duration, now: Now<'_>) -> bool {
        self.ask_again(now);
        if self.state == State::Online {
            self.wait(State::Grace, Some(now.time.saturating_add(grace)));
        }
        let Some(flight) = &mut self.in_flight else { return true };
        if matches!(self.state, State::Sent | State::Suspended) && flight.address_version == self.address_version {
            flight.again_at = flight.again_at.or(Some(now.time));
        } else {
            // The device was there since, or the address is another one: nobody knows whether anything came, so it is told anew.
            let seq = flight.subject.seq;
            self.in_flight = None;
            self.refused(seq, now);
        }
        true
    }

    /// The device has reacted, or can be reached in another way: all patience is restored.
    fn react(&mut self) {
        (self.attempts, self.wake_ups, self.unreacted_since, self.hurried_at) = (0, 0, None, None);
    }

    /// A notice that would be given to the channel again is not: what it covered is fresh.
    fn abandon(&mut self) {
        if let Some(flight) = self.in_flight.take_if(|flight| flight.again_at.is_some()) {
            self.marks.untell(flight.subject.seq);
        }
    }

    /// The channel has not taken a notice, and will not.
    pub(super) fn refused(&mut self, seq: u64, now: Now<'_>) {
        self.marks.untell(seq);
        match self.state {
            State::Idle if self.marks.any_fresh() => self.arm(now),
            State::Sent => self.next_at = Some(now.time + now.patience.pause(self.attempts, now.chance)),
            _ => {}
        }
    }

    /// The device is away for certain.
    fn settle_down(&mut self, now: Now<'_>) {
        if self.channel.is_none() || self.dead {
            self.wait(State::Disabled, None);
        } else if self.marks.any_fresh() {
            self.arm(now);
        } else {
            self.wait(State::Idle, None);
        }
    }

    /// Waits for more news, or, where some are urgent, not at all.
    fn arm(&mut self, now: Now<'_>) {
        let debounce = if self.marks.any_urgent() { Duration::ZERO } else { now.patience.debounce.0 };
        self.wait(State::Pending, Some(now.time + debounce));
    }

    pub(super) fn wait(&mut self, state: State, until: Option<Duration>) {
        (self.state, self.next_at) = (state, until);
    }

    /// Whether there is something to tell: news, or what was told without a reaction.
    pub(super) fn has_reason(&self) -> bool {
        self.marks.any_fresh() || (self.unreacted_since.is_some() && self.marks.any_dirty())
    }

    /// Whether enough was told without a reaction.
    fn is_hopeless(&self, now: Now<'_>) -> bool {
        let long = |since| now.time.saturating_sub(since) > now.patience.unreacted.0;
        self.attempts >= now.patience.attempts || self.unreacted_since.is_some_and(long)
    }
}
