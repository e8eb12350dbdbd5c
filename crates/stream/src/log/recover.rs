//! Opening a folder: what a crash left, made whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_types::SHARDS;

use super::disk::{self, Disk};
use super::keeper::OpenFiles;
use super::metrics::Metrics;
use super::options::{LogOptions, OnCorrupt, OpenError};
use super::scan::{Scan, scan};
use super::segment::{self, SEAL_BYTES, Segment};
use super::shared::Recovered;
use super::trims::{TrimFile, Trims};

/// Locks the folder and reads what is there.
pub(super) fn recover(
    options: &LogOptions,
    on_corrupt: OnCorrupt,
    disk: &dyn Disk,
) -> Result<(Recovered, OpenFiles), OpenError> {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).map_err(at(dir))?;
    let lock = lock(dir)?;
    let (trim_file, trims) = TrimFile::open(dir).map_err(at(dir))?;
    let trims = trims.unwrap_or(Trims { trimmed: [0; SHARDS as usize], durable: 0 });
    let opening = Opening { disk, on_corrupt, trims, metrics: Metrics::default() };

    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut capacity = 0;
    let paths = segment_paths(dir)?;
    for (index, path) in paths.iter().enumerate() {
        let next_base = paths.get(index + 1).and_then(|next| segment::base_of(next));
        let Some((segment, length)) = opening.open(path, next_base)? else { continue };
        let segment = Arc::new(segment);
        capacity = length;
        // Nobody needs it: trimmed before the crash, removed now. The last one is kept, it says
        // where positions go on.
        if next_base.is_some() && segment.is_trimmed(&trims.trimmed) {
            std::fs::remove_file(path).map_err(at(path))?;
            continue;
        }
        segments.push(segment);
    }
    let used_up = segments.last().map_or(0, |last| last.end()).max(trims.durable);
    let active = match segments.last() {
        Some(last) if last.end() == used_up => extend(disk, options, last, &mut capacity)?,
        _ => {
            capacity = options.segment_bytes();
            let base = if used_up == 0 { 0 } else { used_up + SEAL_BYTES };
            let made = segment::create(disk, dir, base, capacity, None).map_err(at(dir))?;
            segments.push(Arc::new(made));
            segments[segments.len() - 1].clone()
        }
    };
    let end = active.end();
    let trimmed = trims.trimmed;
    let metrics = opening.metrics;
    let recovered = Recovered { segments, trimmed, end, metrics };
    let files = OpenFiles { _lock: lock, trim_file, written: trims, active, capacity };
    Ok((recovered, files))
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    on_corrupt: OnCorrupt,
    trims: Trims,
    metrics: Metrics,
}

impl Opening<'_> {
    /// Opens one file; beside it its length when it can still be written to. `None`: skipped.
    fn open(
        &self,
        path: &Path,
        next_base: Option<u64>,
    ) -> Result<Option<(Segment, u64)>, OpenError> {
        let base = segment::base_of(path).unwrap_or(0);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(at(path))?;
        if let Err(what) = segment::check_header(&file, base).map_err(at(path))? {
            self.corrupt(path, 0, &what)?;
            return Ok(None);
        }
        let make = |file, end, last| Segment::new(path.to_owned(), file, base, end, last);
        if let Some((end, last)) = segment::read_seal(&file, base).map_err(at(path))? {
            return Ok(Some((make(file, end, last), 0)));
        }
        let Scan { end, last, bad } = scan(&file, base).map_err(at(path))?;
        let sealed_by_crash = next_base.is_some();
        // A torn tail is what a crash leaves at the very end of the log, above what is known to
        // have been durable. Anything else is damage.
        if let Some(what) = bad
            && (sealed_by_crash || end < self.trims.durable)
        {
            self.corrupt(path, end - base, what)?;
        } else if bad.is_none() && end < self.trims.durable && next_base.is_none() {
            self.corrupt(path, end - base, "durable records are missing")?;
        } else if let Some(what) = bad {
            tracing::warn!(path = %path.display(), offset = end - base, what, "cut a torn tail");
        }
        let segment = make(file, end, last);
        if sealed_by_crash {
            segment.seal(self.disk).map_err(at(path))?;
            return Ok(Some((segment, 0)));
        }
        // Cut and not only overwritten: a frame of the torn batch must never be read as one of a
        // later, shorter batch.
        segment.file.set_len(end - base).map_err(at(path))?;
        Ok(Some((segment, end - base)))
    }

    fn corrupt(&self, path: &Path, offset: u64, what: &str) -> Result<(), OpenError> {
        let (path, what) = (path.to_owned(), what.to_owned());
        if self.on_corrupt == OnCorrupt::Refuse {
            return Err(OpenError::Corrupt { path, offset, what });
        }
        tracing::error!(path = %path.display(), offset, what, "skipped damaged records");
        Metrics::add(&self.metrics.corrupt_skipped, 1);
        Ok(())
    }
}

/// Preallocates the rest of the last file again. On a full disk it stays as it is; what needs room
/// asks for a new segment and is refused then.
fn extend(
    disk: &dyn Disk,
    options: &LogOptions,
    last: &Arc<Segment>,
    capacity: &mut u64,
) -> Result<Arc<Segment>, OpenError> {
    if *capacity > 0 {
        let wanted = options.segment_bytes().max(*capacity + SEAL_BYTES);
        match disk.allocate(&last.file, wanted) {
            Ok(()) => *capacity = wanted,
            Err(error) if disk::is_full(&error) => {}
            Err(source) => return Err(OpenError::Io { path: last.path.clone(), source }),
        }
        // What is read from now on must be durable, also what only just reached the file before
        // the process was killed.
        last.file.sync_all().map_err(at(&last.path))?;
    }
    Ok(last.clone())
}

pub(super) fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        if segment::base_of(&path).is_some() {
            paths.push(path);
        } else if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    paths.sort();
    Ok(paths)
}

/// Takes the folder for this process, until the file is closed.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let pid = holder.trim();
            let holder = match pid.parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".to_owned(),
            };
            return Err(OpenError::InUse { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    let pid = format!("{}\n", std::process::id());
    let noted = file.set_len(0).and_then(|()| file.rewind());
    // For people only, so a full disk is no reason to stop here.
    let _ = noted.and_then(|()| file.write_all(pid.as_bytes()));
    Ok(file)
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}
