//! The files: beginning new ones, freeing old ones, and watching the room for them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::committer::Fatal;
use super::disk;
use super::segment::{self, HEADER_BYTES, SEAL_BYTES, Segment};
use super::shared::Shared;
use super::trims::{PerShard, TrimFile, Trims};

/// The spare file for life-cycle facts on a full disk, at most.
const SPARE_BYTES: u64 = 8 << 20;

/// How often the free disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often trims are written when nothing is freed by them.
const WRITE_TRIMS_EVERY: Duration = Duration::from_secs(1);

/// Whether there is a new segment.
pub(super) enum Rolled {
    Yes,
    /// The disk is full.
    No,
}

/// What the committer writes to.
pub(super) struct OpenFiles {
    /// Holds the folder for this process; let go when the committer ends.
    pub(super) _lock: File,
    pub(super) trim_file: TrimFile,
    /// What the trim file says.
    pub(super) written: Trims,
    /// The last segment.
    pub(super) active: Arc<Segment>,
    /// Length of its file; 0 when it is sealed and the next append begins a new one.
    pub(super) capacity: u64,
}

/// Owned by the committer.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    files: OpenFiles,
    spare: Option<PathBuf>,
    looked_at: Option<Instant>,
    written_at: Instant,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, found: OpenFiles) -> Self {
        Self { shared, files: found, spare: None, looked_at: None, written_at: Instant::now() }
    }

    /// The segment that is written to.
    pub(super) fn active(&self) -> &Arc<Segment> {
        &self.files.active
    }

    /// Bytes left in it.
    pub(super) fn room(&self) -> u64 {
        self.files.capacity.saturating_sub(self.files.active.end() - self.files.active.base)
    }

    /// Begins a new segment with room for `needs` bytes and seals the present one.
    pub(super) fn roll(&mut self, needs: u64, from_spare: bool) -> Result<Rolled, Fatal> {
        let needs = HEADER_BYTES + needs + SEAL_BYTES;
        let capacity = if from_spare { self.spare_bytes() } else { self.segment_bytes() };
        let spare = if from_spare { self.spare.take_if(|_| needs <= capacity) } else { None };
        if from_spare && spare.is_none() {
            return Ok(Rolled::No);
        }
        let capacity = capacity.max(needs);
        let shared = &self.shared;
        let base = self.files.active.end() + SEAL_BYTES;
        let next = segment::create(&*shared.disk, shared.dir(), base, capacity, spare.as_deref());
        let next = match next {
            Ok(next) => Arc::new(next),
            Err(error) if disk::is_full(&error) => {
                tracing::warn!(%error, "no room for a new segment");
                return Ok(Rolled::No);
            }
            Err(error) => return Err(format!("cannot begin a segment at {base}: {error}")),
        };
        if self.files.capacity > 0 {
            let sealed = self.files.active.seal(&*shared.disk);
            sealed.map_err(|error| {
                format!("cannot seal {}: {error}", self.files.active.path.display())
            })?;
        }
        shared.segments.write().push(next.clone());
        self.files.active = next;
        self.files.capacity = capacity;
        Ok(Rolled::Yes)
    }

    /// Everything beside appending: trims, free disk, the spare.
    pub(super) fn upkeep(&mut self) -> Result<(), Fatal> {
        let trimmed = self.shared.all_trimmed();
        if trimmed != self.files.written.trimmed {
            self.free(trimmed)?;
        }
        let due = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if due {
            self.looked_at = Some(Instant::now());
            self.look_at_disk();
            self.keep_spare();
            self.shared.tell_pressure();
        }
        Ok(())
    }

    /// Writes trims and closes.
    pub(super) fn close(&mut self) -> Result<(), Fatal> {
        self.write_trims(self.shared.all_trimmed())
    }

    /// Removes the files nobody needs. What is trimmed is written first, so that asking for it
    /// stays an error.
    fn free(&mut self, trimmed: PerShard) -> Result<(), Fatal> {
        let shared = self.shared.clone();
        // When everything is trimmed a large part of the room may sit in the one file that is
        // being written to; a new one lets it go.
        let done = self.files.active.is_trimmed(&trimmed);
        if done {
            shared.tail.lock().clear();
        }
        let used = self.files.active.frame_bytes();
        let much = used >= self.segment_bytes() / 2 || (used > 0 && shared.queue.lock().refused);
        if done && much && matches!(self.roll(0, false)?, Rolled::No) {
            self.roll(0, true)?;
        }
        let active = self.files.active.base;
        let free = |segment: &Arc<Segment>| segment.base != active && segment.is_trimmed(&trimmed);
        let freed = shared.segments.read().iter().filter(|segment| free(segment)).count();
        if freed == 0 && self.written_at.elapsed() < WRITE_TRIMS_EVERY {
            return Ok(());
        }
        self.write_trims(trimmed)?;
        if freed == 0 {
            return Ok(());
        }
        let freed: Vec<_> =
            shared.segments.write().extract_if(.., |segment| free(segment)).collect();
        for segment in &freed {
            // A file that stays is found again at the next start.
            if let Err(error) = std::fs::remove_file(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove a segment");
            }
        }
        let bytes: u64 = freed.iter().map(|segment| segment.frame_bytes()).sum();
        shared.queue.lock().kept_bytes -= bytes;
        // The room may be there again at once.
        self.looked_at = None;
        Ok(())
    }

    fn write_trims(&mut self, trimmed: PerShard) -> Result<(), Fatal> {
        let trims = Trims { trimmed, durable: self.files.active.end() };
        let result = self.files.trim_file.write(&*self.shared.disk, &trims);
        result.map_err(|error| format!("cannot write trims: {error}"))?;
        self.files.written = trims;
        self.written_at = Instant::now();
        Ok(())
    }

    fn look_at_disk(&self) {
        match self.shared.disk.free_bytes(self.shared.dir()) {
            Ok(free_bytes) => {
                // There must be room for a segment in any case.
                let wanted = self.shared.options.reserve_bytes.max(self.segment_bytes());
                let low = free_bytes < wanted;
                let was = std::mem::replace(&mut self.shared.queue.lock().low_disk, low);
                if low && !was {
                    tracing::warn!(free_bytes, wanted, "the disk is nearly full, intake stops");
                } else if was && !low {
                    tracing::info!(free_bytes, "the disk has room again, intake goes on");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot see how full the disk is"),
        }
    }

    fn keep_spare(&mut self) {
        if self.spare.is_some() {
            return;
        }
        let path = self.shared.dir().join("spare.tmp");
        let made = File::create(&path)
            .and_then(|file| self.shared.disk.allocate(&file, self.spare_bytes()));
        match made {
            Ok(()) => self.spare = Some(path),
            Err(error) => {
                tracing::debug!(%error, "no room for the spare segment");
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.shared.options.segment_bytes()
    }

    fn spare_bytes(&self) -> u64 {
        self.segment_bytes().min(SPARE_BYTES)
    }
}
