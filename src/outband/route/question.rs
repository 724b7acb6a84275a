//! The question whether an address is the user's own: one notice that says nothing of news.
//!
//!     ask       seq 1, counted, carried               --> saved, and only then sent
//!     answered  taken: done | not now: 1 again, 3 times | anything else: done, until somebody sets the address again
//!
//! It is no news: it goes in any state, also while the device is there, and no reaction is waited for. Its number is one of the route's, and it
//! counts against the limits of the day. What was asked, and what the answer is, stands with the address (`account/enrolment.rs`).
//! Requirements N13, N21.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Now, Route, Sizes, stored::maybe};
use crate::{account::preference::Limit, outband::channel::Outcome};

/// A question that was asked, and of which nobody knows whether it has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its number.
    pub seq: u64,
    /// How often the channel has said that it cannot bring it now.
    pub tries: u32,
    /// When it is given to the channel again; none: the channel has it.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Duration>,
}

impl Route {
    /// Takes a number for a question of so many octets, or the one that it has already; none: nothing fits the limit of the day. Save the row
    /// before the first octet leaves.
    pub fn ask(&mut self, octets: u32, limit: Limit, now: Now<'_>) -> Option<u64> {
        if let Some(question) = &mut self.question {
            question.again_at = None;
            return Some(question.seq);
        }
        self.roll(now);
        self.fitting(Sizes { extended: None, wakeup: Some(octets) }, limit)?;
        (self.seq, self.is_new) = (self.seq + 1, false);
        self.day_notices += 1;
        self.day_octets += u64::from(octets);
        self.question = Some(Question { seq: self.seq, tries: 0, again_at: None });
        Some(self.seq)
    }

    /// What has become of the question of this number; whether it was one.
    pub fn answered(&mut self, seq: u64, outcome: Outcome, now: Now<'_>) -> bool {
        let Some(mut question) = self.question.take_if(|question| question.seq == seq) else { return false };
        match outcome {
            Outcome::Later { after } if question.tries < now.patience.retries => {
                question.tries += 1;
                let after = after.unwrap_or_default().min(now.patience.longest_pause.0);
                question.again_at = Some(now.time + now.patience.retry(question.tries).max(after));
                self.question = Some(question);
            }
            Outcome::Accepted | Outcome::Delivered => self.last_sent = seq,
            Outcome::Dead => _ = self.die(),
            _ => {}
        }
        true
    }

    /// The process has begun anew: nobody knows whether it has arrived.
    pub(super) fn ask_again(&mut self, now: Now<'_>) {
        if let Some(question) = &mut self.question {
            question.again_at = question.again_at.or(Some(now.time));
        }
    }
}
