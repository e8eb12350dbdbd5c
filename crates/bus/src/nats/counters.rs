//! What a bus on NATS counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only rise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Hints handed to the connection.
    pub sent: AtomicU64,
    /// Hints of other instances that arrived.
    pub received: AtomicU64,
    /// Hints among them that no instance of this version sealed: their content was not read.
    pub unsealed: AtomicU64,
    /// Hints for other instances that were dropped: no server, no room in the buffer, or too long.
    pub dropped: AtomicU64,
    /// Times that subscribers here were told that hints may be lost.
    pub gaps: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
