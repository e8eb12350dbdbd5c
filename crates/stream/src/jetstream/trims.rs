//! Forgetting what is committed.
//!
//! A purge removes a shard's messages below the one that holds the position, so that this one tells
//! how far the shard is trimmed. A purge of less than was purged before changes nothing: a zombie's is
//! harmless, and one that was lost is made up by the next.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};
use futures_util::StreamExt;
use futures_util::stream::iter;
use muster_types::{Pos, SHARDS, Shard};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::layout;
use super::message;
use super::shared::Shared;
use crate::ReadError;

/// Purges of one round that are under way at once.
const AT_ONCE: usize = 8;

/// The pause between two rounds: a purge is a write of all replicas, and commits come every second.
const PAUSE: Duration = Duration::from_millis(500);

/// How far shards are trimmed, by this handle.
#[derive(Default)]
pub(super) struct Trims {
    marks: Mutex<Marks>,
    more: Notify,
}

struct Marks {
    /// What was asked for.
    wanted: [Pos; SHARDS as usize],
    /// What the servers have done.
    done: [Pos; SHARDS as usize],
}

impl Default for Marks {
    fn default() -> Self {
        Self { wanted: [Pos(0); SHARDS as usize], done: [Pos(0); SHARDS as usize] }
    }
}

impl Trims {
    /// What this handle has trimmed of a shard.
    pub(super) fn mark(&self, shard: Shard) -> Pos {
        self.marks.lock().wanted[shard.index()]
    }
}

/// Notes that a shard is trimmed; the servers are told soon after.
pub(super) async fn trim(shared: &Shared, shard: Shard, upto: Pos) {
    let upto = if layout::sequence(upto) > shared.seen(shard) {
        // Perhaps there is no such position: the last message has to stay.
        match last(shared, shard).await {
            Some(last) => upto.min(last),
            None => return,
        }
    } else {
        upto
    };
    let mut marks = shared.trims.marks.lock();
    let wanted = &mut marks.wanted[shard.index()];
    if upto > *wanted {
        *wanted = upto;
        drop(marks);
        shared.trims.more.notify_one();
    }
}

/// The last position of a shard; `None` when it has no records or cannot be asked.
async fn last(shared: &Shared, shard: Shard) -> Option<Pos> {
    let stream = shared.stream_name(layout::stream_of(shard));
    let stream = shared.context.get_stream_no_info(stream).await.ok()?;
    match stream.get_last_raw_message_by_subject(&shared.subject(shard)).await {
        Ok(last) => {
            let records = message::decode(last.payload).ok()?.len();
            Some(layout::pos(last.sequence, records.checked_sub(1)?))
        }
        Err(error) => {
            if error.kind() != LastRawMessageErrorKind::NoMessageFound {
                tracing::debug!(%error, "a trim was lost");
            }
            None
        }
    }
}

/// Purges until `stop`, and what is left then.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.trims.more.notified() => {}
        }
        if !round(&shared).await {
            // Nothing is lost: they are still wanted.
            shared.trims.more.notify_one();
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(PAUSE) => {}
        }
    }
    round(&shared).await;
}

/// Purges what is wanted and not done; whether all of it worked.
async fn round(shared: &Shared) -> bool {
    let wanted: Vec<(Shard, Pos)> = {
        let marks = shared.trims.marks.lock();
        let open = Shard::all().filter(|shard| {
            let of = shard.index();
            layout::sequence(marks.wanted[of]) > layout::sequence(marks.done[of])
        });
        open.map(|shard| (shard, marks.wanted[shard.index()])).collect()
    };
    if wanted.is_empty() {
        return true;
    }
    if shared.usable().is_err() {
        return false;
    }
    let purges = iter(wanted).map(|(shard, upto)| async move {
        let stream = shared.stream_name(layout::stream_of(shard));
        let Ok(stream) = shared.context.get_stream_no_info(stream).await else { return false };
        let purge = stream.purge().filter(shared.subject(shard)).sequence(layout::sequence(upto));
        match purge.await {
            Ok(_) => {
                let mut marks = shared.trims.marks.lock();
                let done = &mut marks.done[shard.index()];
                *done = upto.max(*done);
                true
            }
            Err(error) => {
                tracing::debug!(%shard, %error, "a purge failed; it is tried again");
                false
            }
        }
    });
    let results: Vec<bool> = purges.buffer_unordered(AT_ONCE).collect().await;
    shared.usage.ask_soon();
    results.into_iter().all(|worked| worked)
}

/// Refuses to read after a position below what is kept. Asks the leader, as another replica may not
/// know yet.
pub(super) async fn check(shared: &Shared, shard: Shard, after: Pos) -> Result<(), ReadError> {
    let unavailable = |why: String| ReadError::Unavailable(why);
    let stream = shared.stream_name(layout::stream_of(shard));
    let stream = shared.context.get_stream_no_info(&stream).await;
    let stream = stream.map_err(|error| unavailable(error.to_string()))?;
    let first = match stream.get_first_raw_message_by_subject(shared.subject(shard), 1).await {
        Ok(first) => first,
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
            return Err(unavailable(format!(
                "shard {shard} has not begun: its stream is being made"
            )));
        }
        Err(error) => {
            return Err(unavailable(format!("NATS does not say where a shard begins: {error}")));
        }
    };
    // A shard that stands at its beginning lacks nothing that came after that. What came before, in a
    // stream that is no more, was read up to the position the beginning names, and no further.
    let lacks_nothing = match message::as_beginning(&first.payload) {
        Some(before) => after == before,
        None => false,
    };
    if layout::sequence(after) < first.sequence && !lacks_nothing {
        let oldest = layout::pos(first.sequence, 0);
        return Err(ReadError::TrimmedBelow { shard, after, oldest });
    }
    Ok(())
}

/// Refuses to read after a position that the stream has not reached: it is not the stream the position
/// was made with, and new records would be taken for old ones.
pub(super) async fn check_end(
    shared: &Shared,
    stream: usize,
    wanted: &[(Shard, Pos)],
) -> Result<(), ReadError> {
    let name = shared.stream_name(stream);
    let info = shared.context.get_stream(&name).await;
    let info = info.map_err(|error| ReadError::Unavailable(error.to_string()))?;
    let last = info.cached_info().state.last_sequence;
    match wanted.iter().find(|(_, after)| layout::sequence(*after) > last) {
        None => Ok(()),
        Some((shard, after)) => Err(ReadError::Unavailable(format!(
            "shard {shard} was read up to {after}, and stream {name} ends at {}: it was made anew, or \
             restored from an older copy",
            layout::pos(last, 0)
        ))),
    }
}
