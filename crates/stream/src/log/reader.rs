//! One cursor over the whole log, for any set of shards.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muster_types::{Body, DecodeError, Payload, Pos, Record, SHARDS, Shard};
use tokio::sync::watch;

use super::frame::{self, Parsed};
use super::metrics::Metrics;
use super::options::OnCorrupt;
use super::scan::read_some;
use super::segment::Segment;
use super::shared::{End, Shared};
use crate::{Entry, ReadError, Reader};

/// Bytes of one read from a file.
const READ_BYTES: usize = 256 << 10;

pub(super) struct LogReader {
    shared: Arc<Shared>,
    end: watch::Receiver<End>,
    /// Up to where each wanted shard has been read before.
    after: [Option<u64>; SHARDS as usize],
    /// Everything below has been looked at.
    cursor: u64,
    /// Bytes to read from a file next; more than usual for a large frame.
    want: usize,
}

/// What a look at the log gave.
enum Step {
    Entries(Vec<Entry>),
    /// Only other shards' records, or a larger read is needed: look again.
    Onward,
    /// There is no more now.
    AtEnd,
}

impl LogReader {
    pub(super) async fn open(
        shared: Arc<Shared>,
        wanted: &[(Shard, Pos)],
    ) -> Result<Self, ReadError> {
        let mut after = [None; SHARDS as usize];
        let end = shared.end.subscribe();
        // Read first: what is not among `last` below is at or after it.
        let durable = end.borrow().pos;
        let mut cursor = durable;
        for (shard, pos) in wanted {
            shared.check_trimmed(*shard, pos.0)?;
            after[shard.index()] = Some(pos.0);
            // A shard without anything new does not hold the cursor back.
            if shared.last(shard.index()) > pos.0 {
                cursor = cursor.min(pos.0);
            }
        }
        let mut reader = Self { shared, end, after, cursor, want: READ_BYTES };
        if cursor < durable {
            reader.align().await?;
        }
        Ok(reader)
    }

    /// Puts the cursor on a frame: at a position that a record has, or at the start of the file.
    async fn align(&mut self) -> Result<(), ReadError> {
        let Some(segment) = self.segment() else { return Ok(()) };
        if self.cursor <= segment.first() {
            self.cursor = segment.first();
            return Ok(());
        }
        let mut want = frame::HEADER_BYTES;
        loop {
            let bytes = self.read(&segment, want).await?;
            match frame::parse(&bytes, self.cursor, true) {
                Parsed::Frame { .. } => return Ok(()),
                Parsed::Short(needs) if needs > want => want = needs,
                _ => {
                    self.cursor = segment.first();
                    return Ok(());
                }
            }
        }
    }

    /// The first segment with something at or after the cursor.
    fn segment(&self) -> Option<Arc<Segment>> {
        let segments = self.shared.segments.read();
        let index = segments.partition_point(|segment| segment.end() <= self.cursor);
        segments.get(index).cloned()
    }

    async fn step(&mut self, max_bytes: usize) -> Result<Step, ReadError> {
        let from_tail = self.shared.tail.lock().read(self.cursor);
        let found = if from_tail.is_some() { None } else { self.segment() };
        // After the look: a file that was freed before it was trimmed before. And before the
        // cursor moves over what is not there.
        self.check_trimmed()?;
        if let Some((start, bytes)) = from_tail {
            self.cursor = start;
            return self.parse(None, &bytes, max_bytes);
        }
        let Some(segment) = found else { return Ok(Step::AtEnd) };
        self.cursor = self.cursor.max(segment.first());
        if !self.wants(&segment) {
            self.cursor = segment.end();
            return Ok(Step::Onward);
        }
        let bytes = self.read(&segment, self.want).await?;
        self.parse(Some(&segment), &bytes, max_bytes)
    }

    /// Nothing that was not looked at may be gone.
    fn check_trimmed(&self) -> Result<(), ReadError> {
        let seen = self.cursor.saturating_sub(1);
        for shard in Shard::all() {
            if let Some(after) = self.after[shard.index()] {
                self.shared.check_trimmed(shard, after.max(seen))?;
            }
        }
        Ok(())
    }

    /// Takes wanted records from whole frames that begin at the cursor.
    fn parse(
        &mut self,
        segment: Option<&Segment>,
        bytes: &Bytes,
        max_bytes: usize,
    ) -> Result<Step, ReadError> {
        let verify = segment.is_some();
        let (start, mut at, mut taken) = (self.cursor, 0, 0);
        let mut entries = Vec::new();
        while at < bytes.len() {
            match frame::parse(&bytes[at..], self.cursor, verify) {
                Parsed::Frame { shard, payload_bytes } => {
                    let after = self.after.get(usize::from(shard)).copied().flatten();
                    if after.is_some_and(|after| self.cursor > after) {
                        let payload = frame::payload(&bytes.slice(at..), payload_bytes);
                        let made = entry(self.cursor, payload)?;
                        taken += payload_bytes + claimed_bytes(&made);
                        if !entries.is_empty() && taken > max_bytes {
                            break;
                        }
                        entries.push(made);
                    }
                    at += frame::HEADER_BYTES + payload_bytes;
                    self.cursor = start + at as u64;
                }
                Parsed::Short(needs)
                    if segment.is_some_and(|s| s.end() - self.cursor >= needs as u64) =>
                {
                    self.want = needs.max(READ_BYTES);
                    break;
                }
                other => {
                    if entries.is_empty() {
                        self.skip_corrupt(segment, &bytes[at..], &other)?;
                    }
                    break;
                }
            }
        }
        Ok(if entries.is_empty() { Step::Onward } else { Step::Entries(entries) })
    }

    /// Where no frame stands though one was written: an error, or the next valid place.
    fn skip_corrupt(
        &mut self,
        segment: Option<&Segment>,
        bytes: &[u8],
        what: &Parsed,
    ) -> Result<(), ReadError> {
        let Some(segment) = segment else {
            return Err(ReadError::Unavailable("the tail in memory is damaged".to_owned()));
        };
        let (path, offset) = (segment.path.display(), self.cursor - segment.base);
        if self.shared.on_corrupt == OnCorrupt::Refuse {
            return Err(ReadError::Unavailable(format!(
                "{path} is damaged at offset {offset} ({what:?}): restore the file from a copy, or \
                 skip what cannot be read by opening the log once with skip-corrupt (those records \
                 are lost)"
            )));
        }
        // The length may be right and only the content damaged.
        let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let next = frame::HEADER_BYTES + length;
        let follows = bytes.get(next..).is_some_and(|rest| {
            let pos = self.cursor + next as u64;
            matches!(frame::parse(rest, pos, true), Parsed::Frame { .. })
        });
        self.cursor = if follows { self.cursor + next as u64 } else { segment.end() };
        tracing::error!(%path, offset, upto = self.cursor - segment.base, "skipped damaged records");
        Metrics::add(&self.shared.metrics.corrupt_skipped, 1);
        Ok(())
    }

    fn wants(&self, segment: &Segment) -> bool {
        let wanted = |(shard, after): (usize, &Option<u64>)| {
            after.is_some_and(|after| segment.last(shard) > after)
        };
        self.after.iter().enumerate().any(wanted)
    }

    /// Up to `want` durable bytes of the segment from the cursor on.
    async fn read(&self, segment: &Arc<Segment>, want: usize) -> Result<Bytes, ReadError> {
        let (segment, cursor) = (segment.clone(), self.cursor);
        let left = segment.end().saturating_sub(cursor);
        let want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
        let path = segment.path.clone();
        let read = move || read_some(&segment.file, cursor - segment.base, want);
        let read = tokio::task::spawn_blocking(read).await;
        let bytes = read.map_err(std::io::Error::other).and_then(|bytes| bytes);
        let failed =
            |error| ReadError::Unavailable(format!("cannot read {}: {error}", path.display()));
        bytes.map(Bytes::from).map_err(failed)
    }
}

#[async_trait]
impl Reader for LogReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        loop {
            let stopped = self.end.borrow_and_update().stopped.clone();
            // The state changes only after the last await of a step, so a dropped call loses
            // nothing but the read.
            match self.step(max_bytes).await? {
                Step::Entries(entries) => {
                    self.want = READ_BYTES;
                    return Ok(entries);
                }
                Step::Onward => tokio::task::consume_budget().await,
                Step::AtEnd => {
                    if let Some(why) = stopped {
                        return Err(ReadError::Unavailable(why));
                    }
                    let gone = |_| ReadError::Unavailable("the log is closed".to_owned());
                    self.end.changed().await.map_err(gone)?;
                }
            }
        }
    }
}

/// What a record only refers to counts as well: whoever reads it has it in memory next.
fn claimed_bytes(entry: &Entry) -> usize {
    match &entry.record.body {
        Body::Wire(Payload::Object { byte_count, .. }) => {
            usize::try_from(*byte_count).unwrap_or(usize::MAX / 2).min(usize::MAX / 2)
        }
        _ => 0,
    }
}

fn entry(pos: u64, payload: Bytes) -> Result<Entry, ReadError> {
    let record = Record::decode(payload);
    let record = record.map_err(|error| {
        let why = format!("the record at position {pos} cannot be read: {error}");
        match error {
            DecodeError::Version(_) => ReadError::Newer(why),
            _ => ReadError::Unavailable(why),
        }
    })?;
    Ok(Entry { pos: Pos(pos), record })
}
