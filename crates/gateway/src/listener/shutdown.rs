//! The end of a listener, as its connections see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Begins once. Asking whether it did is one load: a connection does it at every request, and waits
/// for it only while it has nothing else to do.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: AtomicBool,
    token: CancellationToken,
}

impl Shutdown {
    /// One that did not begin.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner { begun: AtomicBool::new(false), token: CancellationToken::new() };
        Self(Arc::new(inner))
    }

    /// Begins it.
    pub fn begin(&self) {
        // In this order: who is woken must see it.
        self.0.begun.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Whether it began.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.0.begun.load(Ordering::Acquire)
    }

    /// Ready when it began.
    ///
    /// Every poll of it while it waits takes a lock that all connections share, so a task that is
    /// woken often polls it once, which leaves its waker there, and then asks [`Self::is_begun`].
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.0.token.clone().cancelled_owned()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
