//! Counters of a stream on NATS.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only rise, since the stream was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Appends that are durable.
    pub appends: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Their bytes in messages.
    pub bytes: AtomicU64,
    /// Messages that were acknowledged.
    pub messages: AtomicU64,
    /// Time from sending a message to its acknowledgement, in all.
    pub message_nanos: AtomicU64,
    /// Messages sent again because another instance wrote to the shard at the same time.
    pub conflicts: AtomicU64,
    /// Appends refused because there was no room.
    pub refused: AtomicU64,
    /// Appends refused because NATS was away or did not answer.
    pub unavailable: AtomicU64,
    /// Times that reading began again after the connection or a server failed.
    pub reread: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
