//! How much is kept, and who may still append.
//!
//! The servers are asked once a second; what this instance appended since is added. Several instances
//! may together go beyond the quota by what they append in a second; the streams' own bound is above
//! that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use muster_types::Class;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::layout::STREAMS;
use super::shared::Shared;
use crate::{AppendError, Pressure, quota};

/// How often the servers are asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The accounts of one handle.
pub(super) struct Usage {
    state: Mutex<State>,
    pressure: watch::Sender<Pressure>,
    quota_bytes: u64,
    ask: Notify,
}

#[derive(Default)]
struct State {
    /// What the servers said.
    told: u64,
    /// Of `stored`, what they had certainly counted.
    counted: u64,
    /// What was admitted and has not failed.
    admitted: u64,
    /// What was acknowledged.
    stored: u64,
    refused: bool,
}

impl State {
    fn used(&self) -> u64 {
        self.told + (self.admitted - self.counted)
    }
}

impl Usage {
    pub(super) fn new(quota_bytes: u64) -> Self {
        let pressure = Pressure { used_bytes: 0, quota_bytes, stopped: false };
        let (state, pressure) = (Mutex::default(), watch::Sender::new(pressure));
        Self { state, pressure, quota_bytes, ask: Notify::new() }
    }

    pub(super) fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }

    /// Takes `bytes` of this class, or refuses them.
    pub(super) fn admit(&self, class: Class, bytes: u64) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        if state.used().saturating_add(bytes) <= quota::limit_bytes(class, self.quota_bytes) {
            state.admitted += bytes;
            return Ok(());
        }
        state.refused |= class <= Class::Collected;
        self.tell(&mut state);
        Err(quota::full())
    }

    /// What was admitted is acknowledged.
    pub(super) fn stored(&self, bytes: u64) {
        self.state.lock().stored += bytes;
    }

    /// What was admitted was not stored, as far as is known.
    pub(super) fn not_stored(&self, bytes: u64) {
        self.state.lock().admitted -= bytes;
    }

    /// The servers themselves refused.
    pub(super) fn refused(&self, class: Class) {
        let mut state = self.state.lock();
        state.refused |= class <= Class::Collected;
        self.tell(&mut state);
    }

    /// Asks the servers soon.
    pub(super) fn ask_soon(&self) {
        self.ask.notify_one();
    }

    fn tell(&self, state: &mut State) {
        let (used_bytes, quota_bytes) = (state.used(), self.quota_bytes);
        state.refused = quota::stopped(state.refused, used_bytes, quota_bytes);
        let pressure = Pressure { used_bytes, quota_bytes, stopped: state.refused };
        self.pressure.send_if_modified(|old| std::mem::replace(old, pressure) != pressure);
    }
}

/// Asks the servers until `stop`.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let usage = &shared.usage;
    loop {
        let before = usage.state.lock().stored;
        if shared.usable().is_ok()
            && let Some(told) = ask(&shared).await
        {
            let mut state = usage.state.lock();
            state.told = told;
            state.counted = before;
            usage.tell(&mut state);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timeout(ASK_EVERY, usage.ask.notified()) => {}
        }
    }
}

async fn ask(shared: &Shared) -> Option<u64> {
    let streams = (0..STREAMS).map(|stream| async move {
        let stream = shared.context.get_stream(shared.stream_name(stream)).await;
        stream.map(|stream| stream.cached_info().state.bytes)
    });
    match try_join_all(streams).await {
        Ok(bytes) => Some(bytes.iter().sum()),
        Err(error) => {
            tracing::debug!(%error, "cannot ask how full the streams are");
            None
        }
    }
}
