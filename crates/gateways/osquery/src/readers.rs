//! Places of those that read a body off the runtime's threads.
//!
//! Agents before 5.23 send their key at the end of the body alone, so nobody knows whose a post is until it
//! is read, and some kilobytes may unpack to many megabytes. Such posts have places of their own:
//! strangers wait for each other, and never an agent whose header says who it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Places of strangers, on however many cores: for what more would unpack there is no room in the
/// strangers' part of the budget.
const STRANGERS_MAX: usize = 6;
/// Strangers that wait for a place. A place reads thousands of usual posts in their time to wait, so
/// a fleet of old agents that comes at once is not refused.
const WAITING_MAX: usize = 512;
/// How long they wait.
const WAIT: Duration = Duration::from_secs(2);

/// A place; free again when it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

#[derive(Debug)]
pub(crate) struct Readers {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Readers {
    /// A place a core for agents that are known, and half as many for strangers.
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            known: Arc::new(Semaphore::new(cores.max(1))),
            strangers: Arc::new(Semaphore::new((cores / 2).clamp(1, STRANGERS_MAX))),
            blocks: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// A place for an agent that proved who it is, in turn.
    pub(crate) async fn known(&self) -> Place {
        let place = Arc::clone(&self.known).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// A place for a block of an upload, in turn: it is not packed, and agents before 5.22 never send one
    /// again that was refused.
    pub(crate) async fn block(&self) -> Place {
        let place = Arc::clone(&self.blocks).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// A place for somebody unknown; `None` when too many wait, or none is free in time.
    pub(crate) async fn stranger(&self) -> Option<Place> {
        if let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        timeout(WAIT, Arc::clone(&self.strangers).acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_never_take_the_places_of_agents_that_are_known() {
        for cores in [1, 2, 4, 64] {
            let readers = Readers::new(cores);
            let places = (cores / 2).clamp(1, 6);
            let held = join_all((0..places).map(|_| readers.stranger())).await;
            assert!(held.iter().all(Option::is_some));
            assert!(readers.stranger().await.is_none(), "after its time to wait");
            let known = join_all((0..cores).map(|_| readers.known())).now_or_never();
            assert_eq!(known.map(|known| known.len()), Some(cores));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_wait_a_moment_and_so_many_at_most() {
        let readers = Readers::new(1);
        let held = readers.stranger().await.unwrap();
        let began = Instant::now();
        let all =
            join_all((0..WAITING_MAX + 1).map(|_| readers.stranger().map(|one| one.is_some())));
        let free = async {
            tokio::time::sleep(WAIT / 2).await;
            drop(held);
        };
        let (all, ()) = tokio::join!(all, free);
        assert_eq!(all.iter().filter(|had| **had).count(), WAITING_MAX, "one after the other");
        assert!(!all[WAITING_MAX], "at once: as many wait as may");
        assert_eq!(began.elapsed(), WAIT / 2);
    }
}
