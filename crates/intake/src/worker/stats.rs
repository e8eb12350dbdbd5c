//! What a worker has done since its process started.

use crate::fold::Counters;

/// Counts for metrics. They only rise, except `lag_ms`, `shards` and `standing_still`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// What the fold met, in all sessions. What was folded and not committed when a session ended is
    /// folded again, and counted again.
    pub folded: Counters,
    /// Transactions that published a segment or moved a position.
    pub commits: u64,
    /// Bytes of segments that were published.
    pub committed_bytes: u64,
    /// Sessions that ended with an error and were begun again.
    pub failures: u64,
    /// Age of the oldest record that was read and is not committed, when it was last looked at.
    pub lag_ms: u64,
    /// Shards held now.
    pub shards: u64,
    /// Shards of these whose records are gone from the stream: they wait for an operator.
    pub standing_still: u64,
}
