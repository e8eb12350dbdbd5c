//! The appender's side: encode, be admitted, queue, wait.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use muster_types::{Pos, Record, SHARDS, Shard};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::layout::RECORDS_MAX;
use super::message::Frames;
use super::metrics::Metrics;
use super::sender::{Chunk, Moment, PACK_BYTES, refuse_closed};
use super::shared::{QUEUE_KIB, Shared};
use crate::{AppendError, quota};

/// How long an append waits for room in the queue before it is refused.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Some records of one shard that travel together.
struct Part {
    shard: Shard,
    frames: Frames,
    /// Where in the append they stood.
    places: Vec<usize>,
}

pub(super) async fn append(
    shared: &Arc<Shared>,
    records: &[Record],
) -> Result<Vec<Pos>, AppendError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let result = try_append(shared, records).await;
    let counter = match &result {
        Ok(_) => {
            Metrics::add(&shared.metrics.records, records.len() as u64);
            &shared.metrics.appends
        }
        Err(AppendError::Full { .. }) => &shared.metrics.refused,
        Err(_) => &shared.metrics.unavailable,
    };
    Metrics::add(counter, 1);
    result
}

async fn try_append(shared: &Arc<Shared>, records: &[Record]) -> Result<Vec<Pos>, AppendError> {
    shared.usable().map_err(AppendError::Unavailable)?;
    let class = quota::class_of(records);
    // A full stream refuses before anything is spent on encoding.
    shared.usage.admit(class, 0)?;
    let parts = encode(shared, records)?;
    let bytes = parts.iter().map(|part| part.frames.bytes.len()).sum();
    let _room = room(shared, bytes).await?;
    let cost = bytes as u64 + parts.len() as u64 * shared.message_cost();
    shared.usage.admit(class, cost)?;

    let since = Moment::now();
    let mut waiting = Vec::with_capacity(parts.len());
    let mut parts = parts.into_iter().peekable();
    while let Some(first) = parts.next() {
        // All of one shard at once: they are sent in this order, and none after one that failed.
        let shard = first.shard;
        let failed = Arc::new(AtomicBool::new(false));
        let mut chunks = Vec::new();
        let mut next = Some(first);
        while let Some(Part { frames, places, .. }) = next {
            let (reply, answer) = oneshot::channel();
            let cost = frames.bytes.len() as u64 + shared.message_cost();
            chunks.push(Chunk { frames, class, cost, since, failed: failed.clone(), reply });
            waiting.push((places, answer));
            next = parts.next_if(|part| part.shard == shard);
        }
        refuse_closed(shared, shared.queues[shard.index()].push(chunks));
    }

    let mut positions = vec![Pos(0); records.len()];
    let mut stored = false;
    let mut problem = None;
    for (places, answer) in waiting {
        let closed = |_| AppendError::Unavailable("the stream is closed".to_owned());
        match answer.await.map_err(closed).flatten() {
            Ok(found) => {
                stored = true;
                for (place, pos) in places.into_iter().zip(found) {
                    positions[place] = pos;
                }
            }
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        None => Ok(positions),
        // Full says that nothing was written.
        Some(AppendError::Full { .. }) if stored => {
            Err(AppendError::Unavailable("there was room for a part only".to_owned()))
        }
        Some(error) => Err(error),
    }
}

/// Waits for room in the queue, for a while.
async fn room(shared: &Shared, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
    // One that is larger than the queue has it alone.
    let kib = u32::try_from(bytes.div_ceil(1024).min(QUEUE_KIB)).unwrap_or(u32::MAX);
    let permit = timeout(ROOM_WAIT, shared.room.clone().acquire_many_owned(kib)).await;
    let crowded = || AppendError::Unavailable("too much waits for NATS".to_owned());
    permit.ok().and_then(Result::ok).ok_or_else(crowded)
}

/// Encodes by shard, into parts of at most about [`PACK_BYTES`], a larger record alone. Parts of one
/// shard stand together and in order.
fn encode(shared: &Shared, records: &[Record]) -> Result<Vec<Part>, AppendError> {
    let max = shared.message_bytes_max();
    let mut by_shard: Vec<Vec<Part>> = (0..SHARDS).map(|_| Vec::new()).collect();
    for (place, record) in records.iter().enumerate() {
        let shard = record.shard();
        let parts = &mut by_shard[shard.index()];
        if parts.is_empty() {
            parts.push(Part { shard, frames: Frames::default(), places: Vec::new() });
        }
        let part = parts.last_mut().expect("it was just made");
        let length = part.frames.push(record);
        if length > max {
            return Err(shared.too_large(record, length));
        }
        let over =
            part.frames.bytes.len() > PACK_BYTES.min(max) || part.frames.records > RECORDS_MAX;
        if over && part.frames.records > 1 {
            let frames = part.frames.split_last(length);
            parts.push(Part { shard, frames, places: vec![place] });
        } else {
            part.places.push(place);
        }
    }
    Ok(by_shard.into_iter().flatten().collect())
}
