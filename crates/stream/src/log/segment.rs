//! One file of the log.
//!
//! ```text
//! header (64 bytes): "MUSTLOG1" | format version u32 | crc32c u32 | base position u64 | zeros
//! frames …
//! sealed: a last frame with the highest position of each shard; then the file ends
//! unsealed: zeros up to the preallocated length
//! ```
//! A position is the base plus the offset in the file, so positions rise over all files, with gaps.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::SHARDS;

use super::disk::{self, Disk};
use super::frame::{self, Parsed};
use super::trims::PerShard;

const MAGIC: &[u8; 8] = b"MUSTLOG1";
const VERSION: u32 = 1;

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 64;

/// Bytes of the frame that seals a segment.
pub(super) const SEAL_BYTES: u64 = frame::HEADER_BYTES as u64 + SHARDS as u64 * 8;

/// One file: written by the committer, read by anybody.
#[derive(Debug)]
pub(super) struct Segment {
    /// The position of its first byte.
    pub(super) base: u64,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Open for as long as somebody reads, even when it is removed.
    pub(super) file: File,
    end: AtomicU64,
    last: [AtomicU64; SHARDS as usize],
}

impl Segment {
    pub(super) fn new(path: PathBuf, file: File, base: u64, end: u64, last: PerShard) -> Self {
        Self { base, path, file, end: AtomicU64::new(end), last: last.map(AtomicU64::new) }
    }

    /// The position of its first frame.
    pub(super) fn first(&self) -> u64 {
        self.base + HEADER_BYTES
    }

    /// The position after its last durable frame.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The highest position of each shard in it; 0 where it has none.
    pub(super) fn last(&self, shard: usize) -> u64 {
        self.last[shard].load(Ordering::Acquire)
    }

    /// Bytes of its durable frames.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.end() - self.first()
    }

    /// Called by the committer when frames became durable; `last` before `end`, so that who sees
    /// the end knows the shards.
    pub(super) fn extend(&self, last: &PerShard, end: u64) {
        for (own, last) in self.last.iter().zip(last) {
            own.fetch_max(*last, Ordering::Release);
        }
        self.end.store(end, Ordering::Release);
    }

    /// Whether nobody needs it: every shard that has records in it is trimmed past them.
    pub(super) fn is_trimmed(&self, trimmed: &PerShard) -> bool {
        self.last
            .iter()
            .zip(trimmed)
            .all(|(last, trimmed)| last.load(Ordering::Acquire) <= *trimmed)
    }

    /// Writes the last frame and gives the rest of the room back. The caller puts nothing after it.
    pub(super) fn seal(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut payload = BytesMut::with_capacity(SEAL_BYTES as usize);
        for last in &self.last {
            payload.put_u64_le(last.load(Ordering::Acquire));
        }
        let mut seal = BytesMut::with_capacity(SEAL_BYTES as usize);
        frame::push_seal(&mut seal, &payload, self.end());
        let offset = self.end() - self.base;
        match disk.write_at(&self.file, &[seal.freeze()], offset) {
            // Only where the file could not be preallocated. It is sealed at the next start.
            Err(error) if disk::is_full(&error) => self.file.set_len(offset)?,
            result => {
                result?;
                self.file.set_len(offset + SEAL_BYTES)?;
            }
        }
        self.file.sync_all()
    }
}

/// The name of the segment that begins at `base`.
pub(super) fn path_of(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// The base of a segment by its name.
pub(super) fn base_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

/// Makes a segment of `capacity` bytes that begins at `base`; under its name it always has a whole
/// header. With `spare`, that preallocated file becomes it.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    base: u64,
    capacity: u64,
    spare: Option<&Path>,
) -> io::Result<Segment> {
    let path = path_of(dir, base);
    let made = dir.join("segment.tmp");
    let draft = spare.unwrap_or(&made);
    let file = draft_segment(disk, draft, base, capacity).inspect_err(|_| {
        // Whatever stands there must not keep room from others.
        let _ = std::fs::remove_file(draft);
    })?;
    std::fs::rename(draft, &path)?;
    disk::sync_dir(dir)?;
    Ok(Segment::new(path, file, base, base + HEADER_BYTES, [0; SHARDS as usize]))
}

fn draft_segment(disk: &dyn Disk, path: &Path, base: u64, capacity: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < capacity {
        disk.allocate(&file, capacity)?;
    }
    disk.write_at(&file, &[header(base)], 0)?;
    file.sync_all()?;
    Ok(file)
}

fn header(base: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES as usize);
    out.put_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(crc32c::crc32c(&base.to_le_bytes()));
    out.put_u64_le(base);
    out.put_bytes(0, HEADER_BYTES as usize - out.len());
    out.freeze()
}

/// Checks the header of the segment that is named after `base`. Says what is wrong with it.
pub(super) fn check_header(file: &File, base: u64) -> io::Result<Result<(), String>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err("is shorter than a header".to_owned()));
        }
        result => result?,
    }
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        return Ok(Err("is not a segment of the log".to_owned()));
    };
    let (version, _, found) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u64_le());
    Ok(match version {
        VERSION if bytes[..] == header(base)[..] => Ok(()),
        VERSION => Err(format!("says it begins at {found}, or its header is damaged")),
        _ => Err(format!("has format {version}, this version reads up to {VERSION}")),
    })
}

/// What the last frame of a sealed segment says: its end and the highest position of each shard.
pub(super) fn read_seal(file: &File, base: u64) -> io::Result<Option<(u64, PerShard)>> {
    let Some(offset) = file.metadata()?.len().checked_sub(SEAL_BYTES) else { return Ok(None) };
    let mut bytes = vec![0; SEAL_BYTES as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(match frame::parse(&bytes, base + offset, true) {
        Parsed::Frame { shard: frame::SEAL, .. } => {
            let mut payload = &bytes[frame::HEADER_BYTES..];
            let last = std::array::from_fn(|_| payload.try_get_u64_le().unwrap_or(0));
            Some((base + offset, last))
        }
        _ => None,
    })
}
