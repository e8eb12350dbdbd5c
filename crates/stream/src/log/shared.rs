//! What appenders, readers and the committer of one log share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_types::{Pos, SHARDS, Shard};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use super::disk::Disk;
use super::metrics::Metrics;
use super::options::{LogOptions, OnCorrupt};
use super::queue::Queue;
use super::segment::Segment;
use super::tail::Tail;
use super::trims::PerShard;
use crate::{Pressure, ReadError, quota};

/// Up to where records are durable, and whether that can still change.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) pos: u64,
    pub(super) stopped: Option<String>,
}

pub(super) struct Shared {
    pub(super) options: LogOptions,
    pub(super) on_corrupt: OnCorrupt,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) queue: Mutex<Queue>,
    /// Wakes the committer.
    pub(super) work: Condvar,
    /// Room in the queue, in KiB.
    pub(super) room: Arc<Semaphore>,
    /// All files, rising; the last one is written to.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) tail: Mutex<Tail>,
    /// The highest durable position of each shard.
    last: [AtomicU64; SHARDS as usize],
    /// Up to where each shard is trimmed; never above `last`.
    trimmed: [AtomicU64; SHARDS as usize],
    pub(super) end: watch::Sender<End>,
    pub(super) pressure: watch::Sender<Pressure>,
    pub(super) metrics: Metrics,
}

/// What recovery found.
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) trimmed: PerShard,
    pub(super) end: u64,
    pub(super) metrics: Metrics,
}

/// Bytes that may wait for the committer.
pub(super) const QUEUE_KIB: usize = 32 << 10;

impl Shared {
    pub(super) fn new(
        options: LogOptions,
        on_corrupt: OnCorrupt,
        disk: Arc<dyn Disk>,
        recovered: Recovered,
    ) -> Self {
        let Recovered { segments, trimmed, end, metrics } = recovered;
        let kept_bytes = segments.iter().map(|segment| segment.frame_bytes()).sum();
        let last = |shard: usize| {
            let kept = segments.iter().map(|segment| segment.last(shard)).max();
            kept.unwrap_or(0).max(trimmed[shard])
        };
        let quota_bytes = options.quota_bytes;
        Self {
            on_corrupt,
            disk,
            queue: Mutex::new(Queue::new(quota_bytes, kept_bytes)),
            work: Condvar::new(),
            room: Arc::new(Semaphore::new(QUEUE_KIB)),
            last: std::array::from_fn(|shard| AtomicU64::new(last(shard))),
            trimmed: trimmed.map(AtomicU64::new),
            segments: RwLock::new(segments),
            tail: Mutex::default(),
            end: watch::Sender::new(End { pos: end, stopped: None }),
            pressure: watch::Sender::new(Pressure {
                used_bytes: kept_bytes,
                quota_bytes,
                stopped: false,
            }),
            metrics,
            options,
        }
    }

    /// The highest durable position of a shard.
    pub(super) fn last(&self, shard: usize) -> u64 {
        self.last[shard].load(Ordering::Acquire)
    }

    /// Up to where a shard is trimmed.
    pub(super) fn trimmed(&self, shard: usize) -> u64 {
        self.trimmed[shard].load(Ordering::Acquire)
    }

    /// Up to where each shard is trimmed.
    pub(super) fn all_trimmed(&self) -> PerShard {
        std::array::from_fn(|shard| self.trimmed(shard))
    }

    /// Takes note of what became durable; before `end` is told.
    pub(super) fn raise_last(&self, last: &PerShard) {
        for (own, last) in self.last.iter().zip(last) {
            own.fetch_max(*last, Ordering::Release);
        }
    }

    /// Trims a shard, never beyond its last record, so that it says what really is gone.
    pub(super) fn trim(&self, shard: Shard, upto: Pos) {
        let shard = shard.index();
        let upto = upto.0.min(self.last(shard));
        if self.trimmed[shard].fetch_max(upto, Ordering::AcqRel) < upto {
            self.queue.lock().trimmed = true;
            self.work.notify_one();
        }
    }

    /// Refuses a reader that has seen `shard` up to `after` when records behind that are gone.
    pub(super) fn check_trimmed(&self, shard: Shard, after: u64) -> Result<(), ReadError> {
        let trimmed = self.trimmed(shard.index());
        if after >= trimmed {
            return Ok(());
        }
        Err(ReadError::TrimmedBelow { shard, after: Pos(after), oldest: Pos(trimmed + 1) })
    }

    /// Tells how full it is, when that differs.
    pub(super) fn tell_pressure(&self) {
        let now = {
            let mut queue = self.queue.lock();
            queue.refused = quota::stopped(queue.refused, queue.kept_bytes, queue.quota_bytes);
            Pressure {
                used_bytes: queue.kept_bytes,
                quota_bytes: queue.quota_bytes,
                stopped: queue.refused || queue.low_disk,
            }
        };
        self.pressure.send_if_modified(|then| std::mem::replace(then, now) != now);
    }

    /// The log is broken: nothing is tried again, as the kernel may have dropped what it could not
    /// write. Everything that waits fails, and the process is told to end.
    pub(super) fn poison(&self, why: &str) {
        let waiting = {
            let mut queue = self.queue.lock();
            if queue.poisoned.is_some() {
                return;
            }
            queue.poisoned = Some(why.to_owned());
            queue.take(usize::MAX)
        };
        tracing::error!(why, "the log failed for good");
        for chunk in waiting {
            let _ = chunk.reply.send(Err(crate::AppendError::Fatal(why.to_owned())));
        }
        (self.options.on_fatal)(why);
        self.stop(why);
    }

    /// Tells readers that nothing comes any more.
    pub(super) fn stop(&self, why: &str) {
        self.end.send_modify(|end| end.stopped = Some(why.to_owned()));
    }

    /// Where the log lives.
    pub(super) fn dir(&self) -> &PathBuf {
        &self.options.dir
    }
}
