//! Sending: what is due is claimed under the limits of the day, and settled by what the channel says.
//!
//!     claim   seq 7, counted, nothing fresh any more, in flight   --> saved, and only then sent
//!     settle  accepted: SENT until next_at | later: 7 again, 3 times | too large: 7 as WAKEUP | failed: fresh again | dead: DISABLED
//!
//! A limit counts what is claimed, before it is sent, and each number once: so it holds across a crash at any point (digest section 10).
//! `total` counts notices, `size` octets after sealing, both for a day of the user. Requirement N13.

use std::time::Duration;

use super::{Effect, InFlight, Now, Route, Sizes, State};
use crate::{
    account::{channel::Format, preference::Limit},
    outband::channel::Outcome,
};

impl Route {
    /// Takes what is due; none: nothing is, any more, or nothing fits the limit of the day. Save the row before the first octet leaves.
    pub fn claim(&mut self, sizes: Sizes, limit: Limit, now: Now<'_>) -> Option<&InFlight> {
        self.advance(now);
        if !self.is_due(now.time) {
            return None;
        }
        if let Some(flight) = &mut self.in_flight {
            // The same again: its number is taken, and it is counted.
            flight.again_at = None;
            let is_as_large = sizes.extended.is_some_and(|octets| octets <= flight.octets);
            flight.format = if is_as_large { flight.format } else { Format::Wakeup };
            return self.in_flight.as_ref();
        }
        let Some(subject) = self.subject().filter(|_| self.has_reason() || self.state == State::Suspended) else {
            self.wait(State::Idle, None);
            return None;
        };
        self.roll(now);
        let is_wake_up = self.state == State::Suspended;
        if is_wake_up {
            self.wake_ups += 1;
            self.next_at = Some(now.time + now.patience.wake.0);
        }
        let fitting = self.fitting(Sizes { extended: sizes.extended.filter(|_| !is_wake_up), ..sizes }, limit);
        let Some((format, octets)) = fitting else {
            if !is_wake_up {
                self.wait(State::Capped, Some(self.midnight(now)));
            }
            return None;
        };
        (self.seq, self.is_new) = (subject.seq, false);
        self.day_notices += 1;
        self.day_octets += u64::from(octets);
        self.marks.tell(self.seq);
        if !is_wake_up {
            self.attempts += 1;
            self.unreacted_since.get_or_insert(now.time);
            self.wait(State::Sent, Some(now.time + now.patience.pause(self.attempts, now.chance)));
        }
        let address_version = self.address_version;
        self.in_flight = Some(InFlight { subject, format, octets, address_version, tries: 0, again_at: None });
        self.in_flight.as_ref()
    }

    /// What has become of the notice of this number. It is asked for once; of another than the one in flight nothing is heard.
    pub fn settle(&mut self, seq: u64, outcome: Outcome, now: Now<'_>) -> Effect {
        let late = self.advance(now);
        let carried = |flight: &mut InFlight| flight.subject.seq == seq && flight.again_at.is_none();
        let Some(mut flight) = self.in_flight.take_if(carried) else { return self.effect(late, now) };
        let is_current = flight.address_version == self.address_version;
        let may_again = is_current && matches!(self.state, State::Sent | State::Suspended);
        let longest = now.patience.longest_pause.0;
        match outcome {
            Outcome::Accepted | Outcome::Delivered if is_current => {
                self.last_sent = seq;
                if self.state == State::Sent && !self.marks.any_urgent() {
                    self.next_at = Some(now.time + now.patience.pause(self.attempts, now.chance));
                }
                if outcome == Outcome::Delivered {
                    self.delivered(seq, now);
                }
            }
            Outcome::Later { after } if may_again && flight.tries < now.patience.retries => {
                flight.tries += 1;
                let after = after.unwrap_or_default().min(longest);
                flight.again_at = Some(now.time + now.patience.retry(flight.tries).max(after));
                self.in_flight = Some(flight);
            }
            Outcome::TooLarge if may_again && flight.format == Format::Extended => {
                flight.format = Format::Wakeup;
                flight.again_at = Some(now.time);
                self.in_flight = Some(flight);
            }
            _ => {
                self.refused(seq, now);
                if let (Outcome::Later { after: Some(after) }, State::Sent) = (outcome, self.state) {
                    self.next_at = self.next_at.max(Some(now.time + after.min(longest)));
                }
                if outcome == Outcome::Dead && is_current {
                    self.die();
                }
            }
        }
        self.effect(true, now)
    }

    /// Whether a notice, or the same one again, is due.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let may_send = matches!(self.state, State::Pending | State::Sent | State::Suspended);
        may_send && self.wake_at().is_some_and(|at| at <= now)
    }

    /// The largest candidate for which the day has room, and its octets.
    pub(super) fn fitting(&self, sizes: Sizes, limit: Limit) -> Option<(Format, u32)> {
        let has_room = |notices: u32, octets: u64| {
            limit.total.is_none_or(|total| self.day_notices.saturating_add(notices) <= total)
                && limit.size.is_none_or(|size| self.day_octets + octets <= u64::from(size))
        };
        let wakeup = sizes.wakeup.map(u64::from).unwrap_or_default();
        let extended = sizes.extended.filter(|&octets| has_room(2, u64::from(octets) + wakeup));
        let wakeup = sizes.wakeup.filter(|&octets| has_room(1, u64::from(octets)));
        extended.map(|octets| (Format::Extended, octets)).or(wakeup.map(|octets| (Format::Wakeup, octets)))
    }

    /// Begins to count anew where it is another day; whether it is. A clock that goes back, or a user that travels west, gets no more.
    pub(super) fn roll(&mut self, now: Now<'_>) -> bool {
        let seconds = i64::try_from(now.time.as_secs()).unwrap_or(i64::MAX).saturating_add(now.zone.into());
        let day = seconds.div_euclid(DAY);
        let is_new = day > self.day;
        if is_new {
            (self.day, self.day_notices, self.day_octets) = (day, 0, 0);
        }
        is_new
    }

    /// The end of the day that is counted.
    pub(super) fn midnight(&self, now: Now<'_>) -> Duration {
        let seconds = self.day.saturating_add(1).saturating_mul(DAY).saturating_sub(now.zone.into());
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }
}

/// Seconds of a day.
const DAY: i64 = 86_400;
