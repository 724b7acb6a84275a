//! Shutting down: the sessions are told one after the other, and what is left in the end is cut off. `[drain]`
//!
//! 9000 sessions and `spread = "10s"`: each tick of 50 ms tells 45 of them, and each says BYE at its next response boundary.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::registry::{Notice, Registry};
use crate::units::Span;

/// `[drain]`: what SIGTERM does to the sessions there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The time over which the sessions are told to end, evenly, so that their clients do not all come back at once.
    pub spread: Span,
    /// From the signal to the end of whatever session is still there; more than `spread`.
    pub limit: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread: Span::seconds(10), limit: Span::seconds(60) }
    }
}

/// How often sessions are told.
const TICK: Duration = Duration::from_millis(50);

/// Tells all sessions, and waits until they are gone. Returns how many were not, when the limit was over.
pub async fn drain(registry: &Registry, rules: &Drain) -> usize {
    let began = Instant::now();
    let waiting = registry.entries();
    let mut told = 0;
    while !registry.is_empty() && began.elapsed() < rules.limit.0 {
        match told < waiting.len() {
            true => {
                let due = due(waiting.len(), began.elapsed() + TICK, rules.spread.0);
                waiting[told..due].iter().for_each(|entry| entry.inbox.post(Notice::Drain));
                told = due;
            }
            // Who was on the threshold when the doors closed.
            false => registry.entries().iter().for_each(|entry| entry.inbox.post(Notice::Drain)),
        }
        tokio::time::sleep(TICK).await;
    }
    registry.len()
}

/// How many of `total` are to be told after this time.
fn due(total: usize, after: Duration, spread: Duration) -> usize {
    match after >= spread {
        true => total,
        false => (total as f64 * after.as_secs_f64() / spread.as_secs_f64()).ceil() as usize,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use super::*;
    use crate::io::{metrics::Meters, registry::Seat};

    const AT_ONCE: Drain = Drain { spread: Span(Duration::ZERO), limit: Span::seconds(60) };

    fn enter(registry: &Arc<Registry>) -> Seat {
        registry.enter("192.0.2.7:4711".parse().unwrap(), "127.0.0.1:1143".into())
    }

    #[test]
    fn they_are_told_evenly() {
        let spread = Duration::from_secs(10);
        let seconds = |seconds| due(9000, Duration::from_secs(seconds), spread);
        assert_eq!([seconds(0), seconds(1), seconds(5), seconds(10), seconds(11)], [0, 900, 4500, 9000, 9000]);
        assert_eq!(due(3, TICK, spread), 1);
        assert_eq!(due(3, TICK, Duration::ZERO), 3);
    }

    #[tokio::test]
    async fn each_is_told_and_the_drain_ends_with_the_last() {
        let registry = Registry::new(Arc::new(Meters::new()));
        let session = |seat: Seat| async move { poll_fn(|cx| seat.inbox().poll_take(cx)).await };
        let sessions: Vec<_> = (0..3).map(|_| tokio::spawn(session(enter(&registry)))).collect();
        assert_eq!(drain(&registry, &AT_ONCE).await, 0);
        for session in sessions {
            assert_eq!(session.await.unwrap(), Notice::Drain);
        }
    }

    #[tokio::test]
    async fn who_comes_while_the_others_go_is_told_too() {
        let registry = Registry::new(Arc::new(Meters::new()));
        let first = enter(&registry);
        let other = registry.clone();
        let late = tokio::spawn(async move {
            poll_fn(|cx| first.inbox().poll_take(cx)).await;
            let late = enter(&other);
            drop(first);
            poll_fn(|cx| late.inbox().poll_take(cx)).await
        });
        assert_eq!(drain(&registry, &AT_ONCE).await, 0);
        assert_eq!(late.await.unwrap(), Notice::Drain);
    }

    #[tokio::test]
    async fn who_does_not_leave_is_counted() {
        let registry = Registry::new(Arc::new(Meters::new()));
        let _stays = enter(&registry);
        assert_eq!(drain(&registry, &Drain { limit: Span(Duration::ZERO), ..AT_ONCE }).await, 1);
    }
}
