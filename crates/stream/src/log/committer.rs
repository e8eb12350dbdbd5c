//! The one thread that writes: group commit.
//!
//! It takes what has queued while the previous batch was synced, so batches grow with the load and
//! a lone append never waits for company. One write and one fdatasync per batch; then the readers
//! are told and the appenders answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use muster_types::{Class, Pos, SHARDS};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::frame;
use super::keeper::{Keeper, Rolled};
use super::metrics::Metrics;
use super::queue::Chunk;
use super::segment::SEAL_BYTES;
use super::shared::Shared;
use super::trims::PerShard;
use crate::{AppendError, quota};

/// Bytes of one batch, about.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// Chunks smaller than this are copied together, so that a batch is few pieces.
const COPY_BYTES: usize = 16 << 10;

/// How often an idle committer looks at the disk and writes trims.
const TICK: Duration = Duration::from_millis(500);

/// Why the committer ends early.
pub(super) type Fatal = String;

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Keeper,
}

impl Committer {
    /// Runs until the log is closed or broken.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _guard = PoisonOnPanic(&shared);
        let result = self.work();
        // The folder is free when the end is told.
        drop(self.keeper);
        match result {
            Ok(()) => shared.stop("the log is closed"),
            Err(why) => shared.poison(&why),
        }
    }

    fn work(&mut self) -> Result<(), Fatal> {
        self.keeper.upkeep()?;
        while let Some(chunks) = self.collect() {
            if !chunks.is_empty() {
                self.commit(chunks)?;
            }
            self.keeper.upkeep()?;
        }
        self.keeper.close()
    }

    /// Waits for work: chunks, or nothing when there may be something else to do. `None`: the log
    /// is closed and everything is written.
    fn collect(&self) -> Option<VecDeque<Chunk>> {
        let mut queue = self.shared.queue.lock();
        while queue.is_empty() {
            if queue.closing {
                return None;
            }
            if std::mem::take(&mut queue.trimmed) {
                return Some(VecDeque::new());
            }
            if self.shared.work.wait_for(&mut queue, TICK).timed_out() {
                return Some(VecDeque::new());
            }
        }
        Some(queue.take(BATCH_BYTES))
    }

    fn commit(&mut self, mut chunks: VecDeque<Chunk>) -> Result<(), Fatal> {
        while let Some(first) = chunks.front() {
            let fits = self.fitting(&chunks);
            if fits > 0 {
                let batch: Vec<Chunk> = chunks.drain(..fits).collect();
                self.write(batch)?;
                continue;
            }
            let needs = first.frames.len() as u64;
            if let Rolled::No = self.keeper.roll(needs, false)? {
                // The disk is full. Life-cycle facts may use what was put aside, so that work
                // that is under way can end.
                self.refuse(&mut chunks, |class| class != Class::LifeCycle);
                let Some(first) = chunks.front() else { break };
                if let Rolled::No = self.keeper.roll(first.frames.len() as u64, true)? {
                    self.refuse(&mut chunks, |_| true);
                }
            }
        }
        Ok(())
    }

    /// How many of the first chunks have room in the present segment.
    fn fitting(&self, chunks: &VecDeque<Chunk>) -> usize {
        let mut room = self.keeper.room().saturating_sub(SEAL_BYTES);
        let fits = chunks.iter().take_while(|chunk| {
            let left = room.checked_sub(chunk.frames.len() as u64);
            room = left.unwrap_or(room);
            left.is_some()
        });
        fits.count()
    }

    fn refuse(&self, chunks: &mut VecDeque<Chunk>, which: impl Fn(Class) -> bool) {
        let (refused, kept): (VecDeque<_>, _) =
            std::mem::take(chunks).into_iter().partition(|chunk| which(chunk.class));
        *chunks = kept;
        {
            let mut queue = self.shared.queue.lock();
            queue.low_disk = true;
            queue.queued_bytes -= total_bytes(refused.iter());
        }
        for chunk in refused {
            Metrics::add(&self.shared.metrics.refused, 1);
            let _ = chunk.reply.send(Err(quota::full()));
        }
        self.shared.tell_pressure();
    }

    /// Writes one batch, waits until it is durable, and tells everybody.
    fn write(&mut self, batch: Vec<Chunk>) -> Result<(), Fatal> {
        let started = Instant::now();
        let shared = &self.shared;
        let start = self.keeper.active().end();
        let placed = place(batch, start);
        let active = self.keeper.active();
        let synced = shared
            .disk
            .write_at(&active.file, &placed.parts, start - active.base)
            .and_then(|()| shared.disk.sync(&active.file));
        if let Err(error) = synced {
            let why = format!("cannot write {}: {error}", active.path.display());
            for done in placed.done {
                let _ = done.reply.send(Err(AppendError::Fatal(why.clone())));
            }
            return Err(why);
        }
        {
            let mut tail = shared.tail.lock();
            let mut pos = start;
            for part in placed.parts {
                let bytes = part.len() as u64;
                tail.push(pos, part);
                pos += bytes;
            }
        }
        active.extend(&placed.last, placed.end);
        shared.raise_last(&placed.last);
        let bytes = placed.end - start;
        let idle = {
            let mut queue = shared.queue.lock();
            queue.queued_bytes -= bytes;
            queue.kept_bytes += bytes;
            queue.is_empty()
        };
        shared.end.send_modify(|end| end.pos = placed.end);
        let metrics = &shared.metrics;
        Metrics::add(&metrics.appends, placed.done.len() as u64);
        Metrics::add(&metrics.bytes, bytes);
        Metrics::add(&metrics.syncs, 1);
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Metrics::add(&metrics.sync_nanos, nanos);
        for done in placed.done {
            Metrics::add(&metrics.records, done.positions.len() as u64);
            let _ = done.reply.send(Ok(done.positions));
        }
        if idle {
            shared.tell_pressure();
        }
        Ok(())
    }
}

/// A batch with its positions.
struct Placed {
    parts: Vec<Bytes>,
    done: Vec<Done>,
    last: PerShard,
    end: u64,
}

/// The answer to one chunk.
struct Done {
    reply: oneshot::Sender<Result<Vec<Pos>, AppendError>>,
    positions: Vec<Pos>,
    /// Given back when the answer is sent.
    _permit: Option<OwnedSemaphorePermit>,
}

fn place(batch: Vec<Chunk>, start: u64) -> Placed {
    let done = Vec::with_capacity(batch.len());
    let mut placed = Placed { parts: Vec::new(), done, last: [0; SHARDS as usize], end: start };
    let small_bytes = total_bytes(batch.iter().filter(|chunk| chunk.frames.len() < COPY_BYTES));
    let mut small = BytesMut::with_capacity(usize::try_from(small_bytes).unwrap_or(0));
    for Chunk { mut frames, records, reply, permit, .. } in batch {
        let mut positions = Vec::with_capacity(records);
        frame::place(&mut frames, placed.end, |shard, pos| {
            placed.last[usize::from(shard)] = pos.0;
            positions.push(pos);
        });
        placed.end += frames.len() as u64;
        placed.done.push(Done { reply, positions, _permit: permit });
        if frames.len() < COPY_BYTES {
            small.extend_from_slice(&frames);
            continue;
        }
        if !small.is_empty() {
            placed.parts.push(small.split().freeze());
        }
        placed.parts.push(frames.freeze());
    }
    if !small.is_empty() {
        placed.parts.push(small.freeze());
    }
    placed
}

fn total_bytes<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> u64 {
    chunks.map(|chunk| chunk.frames.len() as u64).sum()
}

/// A panic of the committer must not leave appenders waiting for ever.
struct PoisonOnPanic<'a>(&'a Shared);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("the committer panicked");
        }
    }
}
