//! Signals: SIGTERM and Ctrl-C drain, a second one ends at once; SIGHUP reloads.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals of a server process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Calls `reload` at each SIGHUP; returns at the first request to end, or when `failed` is cancelled.
    pub async fn wait(&mut self, failed: &CancellationToken, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                () = failed.cancelled() => return,
                _ = self.hangup.recv() => reload(),
            }
        }
    }

    /// Returns at the next request to end: somebody does not want to wait for the drain.
    pub async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
