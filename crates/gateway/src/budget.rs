//! The byte budget: how much memory all messages being taken may use together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on bytes in flight, shared by all gateways of the process. Bytes, not messages: a count
/// would either let large ones exhaust memory or hold small ones back.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Bytes taken from the budget; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Permit {
    _bytes: OwnedSemaphorePermit,
}

impl Budget {
    /// 256 MiB.
    pub const DEFAULT_BYTES: u32 = 256 << 20;

    /// A budget of so many bytes.
    #[must_use]
    pub fn new(total: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Takes bytes when they are there now. More than the whole budget counts as the whole budget, so
    /// that one oversized taker runs alone instead of never.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let bytes = self.clamp(bytes);
        Arc::clone(&self.free).try_acquire_many_owned(bytes).ok().map(|_bytes| Permit { _bytes })
    }

    /// Waits for bytes, in turn.
    ///
    /// # Cancel safety
    /// Safe: a dropped call takes nothing, and loses its turn.
    pub async fn take(&self, bytes: usize) -> Permit {
        let free = Arc::clone(&self.free);
        let taken = free.acquire_many_owned(self.clamp(bytes)).await;
        Permit { _bytes: taken.expect("the semaphore is never closed") }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.total as usize - self.free.available_permits()
    }

    fn clamp(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total)
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
}
