//! Turns: only so much goes to one place at a time, and the rest waits for it.
//!
//!     https://push.example.net:443     8 requests under way, the ninth waits
//!     sip:romeo@example.com            1 message under way (RFC 3428 section 8), 8 wait, the next is told to come later
//!
//! A slow place costs the others nothing. A place that nobody waits for is forgotten when another comes. Requirement N20.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places to which something is under way.
pub(super) struct Turns {
    at_once: usize,
    waiting: usize,
    turns: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Turns {
    /// So many at once (at least one), and so many that wait.
    pub(super) fn new(at_once: usize, waiting: usize) -> Self {
        Self { at_once: at_once.max(1), waiting, turns: Mutex::default() }
    }

    /// A turn at this place, when one is free; it ends when it is dropped. None: too many wait already.
    pub(super) async fn turn(&self, place: String) -> Option<OwnedSemaphorePermit> {
        self.semaphore(place)?.acquire_owned().await.ok()
    }

    fn semaphore(&self, place: String) -> Option<Arc<Semaphore>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = turns.get(&place).and_then(Weak::upgrade) {
            // Each that goes or waits has it, and so have we.
            let others = Arc::strong_count(&semaphore) - 1;
            return (others < self.at_once.saturating_add(self.waiting)).then_some(semaphore);
        }
        turns.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.at_once));
        turns.insert(place, Arc::downgrade(&semaphore));
        Some(semaphore)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task,
    };

    use super::*;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> task::Poll<T> {
        future.poll(&mut task::Context::from_waker(task::Waker::noop()))
    }

    #[tokio::test]
    async fn one_goes_some_wait_and_the_rest_is_sent_away() {
        let turns = Turns::new(1, 2);
        let first = turns.turn("a".to_owned()).await.unwrap();
        let (mut second, mut third) = (pin!(turns.turn("a".to_owned())), pin!(turns.turn("a".to_owned())));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        assert!(turns.turn("a".to_owned()).await.is_none());
        assert!(turns.turn("b".to_owned()).await.is_some(), "another place");
        drop(first);
        assert!(second.await.is_some() && third.await.is_some());
    }

    #[tokio::test]
    async fn a_place_that_nobody_waits_for_is_forgotten() {
        let turns = Turns::new(1, 0);
        for number in 0..10 {
            drop(turns.turn(number.to_string()).await.unwrap());
        }
        assert_eq!(turns.turns.lock().unwrap().len(), 1);
    }
}
