//! The client's transaction of a request other than INVITE (RFC 3261 section 17.1.2, figure 6), without a clock: times are counted from
//! anywhere.
//!
//!                 Timer E: again                Timer E: again, every T2
//!     begin ---> TRYING ------- 1xx -------> PROCEEDING
//!                   |                            |
//!                   +---------- final -----------+---> COMPLETED --- Timer K (T4; none over a stream) ---> TERMINATED
//!                   +---------- Timer F (64 T1) -+-----------------------------------------------------------^
//!
//! Over a stream nothing is sent again: TCP does that.

use std::time::Duration;

/// How long a message is on its way, there and back.
pub const T1: Duration = Duration::from_millis(500);
/// The longest pause between two sendings.
pub const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub const T4: Duration = Duration::from_secs(5);

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    state: State,
    is_reliable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Trying and Proceeding: they differ in the pause alone.
    Asking {
        /// When it is sent again.
        again: Option<Duration>,
        /// How long after that once more.
        pause: Duration,
        /// When it is given up.
        until: Duration,
    },
    /// Until when repetitions are passed over.
    Completed {
        until: Duration,
    },
    Terminated,
}

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// The same octets are sent again.
    Send,
    /// Nobody has answered, and nobody will.
    GiveUp,
    /// It is over: what still comes is not of it.
    End,
}

impl Transaction {
    /// The request was sent, over a stream or not.
    pub fn begin(is_reliable: bool, now: Duration) -> Self {
        let again = (!is_reliable).then_some(now + T1);
        Self { state: State::Asking { again, pause: 2 * T1, until: now + 64 * T1 }, is_reliable }
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Duration> {
        match self.state {
            State::Asking { again, until, .. } => Some(again.map_or(until, |again| again.min(until))),
            State::Completed { until } => Some(until),
            State::Terminated => None,
        }
    }

    /// What is due.
    pub fn due(&mut self, now: Duration) -> Due {
        match &mut self.state {
            State::Asking { until, .. } if *until <= now => {
                self.state = State::Terminated;
                Due::GiveUp
            }
            State::Asking { again: Some(again), pause, .. } if *again <= now => {
                *again = now + *pause;
                *pause = (*pause * 2).min(T2);
                Due::Send
            }
            State::Completed { until } if *until <= now => {
                self.state = State::Terminated;
                Due::End
            }
            State::Asking { .. } | State::Completed { .. } => Due::Nothing,
            State::Terminated => Due::End,
        }
    }

    /// A response with this status has come. Whether it is the answer: the first that is final.
    pub fn hear(&mut self, status: u16, now: Duration) -> bool {
        let State::Asking { pause, .. } = &mut self.state else { return false };
        if status < 200 {
            *pause = T2;
            return false;
        }
        self.state = if self.is_reliable { State::Terminated } else { State::Completed { until: now + T4 } };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What is due, and when, until the end; a response with this status comes at this time.
    fn run(is_reliable: bool, heard: Option<(u64, u16)>) -> Vec<(u64, Due)> {
        let mut transaction = Transaction::begin(is_reliable, ms(0));
        let mut heard = heard.map(|(at, status)| (ms(at), status));
        let mut due = Vec::new();
        while let Some(next) = transaction.next() {
            if let Some((at, status)) = heard.take_if(|(at, _)| *at < next) {
                assert_eq!(transaction.hear(status, at), status >= 200);
                continue;
            }
            assert_eq!(transaction.due(next - ms(1)), Due::Nothing);
            due.push((next.as_millis() as u64, transaction.due(next)));
        }
        assert_eq!(transaction.due(ms(1_000_000)), Due::End);
        due
    }

    #[test]
    fn over_udp_it_is_sent_again_with_growing_pauses_and_given_up_after_64_t1() {
        use Due::*;
        let times = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let expected: Vec<_> = times.into_iter().map(|at| (at, Send)).chain([(32_000, GiveUp)]).collect();
        assert_eq!(run(false, None), expected);
    }

    #[test]
    fn after_a_provisional_response_the_pause_is_t2() {
        use Due::*;
        let times = [500, 1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500];
        let expected: Vec<_> = times.into_iter().map(|at| (at, Send)).chain([(32_000, GiveUp)]).collect();
        assert_eq!(run(false, Some((600, 100))), expected);
    }

    #[test]
    fn after_the_answer_repetitions_are_passed_over_for_t4() {
        assert_eq!(run(false, Some((700, 200))), [(500, Due::Send), (5700, Due::End)]);
        let mut transaction = Transaction::begin(false, ms(0));
        assert_eq!([200, 200, 100, 500].map(|status| transaction.hear(status, ms(10))), [true, false, false, false]);
    }

    #[test]
    fn over_a_stream_nothing_is_sent_again_or_waited_for() {
        assert_eq!(run(true, None), [(32_000, Due::GiveUp)]);
        assert_eq!(run(true, Some((700, 100))), [(32_000, Due::GiveUp)]);
        assert_eq!(run(true, Some((700, 404))), []);
    }
}
