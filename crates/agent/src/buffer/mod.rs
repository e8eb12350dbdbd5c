//! The disk buffer: what the agent found and the server has not yet acknowledged.
//!
//! Batches are numbered from 1 in a stream whose identity is drawn when the buffer is made, and
//! stand in append-only segment files as the very frames that are sent. Several batches written by
//! one [`Buffer::append`] become visible together or not at all, whatever dies in between: a record
//! says whether it ends its group, and opening cuts an unfinished group off. Nothing is sent before
//! its group is on disk, so a number that was cut off was never seen by anybody and may be used again.
//!
//! An acknowledged segment is deleted; how far acknowledgement went inside a segment is kept in a
//! small file of its own, without syncing: losing it only means sending again what the server
//! recognises as repeats.

mod acked;
mod segment;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use muster_codec_native::{Batch, StreamSeq};
use muster_types::Fact;
use tokio::sync::watch;

use acked::Acked;
use segment::Segment;

/// Why something was not buffered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bound is reached.
    #[error("buffer full: {used} of {quota} bytes wait for the server")]
    Full {
        /// Bytes waiting.
        used: u64,
        /// The bound.
        quota: u64,
    },
    /// The disk is full.
    #[error("no room on the disk of {path}")]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// A batch that no frame can hold.
    #[error("a batch does not fit a frame: {0}")]
    Frame(#[from] muster_codec_native::Error),
    /// The disk.
    #[error("buffer at {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        source: io::Error,
    },
}

/// Bounds of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that may wait for the server.
    pub quota_bytes: u64,
    /// Beyond the quota, for saying that something failed.
    pub reserve_bytes: u64,
    /// A segment file takes no more groups beyond this.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { quota_bytes: 256 << 20, reserve_bytes: 4 << 20, segment_bytes: 4 << 20 }
    }
}

/// Whether an append may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Rows: the quota.
    Quota,
    /// A short word about an end: quota and reserve.
    Reserve,
}

/// The buffer. One per data folder; cheap to share behind an [`Arc`].
pub struct Buffer {
    dir: PathBuf,
    options: Options,
    /// Taken for a whole group, by one writer after the other.
    writer: Mutex<Writer>,
    /// Taken for moments.
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct Writer {
    segment: Arc<Segment>,
    /// Where the next record goes; what lies behind it is no group.
    end: u64,
    next_seq: u64,
    /// Names rise.
    next_name: u64,
}

struct State {
    waiting: VecDeque<Entry>,
    used: u64,
    acked: Acked,
}

#[derive(Clone)]
struct Entry {
    at: StreamSeq,
    segment: Arc<Segment>,
    offset: u64,
    length: u32,
}

impl Buffer {
    /// Opens the buffer of a folder, or makes an empty one.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let acked = Acked::open(dir).map_err(failed)?;
        let (mut waiting, mut used) = (VecDeque::new(), 0);
        let mut last: Option<(Arc<Segment>, u64, u64)> = None;
        let mut next_name = 0;
        for (name, path) in segment::list(dir).map_err(failed)? {
            next_name = name + 1;
            let Some(scan) = segment::scan(&path).map_err(failed)? else {
                // Died before its header was written: nothing was in it.
                fs::remove_file(&path).map_err(failed)?;
                continue;
            };
            let stream = scan.segment.stream;
            for record in &scan.records {
                let at = StreamSeq { stream, seq: record.seq };
                if !acked.covers(at) {
                    used += u64::from(record.length);
                    let segment = Arc::clone(&scan.segment);
                    let (offset, length) = (record.offset, record.length);
                    waiting.push_back(Entry { at, segment, offset, length });
                }
            }
            last = Some((scan.segment, scan.end, scan.next_seq));
        }
        let (segment, end, next_seq) = match last {
            Some(last) => last,
            None => fresh(dir, next_name, rand::random(), 1).map_err(failed)?,
        };
        let newest = next_seq - 1;
        let writer = Writer { segment, end, next_seq, next_name: next_name.max(1) };
        let buffer = Self {
            dir: dir.to_owned(),
            options,
            writer: Mutex::new(writer),
            state: Mutex::new(State { waiting, used, acked }),
            changed: watch::Sender::new(newest),
        };
        buffer.sweep().map_err(failed)?;
        Ok(buffer)
    }

    /// Writes a group of batches: `fill` adds them one by one, and all of them are durable and
    /// visible when this returns, or none is. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Full`] at the bound; what `fill` gives; the disk's.
    pub fn append<E: From<Error>>(
        &self,
        room: Room,
        fill: impl FnOnce(&mut Group<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.append_then(room, fill, || {})
    }

    /// As [`Buffer::append`]; `then` runs when the group is durable and nobody has seen it yet.
    ///
    /// # Errors
    /// As [`Buffer::append`].
    pub fn append_then<E: From<Error>>(
        &self,
        room: Room,
        fill: impl FnOnce(&mut Group<'_>) -> Result<(), E>,
        then: impl FnOnce(),
    ) -> Result<(), E> {
        let mut writer = lock(&self.writer);
        if writer.end > self.options.segment_bytes {
            let (name, stream, seq) = (writer.next_name, writer.segment.stream, writer.next_seq);
            let (segment, end, _) = fresh(&self.dir, name, stream, seq).map_err(|e| self.io(e))?;
            (writer.segment, writer.end, writer.next_name) = (segment, end, name + 1);
        }
        // The rest of a group that failed must not look like part of this one.
        writer.segment.file.set_len(writer.end).map_err(|e| self.io(e))?;
        let reserve = if room == Room::Reserve { self.options.reserve_bytes } else { 0 };
        let mut group = Group {
            buffer: self,
            segment: Arc::clone(&writer.segment),
            end: writer.end,
            next_seq: writer.next_seq,
            quota: self.options.quota_bytes + reserve,
            used: lock(&self.state).used,
            held: None,
            entries: Vec::new(),
        };
        fill(&mut group)?;
        group.write_held(true)?;
        let Group { end, next_seq, entries, segment, .. } = group;
        segment.file.sync_data().map_err(|e| self.io(e))?;
        (writer.end, writer.next_seq) = (end, next_seq);
        then();
        {
            let mut state = lock(&self.state);
            state.used += entries.iter().map(|entry| u64::from(entry.length)).sum::<u64>();
            state.waiting.extend(entries);
        }
        self.changed.send_replace(next_seq - 1);
        Ok(())
    }

    /// The first batch that waits, or the first behind one that was sent already.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&self, after: Option<StreamSeq>) -> Result<Option<(StreamSeq, Bytes)>, Error> {
        let entry = {
            let state = lock(&self.state);
            // Batches leave in order, so the sent ones are a prefix of those that wait.
            let sent = after.and_then(|at| state.waiting.iter().rposition(|entry| entry.at == at));
            let Some(entry) = state.waiting.get(sent.map_or(0, |at| at + 1)) else {
                return Ok(None);
            };
            entry.clone()
        };
        let mut frame = vec![0; entry.length as usize];
        let read = entry.segment.file.read_exact_at(&mut frame, entry.offset);
        read.map_err(|e| self.io(e))?;
        Ok(Some((entry.at, frame.into())))
    }

    /// The first batch that waits.
    #[must_use]
    pub fn first_waiting(&self) -> Option<StreamSeq> {
        lock(&self.state).waiting.front().map(|entry| entry.at)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.state).used
    }

    /// Rises when something was added.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets a batch and all before it.
    ///
    /// # Errors
    /// The disk's.
    pub fn ack(&self, upto: StreamSeq) -> Result<(), Error> {
        {
            let mut state = lock(&self.state);
            // An ack of something else (of a stream dropped since, or of what was never sent) is idle.
            let Some(last) = state.waiting.iter().position(|entry| entry.at == upto) else {
                return Ok(());
            };
            for entry in state.waiting.drain(..=last).collect::<Vec<_>>() {
                state.used -= u64::from(entry.length);
            }
            state.acked.store(upto).map_err(|e| self.io(e))?;
        }
        self.sweep().map_err(|e| self.io(e))
    }

    /// All batches that wait, decoded, oldest first: how a restart learns which tasks have ended.
    ///
    /// # Errors
    /// The disk's.
    pub fn facts(&self) -> Result<Vec<Fact>, Error> {
        let (mut facts, mut after) = (Vec::new(), None);
        while let Some((at, frame)) = self.next(after)? {
            let batch = Batch::decode(frame)?;
            facts.extend(batch.items.into_iter().filter(|fact| matches!(fact, Fact::End(_))));
            after = Some(at);
        }
        Ok(facts)
    }

    /// Drops everything and begins another stream: this machine was a copy of another.
    ///
    /// # Errors
    /// The disk's.
    pub fn reset(&self) -> Result<(), Error> {
        let mut writer = lock(&self.writer);
        let mut state = lock(&self.state);
        let name = writer.next_name;
        let (segment, end, next_seq) =
            fresh(&self.dir, name, rand::random(), 1).map_err(|e| self.io(e))?;
        *writer = Writer { segment, end, next_seq, next_name: name + 1 };
        state.waiting.clear();
        state.used = 0;
        drop((state, writer));
        self.sweep().map_err(|e| self.io(e))
    }

    /// Deletes segments in which nothing waits, save the one being written.
    fn sweep(&self) -> io::Result<()> {
        let writer = lock(&self.writer);
        let oldest = {
            let state = lock(&self.state);
            state.waiting.front().map_or(writer.segment.name, |entry| entry.segment.name)
        };
        for (name, path) in segment::list(&self.dir)? {
            if name < oldest {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> Error {
        // A full disk ends a task, not the agent: it is needed most on machines in trouble.
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::DiskFull { path: self.dir.clone() };
        }
        Error::Io { path: self.dir.clone(), source }
    }
}

/// A group being written. A batch is written when the next comes, so that the last knows it is last.
pub struct Group<'a> {
    buffer: &'a Buffer,
    segment: Arc<Segment>,
    end: u64,
    next_seq: u64,
    quota: u64,
    used: u64,
    held: Option<Bytes>,
    entries: Vec<Entry>,
}

impl Group<'_> {
    /// Adds one batch.
    ///
    /// # Errors
    /// [`Error::Full`] at the bound, [`Error::Frame`] when it is too large, the disk's.
    pub fn push(&mut self, items: Vec<Fact>) -> Result<(), Error> {
        self.write_held(false)?;
        let batch = Batch { stream: self.segment.stream, seq: self.next_seq, items };
        let frame = batch.encode()?;
        let used = self.used + frame.len() as u64;
        if used > self.quota {
            return Err(Error::Full { used: self.used, quota: self.quota });
        }
        self.used = used;
        self.held = Some(frame);
        Ok(())
    }

    fn write_held(&mut self, last: bool) -> Result<(), Error> {
        let Some(frame) = self.held.take() else { return Ok(()) };
        let record = segment::encode(self.next_seq, last, &frame);
        let written = self.segment.file.write_all_at(&record, self.end);
        written.map_err(|e| self.buffer.io(e))?;
        self.entries.push(Entry {
            at: StreamSeq { stream: self.segment.stream, seq: self.next_seq },
            segment: Arc::clone(&self.segment),
            offset: self.end + segment::RECORD_HEAD as u64,
            length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        });
        self.end += record.len() as u64;
        self.next_seq += 1;
        Ok(())
    }
}

/// A new segment with its header on disk, its end, and the next number.
fn fresh(dir: &Path, name: u64, stream: u64, seq: u64) -> io::Result<(Arc<Segment>, u64, u64)> {
    let segment = Segment::create(dir, name, stream, seq)?;
    File::open(dir)?.sync_all()?;
    Ok((Arc::new(segment), segment::HEADER as u64, seq))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
