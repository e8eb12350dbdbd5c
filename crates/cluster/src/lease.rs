//! What an instance holds of one job.

use std::collections::BTreeMap;

use muster_types::Epoch;
use tokio::time::Instant;

/// The partitions held of one job, and until when.
///
/// Whoever works under a lease stops at `valid_until` unless a later value has arrived, and writes
/// with the partition's epoch in the condition, so that a holder who was asleep changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Partition to epoch.
    pub epochs: BTreeMap<u16, Epoch>,
    /// By this machine's monotonic clock: two thirds of the time to live after the renewal was sent.
    pub valid_until: Instant,
}

impl Held {
    pub(crate) fn nothing() -> Self {
        Self { epochs: BTreeMap::new(), valid_until: Instant::now() }
    }

    /// Whether anything held may still be acted on.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.epochs.is_empty() && Instant::now() < self.valid_until
    }

    /// The epoch of a partition, while it may be acted on.
    #[must_use]
    pub fn epoch(&self, partition: u16) -> Option<Epoch> {
        let epoch = self.epochs.get(&partition).copied()?;
        (Instant::now() < self.valid_until).then_some(epoch)
    }
}
