//! The reader: one source per stream, joined.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use muster_types::{Body, Payload, Pos, Shard};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::layout::{STREAMS, stream_of};
use super::shared::Shared;
use super::source::{Found, Source};
use super::trims;
use crate::{Entry, ReadError, Reader};

/// Messages that wait between sources and reader.
const WAITING_MAX: usize = 16;

/// Reads some shards; its sources end with it.
pub(super) struct JetReader {
    shared: Arc<Shared>,
    /// Each shard, and up to where it was handed out.
    after: Vec<(Shard, Pos)>,
    queue: mpsc::Receiver<Found>,
    pending: VecDeque<Entry>,
    pending_bytes: usize,
    _sources: JoinSet<()>,
}

impl JetReader {
    pub(super) async fn open(
        shared: &Arc<Shared>,
        after: Vec<(Shard, Pos)>,
    ) -> Result<Self, ReadError> {
        shared.usable().map_err(ReadError::Unavailable)?;
        let by_stream: Vec<(usize, Vec<(Shard, Pos)>)> = (0..STREAMS)
            .map(|stream| {
                let of = after.iter().filter(|(shard, _)| stream_of(*shard) == stream);
                (stream, of.copied().collect())
            })
            .filter(|(_, shards): &(usize, Vec<_>)| !shards.is_empty())
            .collect();
        let ends =
            by_stream.iter().map(|(stream, shards)| trims::check_end(shared, *stream, shards));
        try_join_all(ends).await?;
        try_join_all(after.iter().map(|(shard, after)| trims::check(shared, *shard, *after)))
            .await?;
        let (out, queue) = mpsc::channel(WAITING_MAX);
        let mut sources = JoinSet::new();
        for (stream, shards) in by_stream {
            sources
                .spawn(Source { shared: shared.clone(), stream, shards, out: out.clone() }.run());
        }
        let (shared, pending) = (shared.clone(), VecDeque::new());
        Ok(Self { shared, after, queue, pending, pending_bytes: 0, _sources: sources })
    }

    /// What this process has trimmed below the reader is an error at once, whatever is on its way.
    fn check_trimmed(&self) -> Result<(), ReadError> {
        for (shard, after) in &self.after {
            let mark = self.shared.trims.mark(*shard);
            if *after < mark {
                return Err(ReadError::TrimmedBelow { shard: *shard, after: *after, oldest: mark });
            }
        }
        Ok(())
    }

    fn add(&mut self, entries: Vec<Entry>) {
        self.pending_bytes += entries.iter().map(weight).sum::<usize>();
        self.pending.extend(entries);
    }

    fn take(&mut self, max_bytes: usize) -> Vec<Entry> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.pending.front() {
            bytes += weight(next);
            if !taken.is_empty() && bytes > max_bytes {
                break;
            }
            self.pending_bytes -= weight(next);
            taken.extend(self.pending.pop_front());
        }
        for Entry { pos, record } in &taken {
            let shard = record.shard();
            if let Some((_, after)) = self.after.iter_mut().find(|(of, _)| *of == shard) {
                *after = *pos;
            }
        }
        taken
    }
}

#[async_trait]
impl Reader for JetReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.check_trimmed()?;
        if self.pending.is_empty() {
            let gone = || ReadError::Unavailable("reading has ended".to_owned());
            let found = self.queue.recv().await.ok_or_else(gone)??;
            self.add(found);
            self.check_trimmed()?;
        }
        while self.pending_bytes < max_bytes {
            match self.queue.try_recv() {
                Ok(Ok(found)) => self.add(found),
                // What is there was read before it; the channel ends with it, and the next call says so.
                Ok(Err(error)) if self.pending.is_empty() => return Err(error),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "reading ended");
                    self.queue.close();
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(self.take(max_bytes))
    }
}

/// About what an entry costs its reader; what it only refers to counts as well.
fn weight(entry: &Entry) -> usize {
    match &entry.record.body {
        Body::Wire(Payload::Inline(bytes)) => 32 + bytes.len(),
        Body::Wire(Payload::Object { byte_count, .. }) => {
            usize::try_from(*byte_count).unwrap_or(usize::MAX / 4).min(usize::MAX / 4)
        }
        Body::Fact(_) => 64,
    }
}
