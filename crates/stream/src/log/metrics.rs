//! Counters of a log.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only rise, since the log was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Appends that are durable.
    pub appends: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Their bytes in the log, frames included.
    pub bytes: AtomicU64,
    /// Group commits (one write and one fdatasync each).
    pub syncs: AtomicU64,
    /// Time spent in them.
    pub sync_nanos: AtomicU64,
    /// Appends refused because there was no room.
    pub refused: AtomicU64,
    /// Places where damaged records were skipped.
    pub corrupt_skipped: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
