//! What an answer of HTTP means, where a channel has nothing else to say of it (RFC 9110 section 15).
//!
//!     201                   accepted
//!     503, Retry-After: 30  later, not before 30 seconds
//!     413                   too large
//!     302, 400              failed: a redirection is not followed, and the next request may be better
//!
//! Whether a place is gone for ever only the channel knows: 404 is the end of a push subscription, and a mistake of the operator's in the
//! address of a gateway.

use crate::outband::channel::{Answer, Outcome};

/// What this answer means.
pub(super) fn judge(answer: &Answer) -> Outcome {
    match answer {
        Answer::Http { status: 200..=299, .. } | Answer::Sent => Outcome::Accepted,
        Answer::Http { status: 413, .. } => Outcome::TooLarge,
        Answer::Http { status: 408 | 425 | 429 | 500..=599, retry_after, .. } => Outcome::Later { after: *retry_after },
        Answer::Silence | Answer::Unreachable => Outcome::Later { after: None },
        Answer::Acknowledged => Outcome::Delivered,
        Answer::Forbidden => Outcome::Dead,
        // Another status, or nothing that HTTP says.
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// An answer with this status, and `Retry-After: 30`.
    pub(crate) fn status(status: u16) -> Answer {
        Answer::Http { status, retry_after: Some(Duration::from_secs(30)), body: b"{\"reason\":\"gone\"}".to_vec() }
    }

    pub(crate) const LATER: Outcome = Outcome::Later { after: Some(Duration::from_secs(30)) };

    #[test]
    fn a_status_says_what_has_become_of_it() {
        for (statuses, outcome) in [
            (&[200, 201, 202, 204][..], Outcome::Accepted),
            (&[413], Outcome::TooLarge),
            (&[408, 425, 429, 500, 502, 503, 504], LATER),
            (&[100, 301, 302, 307, 308, 400, 401, 403, 404, 410, 415], Outcome::Failed),
        ] {
            for number in statuses {
                assert_eq!(judge(&status(*number)), outcome, "{number}");
            }
        }
    }

    #[test]
    fn without_an_answer_it_is_tried_again_and_a_place_inside_is_none() {
        for silent in [Answer::Silence, Answer::Unreachable] {
            assert_eq!(judge(&silent), Outcome::Later { after: None });
        }
        assert_eq!(judge(&Answer::Forbidden), Outcome::Dead);
    }
}
