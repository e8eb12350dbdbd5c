//! A stream in memory, for simulations and tests.
//!
//! A crash is dropping all handles but one: what was appended stays, as if it were on disk. It
//! keeps the same contract as the log, gaps between positions included.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use muster_types::{Class, Pos, Record, SHARDS, Shard};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{AppendError, Entry, Pressure, ReadError, Reader, Stream, quota};

/// A stream that lives as long as its last handle; clones share the data.
#[derive(Clone, Debug)]
pub struct MemoryStream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    end: watch::Sender<u64>,
    pressure: watch::Sender<Pressure>,
    quota_bytes: u64,
}

#[derive(Debug)]
struct State {
    shards: Vec<ShardLog>,
    last: u64,
    used_bytes: u64,
    refused: bool,
    refusal: Option<AppendError>,
}

#[derive(Clone, Debug, Default)]
struct ShardLog {
    records: VecDeque<Kept>,
    trimmed: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    entry: Entry,
    bytes: u64,
}

impl Default for MemoryStream {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStream {
    /// An empty stream without a quota worth the name.
    #[must_use]
    pub fn new() -> Self {
        Self::with_quota(u64::MAX)
    }

    /// An empty stream that keeps at most `quota_bytes` of encoded records.
    #[must_use]
    pub fn with_quota(quota_bytes: u64) -> Self {
        let shards = vec![ShardLog::default(); usize::from(SHARDS)];
        let state = State { shards, last: 0, used_bytes: 0, refused: false, refusal: None };
        let pressure = Pressure { used_bytes: 0, quota_bytes, stopped: false };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            end: watch::Sender::new(0),
            pressure: watch::Sender::new(pressure),
            quota_bytes,
        }))
    }

    /// From now on every append fails like this, until `None` is given.
    pub fn refuse(&self, with: Option<AppendError>) {
        self.0.state.lock().refusal = with;
    }

    /// All records kept of a shard, in order.
    #[must_use]
    pub fn entries(&self, shard: Shard) -> Vec<Entry> {
        let state = self.0.state.lock();
        state.shards[shard.index()].records.iter().map(|kept| kept.entry.clone()).collect()
    }
}

impl Shared {
    fn tell_pressure(&self, state: &mut State) {
        let (used_bytes, quota_bytes) = (state.used_bytes, self.quota_bytes);
        let stopped = quota::stopped(state.refused, used_bytes, quota_bytes);
        state.refused = stopped;
        self.pressure.send_replace(Pressure { used_bytes, quota_bytes, stopped });
    }
}

#[async_trait]
impl Stream for MemoryStream {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        let class = quota::class_of(&records);
        let sizes: Vec<u64> = records.iter().map(encoded_len).collect();
        let mut state = self.0.state.lock();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        let used_bytes = state.used_bytes.saturating_add(sizes.iter().sum());
        if used_bytes > quota::limit_bytes(class, self.0.quota_bytes) {
            state.refused |= class <= Class::Collected;
            self.0.tell_pressure(&mut state);
            return Err(quota::full());
        }
        let mut positions = Vec::with_capacity(records.len());
        for (record, bytes) in records.into_iter().zip(sizes) {
            // Gaps, so that nobody counts on positions being dense.
            state.last += 7;
            let pos = Pos(state.last);
            positions.push(pos);
            let shard = record.shard().index();
            let entry = Entry { pos, record };
            state.shards[shard].records.push_back(Kept { entry, bytes });
        }
        state.used_bytes = used_bytes;
        self.0.tell_pressure(&mut state);
        self.0.end.send_replace(state.last);
        Ok(positions)
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        let reader = MemoryReader { shared: self.0.clone(), end: self.0.end.subscribe(), after };
        let state = self.0.state.lock();
        reader.check_trimmed(&state)?;
        drop(state);
        Ok(Box::new(reader))
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        let mut state = self.0.state.lock();
        let mut freed = 0;
        let log = &mut state.shards[shard.index()];
        while let Some(first) = log.records.front().filter(|kept| kept.entry.pos <= upto) {
            freed += first.bytes;
            log.trimmed = first.entry.pos.0;
            log.records.pop_front();
        }
        state.used_bytes -= freed;
        self.0.tell_pressure(&mut state);
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.0.pressure.subscribe()
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    end: watch::Receiver<u64>,
    after: Vec<(Shard, Pos)>,
}

impl MemoryReader {
    fn check_trimmed(&self, state: &State) -> Result<(), ReadError> {
        for (shard, after) in &self.after {
            let trimmed = state.shards[shard.index()].trimmed;
            if after.0 < trimmed {
                let oldest = Pos(trimmed + 1);
                return Err(ReadError::TrimmedBelow { shard: *shard, after: *after, oldest });
            }
        }
        Ok(())
    }

    /// What is there now, merged over the shards in the order of positions.
    fn take(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let state = self.shared.state.lock();
        self.check_trimmed(&state)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let next = self.after.iter_mut().filter_map(|(shard, after)| {
                let records = &state.shards[shard.index()].records;
                let index = records.partition_point(|kept| kept.entry.pos <= *after);
                records.get(index).map(|kept| (kept, after))
            });
            let Some((kept, after)) = next.min_by_key(|(kept, _)| kept.entry.pos) else { break };
            bytes += kept.bytes;
            if !entries.is_empty() && bytes > max_bytes as u64 {
                break;
            }
            *after = kept.entry.pos;
            entries.push(kept.entry.clone());
        }
        Ok(entries)
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        loop {
            self.end.borrow_and_update();
            let entries = self.take(max_bytes)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            // The reader holds the sender, so this waits for the next append.
            let gone = |_| ReadError::Unavailable("the stream is gone".to_owned());
            self.end.changed().await.map_err(gone)?;
        }
    }
}

fn encoded_len(record: &Record) -> u64 {
    let mut bytes = BytesMut::new();
    record.encode(&mut bytes);
    bytes.len() as u64
}
