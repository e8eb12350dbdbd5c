//! When a connection that waits for a request has waited enough.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::listener::Shutdown;

/// Over when the listener ends, or when nothing came for a while. A request costs it the setting of
/// one flag: the timer runs on, and looks at the flag when it is done.
pub(super) struct Idle {
    shutdown: Shutdown,
    begun: Pin<Box<WaitForCancellationFutureOwned>>,
    is_registered: bool,
    timer: Pin<Box<Sleep>>,
    timeout: Duration,
    was_busy: bool,
}

impl Idle {
    pub(super) fn new(shutdown: &Shutdown, timeout: Duration) -> Self {
        Self {
            shutdown: shutdown.clone(),
            begun: Box::pin(shutdown.begun()),
            is_registered: false,
            timer: Box::pin(sleep(timeout)),
            timeout,
            was_busy: false,
        }
    }

    pub(super) fn was_busy(&mut self) {
        self.was_busy = true;
    }

    /// Ready when the connection shall end.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_registered, true)
            && self.begun.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        // Without polling it again: see `Shutdown::begun`.
        if self.shutdown.is_begun() {
            return Poll::Ready(());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.was_busy) {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
        Poll::Pending
    }
}
