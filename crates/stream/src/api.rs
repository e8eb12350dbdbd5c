//! The contract every implementation keeps; `conformance` holds it to it.

use std::time::Duration;

use async_trait::async_trait;
use muster_types::{Pos, Record, Shard};
use tokio::sync::watch;

/// Why an append did not happen (or may not have).
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The quota of the record's class is used up, or the disk is nearly full. Nothing was written.
    #[error("stream is full, retry in {} ms", retry_after.as_millis())]
    Full {
        /// When to come again.
        retry_after: Duration,
    },
    /// The store cannot be reached now; it is not known whether the records were written.
    #[error("stream is unavailable: {0}")]
    Unavailable(String),
    /// The log is broken (a failed fdatasync) and the process is about to end.
    #[error("stream failed for good: {0}")]
    Fatal(String),
}

/// Why reading stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Records after the asked position are gone. Never skipped silently.
    #[error("shard {shard} is trimmed: asked for records after {after}, oldest kept is {oldest}")]
    TrimmedBelow {
        /// Which shard.
        shard: Shard,
        /// The position asked for.
        after: Pos,
        /// The first position still there.
        oldest: Pos,
    },
    /// The store cannot be read now.
    #[error("stream cannot be read: {0}")]
    Unavailable(String),
    /// A newer version of the program wrote what comes next, and this one does not read it.
    #[error("stream cannot be read: {0}")]
    Newer(String),
}

/// How full the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pressure {
    /// Bytes kept and not trimmed.
    pub used_bytes: u64,
    /// Bytes it may use.
    pub quota_bytes: u64,
    /// Intake has stopped: quota or free disk is used up.
    pub stopped: bool,
}

/// One record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position, rising within its shard.
    pub pos: Pos,
    /// The record.
    pub record: Record,
}

/// Reads some shards in their order; made by [`Stream::reader`].
#[async_trait]
pub trait Reader: Send {
    /// The next records, at least one and at most about `max_bytes`; waits for them. Within a shard
    /// positions rise; a record may come twice over the life of several readers, never out of order.
    ///
    /// # Errors
    /// [`ReadError`]; the reader is of no use afterwards, make a new one.
    ///
    /// # Cancel safety
    /// Safe: a dropped call loses nothing.
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError>;
}

/// Facts in flight. See the crate's documentation for the promise.
#[async_trait]
pub trait Stream: Send + Sync {
    /// Appends records, all durable on `Ok`, in the order given within each shard. Positions are
    /// returned in the order of the records.
    ///
    /// # Errors
    /// [`AppendError`]. Records that were refused may have been written in spite of it, but only before
    /// anything that was appended to their shard later, by whomever.
    ///
    /// # Cancel safety
    /// When dropped the records may or may not be written.
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError>;

    /// A reader of these shards, each from after the given position ([`Pos`] 0: from the start).
    ///
    /// # Errors
    /// [`ReadError::TrimmedBelow`] when records after a position are already gone.
    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError>;

    /// Forgets a shard's records up to and including `upto`, a position of this shard, perhaps a
    /// moment later. What was appended with a record that is kept may be kept too. Monotone: a lower
    /// value changes nothing.
    async fn trim(&self, shard: Shard, upto: Pos);

    /// How full it is, as it changes.
    fn pressure(&self) -> watch::Receiver<Pressure>;
}
