//! How patient we are with a device that is told something and does not react: when, how often, and for how long it is told again.
//!
//!     news           3 s        1 min        4 min        16 min       64 min        256 min
//!      |--debounce--> 1 --------> 2 --------> 3 ---------> 4 ---------> 5 ------------> suspended, a WAKEUP a day, 30 times
//!
//! An operator can set each of them. Requirement N11; source document 001 section 10 leaves the numbers to us.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// When a device is told, and when again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// What comes within this time of one another is told together. Urgent news do not wait.
    pub debounce: Span,
    /// News do not wait longer than this for others, however fast these come.
    pub gather: Span,
    /// Notices without a reaction, then the route is suspended.
    pub attempts: u32,
    /// From the first notice to the second; from each to the one behind it four times as long, all of it more or less a fifth.
    pub pause: Span,
    /// No pause is longer.
    pub longest_pause: Span,
    /// So long after the first notice without a reaction the route is suspended, however many there were.
    pub unreacted: Span,
    /// From one wake-up of a suspended route to the next.
    pub wake: Span,
    /// Wake-ups of a suspended route, then it is left alone.
    pub wake_ups: u32,
    /// Urgent news shorten a pause at most once in this time.
    pub hurry: Span,
    /// A notice that the channel cannot bring now is given to it again so many times, with its number, ...
    pub retries: u32,
    /// ... for the first time after this, then after four times as long each.
    pub retry: Span,
    /// What is remembered of events that leave no trace in a mailbox.
    pub missed: Missed,
}

/// The bounds of the event ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Missed {
    /// Events.
    pub events: u32,
    /// How long.
    pub age: Span,
    /// Octets, of names mostly.
    pub octets: Size,
}

impl Patience {
    /// The pause behind the n-th notice, made different for each device by chance (any number), so that they do not come all at once.
    pub fn pause(&self, attempt: u32, chance: u32) -> Duration {
        growing(self.pause.0, attempt, self.longest_pause.0) * (800 + chance % 401) / 1000
    }

    /// The pause before a notice is given to the channel for the n-th time again.
    pub fn retry(&self, again: u32) -> Duration {
        growing(self.retry.0, again, self.longest_pause.0)
    }
}

/// The first, and four times as long for each further one; at most the longest, and that at most a year, with which one can count.
fn growing(first: Duration, n: u32, longest: Duration) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    first.saturating_mul(4u32.saturating_pow(n.saturating_sub(1))).min(longest).min(YEAR)
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            debounce: Span::seconds(3),
            gather: Span::seconds(15),
            attempts: 5,
            pause: Span::seconds(60),
            longest_pause: Span::minutes(6 * 60),
            unreacted: Span::minutes(24 * 60),
            wake: Span::minutes(24 * 60),
            wake_ups: 30,
            hurry: Span::seconds(60),
            retries: 3,
            retry: Span::seconds(10),
            missed: Missed::default(),
        }
    }
}

impl Default for Missed {
    fn default() -> Self {
        Self { events: 1000, age: Span::minutes(30 * 24 * 60), octets: Size::kib(256) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_fourfold_up_to_six_hours() {
        let patience = Patience::default();
        let minutes: Vec<u64> = (1..=7).map(|attempt| patience.pause(attempt, 200).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 4, 16, 64, 256, 360, 360]);
        assert_eq!(patience.pause(u32::MAX, 200), Duration::from_secs(6 * 3600));
        assert_eq!([1, 2, 3].map(|again| patience.retry(again).as_secs()), [10, 40, 160]);
    }

    #[test]
    fn chance_makes_a_pause_a_fifth_longer_or_shorter_at_most() {
        let patience = Patience::default();
        let all: Vec<u64> = (0..=401).map(|chance| patience.pause(1, chance).as_secs()).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&48), Some(&72)));
        assert!((48..=72).contains(&patience.pause(1, u32::MAX).as_secs()));
    }

    #[test]
    fn an_operator_sets_what_he_wants_to_and_hears_of_what_there_is_not() {
        let read = |text: &str| toml::from_str::<Patience>(text);
        let patience = read("attempts = 2\nmissed.events = 10\nwake = \"12h\"").unwrap();
        assert_eq!((patience.attempts, patience.missed.events, patience.debounce), (2, 10, Span::seconds(3)));
        assert!(read("tries = 3").is_err());
    }
}
