//! The byte budget: how much memory all messages being taken may use together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on bytes in flight, shared by all gateways of the process. Bytes, not messages: a count
/// would either let large ones exhaust memory or hold small ones back.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: u32,
    /// What strangers may have of it.
    part: Arc<Semaphore>,
    is_for_strangers: bool,
}

/// Who has not proved yet who it is gets at most this part of a budget, all strangers together.
const STRANGERS_PART: u32 = 4;

/// Bytes taken from the budget; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Permit {
    bytes: OwnedSemaphorePermit,
    /// The same of the strangers' part.
    part: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Its holder proved who it is: the strangers' part gets its bytes back.
    pub fn introduce(&mut self) {
        self.part = None;
    }

    /// Gives back what is over so many bytes.
    pub fn shrink(&mut self, to: usize) {
        for permit in std::iter::once(&mut self.bytes).chain(&mut self.part) {
            drop(permit.split(permit.num_permits().saturating_sub(to)));
        }
    }
}

impl Budget {
    /// 256 MiB.
    pub const DEFAULT_BYTES: u32 = 256 << 20;

    /// A budget of so many bytes.
    #[must_use]
    pub fn new(total: u32) -> Self {
        let part = Arc::new(Semaphore::new((total / STRANGERS_PART) as usize));
        let free = Arc::new(Semaphore::new(total as usize));
        Self { free, total, part, is_for_strangers: false }
    }

    /// The same budget for those who have not proved yet who they are: a quarter of it is theirs, so
    /// that they cannot hold all of it.
    #[must_use]
    pub fn strangers(&self) -> Self {
        Self { is_for_strangers: true, ..self.clone() }
    }

    /// Takes bytes when they are there now. More than the whole budget counts as the whole budget, so
    /// that one oversized taker runs alone instead of never.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let count = self.clamp(bytes);
        let part = match self.is_for_strangers {
            true => Some(Arc::clone(&self.part).try_acquire_many_owned(count).ok()?),
            false => None,
        };
        let bytes = Arc::clone(&self.free).try_acquire_many_owned(count).ok()?;
        Some(Permit { bytes, part })
    }

    /// Makes what is held of this budget so many bytes, if they are there now. False when they are
    /// not; what was held stays.
    #[must_use]
    pub fn try_grow(&self, held: &mut Option<Permit>, to: usize) -> bool {
        let before = held.as_ref().map_or(0, |permit| permit.bytes.num_permits());
        let missing = (self.clamp(to) as usize).saturating_sub(before);
        let Some(Permit { bytes, part }) = self.try_take(missing) else { return false };
        match held {
            None => *held = Some(Permit { bytes, part }),
            Some(permit) => {
                permit.bytes.merge(bytes);
                match (&mut permit.part, part) {
                    (Some(held), Some(part)) => held.merge(part),
                    (held, part) => *held = held.take().or(part),
                }
            }
        }
        true
    }

    /// Waits for bytes, in turn.
    ///
    /// # Cancel safety
    /// Safe: a dropped call takes nothing, and loses its turn.
    pub async fn take(&self, bytes: usize) -> Permit {
        let (count, mut part) = (self.clamp(bytes), None);
        let closed = "the semaphore is never closed";
        if self.is_for_strangers {
            part = Some(Arc::clone(&self.part).acquire_many_owned(count).await.expect(closed));
        }
        let taken = Arc::clone(&self.free).acquire_many_owned(count).await;
        Permit { bytes: taken.expect(closed), part }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.total as usize - self.free.available_permits()
    }

    fn clamp(&self, bytes: usize) -> u32 {
        let most = if self.is_for_strangers { self.total / STRANGERS_PART } else { self.total };
        u32::try_from(bytes).unwrap_or(u32::MAX).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_and_the_oversized_run_alone() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(60).is_none());
        assert_eq!(budget.used(), 60);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1_000_000).await }
        });
        tokio::task::yield_now().await;
        assert!(budget.try_take(1).is_none(), "those who wait are served in turn");
        drop(first);
        let all = waiting.await.unwrap();
        assert_eq!(budget.used(), 100);
        drop(all);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn strangers_have_a_quarter_until_they_are_known() {
        let budget = Budget::new(100);
        let (strangers, mut held) = (budget.strangers(), None);
        assert!(strangers.try_grow(&mut held, 10) && strangers.try_grow(&mut held, 25));
        assert_eq!(budget.used(), 25);
        assert!(strangers.try_take(1).is_none());
        let mut other = None;
        assert!(!strangers.try_grow(&mut other, 1) && other.is_none());
        held.as_mut().unwrap().introduce();
        assert!(strangers.try_take(25).is_some());
        held.as_mut().unwrap().shrink(5);
        assert_eq!(budget.used(), 5);
        assert!(budget.try_take(96).is_none() && budget.try_take(95).is_some());
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
