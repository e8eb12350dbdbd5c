//! The appender's side: encode, be admitted, queue, wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use muster_types::{Class, Pos, Record};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::committer::BATCH_BYTES;
use super::frame;
use super::metrics::Metrics;
use super::queue::Chunk;
use super::shared::{QUEUE_KIB, Shared};
use crate::{AppendError, quota};

/// How long an append waits for room in the queue before it is refused.
const WAIT: Duration = Duration::from_secs(5);

pub(super) async fn append(
    shared: &Arc<Shared>,
    records: Vec<Record>,
) -> Result<Vec<Pos>, AppendError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let class = quota::class_of(&records);
    // A full log refuses before it spends anything on encoding.
    admit(shared, class, 0)?;
    let count = records.len();
    let chunk_bytes = BATCH_BYTES.min((shared.options.segment_bytes() / 4) as usize);
    let parts = encode(&records, chunk_bytes)?;
    drop(records);
    let bytes: usize = parts.iter().map(|part| part.frames.len()).sum();
    let mut permit = Some(room(shared, bytes).await?);

    let mut replies = Vec::with_capacity(parts.len());
    {
        let mut queue = shared.queue.lock();
        if let Err(error) = queue.admit(class, bytes as u64) {
            drop(queue);
            return Err(refused(shared, error));
        }
        // All parts at once: nothing of another append comes between, and none is refused alone.
        let last = parts.len() - 1;
        for (index, Part { frames, records }) in parts.into_iter().enumerate() {
            let (reply, answer) = oneshot::channel();
            let permit = permit.take_if(|_| index == last);
            queue.push(Chunk { frames, records, class, reply, permit });
            replies.push(answer);
        }
    }
    shared.work.notify_one();

    let mut positions = Vec::with_capacity(count);
    for reply in replies {
        let gone = |_| AppendError::Fatal("the committer is gone".to_owned());
        positions.extend(reply.await.map_err(gone)??);
    }
    Ok(positions)
}

fn admit(shared: &Shared, class: Class, bytes: u64) -> Result<(), AppendError> {
    let admitted = shared.queue.lock().admit(class, bytes);
    admitted.map_err(|error| refused(shared, error))
}

fn refused(shared: &Shared, error: AppendError) -> AppendError {
    Metrics::add(&shared.metrics.refused, 1);
    shared.tell_pressure();
    error
}

/// Waits for room in the queue, for a while.
async fn room(shared: &Arc<Shared>, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
    // One that is larger than the queue has it alone.
    let kib = bytes.div_ceil(1024).min(QUEUE_KIB);
    let permits = shared.room.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX));
    match timeout(WAIT, permits).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(AppendError::Unavailable("the log is closed".to_owned())),
        Err(_) => {
            Metrics::add(&shared.metrics.refused, 1);
            Err(quota::full())
        }
    }
}

/// Some whole frames.
struct Part {
    frames: BytesMut,
    records: usize,
}

/// Encodes into parts of at most about `part_bytes`, a larger record alone.
fn encode(records: &[Record], part_bytes: usize) -> Result<Vec<Part>, AppendError> {
    let mut parts = vec![Part { frames: BytesMut::new(), records: 0 }];
    for record in records {
        let part = parts.last_mut().expect("begins with one part");
        let before = part.frames.len();
        frame::push(&mut part.frames, record);
        let frame_bytes = part.frames.len() - before;
        if frame_bytes > frame::PAYLOAD_BYTES_MAX {
            return Err(AppendError::Unavailable(format!(
                "a record of {frame_bytes} bytes is over the limit of {}; large payloads are \
                 objects of the archive",
                frame::PAYLOAD_BYTES_MAX
            )));
        }
        if before > 0 && part.frames.len() > part_bytes {
            let frames = part.frames.split_off(before);
            parts.push(Part { frames, records: 1 });
        } else {
            part.records += 1;
        }
    }
    Ok(parts)
}
