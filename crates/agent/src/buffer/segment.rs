//! Segment files: a header, then records.
//!
//! ```text
//! header: "MUBUF" version u8 | 0 0 | stream u64 | first seq u64 | crc32c of all before
//! record: length u32 | crc32c u32 of the rest | seq u64 | last of its group u8 | frame
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Length of a segment's header.
pub(super) const HEADER: usize = 28;
/// Length of a record before its frame.
pub(super) const RECORD_HEAD: usize = 17;

const MAGIC: [u8; 8] = *b"MUBUF\x01\0\0";
const SUFFIX: &str = ".batches";

/// An open segment.
pub(super) struct Segment {
    pub(super) name: u64,
    pub(super) stream: u64,
    pub(super) file: File,
}

/// Where a record's frame stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// What a segment holds: whole groups only.
pub(super) struct Scan {
    pub(super) segment: Arc<Segment>,
    pub(super) records: Vec<Record>,
    pub(super) end: u64,
    pub(super) next_seq: u64,
}

impl Segment {
    pub(super) fn create(dir: &Path, name: u64, stream: u64, seq: u64) -> io::Result<Self> {
        let path = dir.join(format!("{name:016x}{SUFFIX}"));
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut header = MAGIC.to_vec();
        header.extend(stream.to_le_bytes());
        header.extend(seq.to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        Ok(Self { name, stream, file })
    }
}

/// The segments of a folder, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX));
        if let Some(name) = name.and_then(|name| u64::from_str_radix(name, 16).ok()) {
            found.push((name, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A record's bytes.
pub(super) fn encode(seq: u64, last: bool, frame: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEAD + frame.len());
    record.extend(u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend([0; 4]);
    record.extend(seq.to_le_bytes());
    record.push(u8::from(last));
    record.extend_from_slice(frame);
    let crc = crc32c::crc32c(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
    record
}

/// Reads a segment; `None` when not even its header is whole. Ends at the first byte that is not
/// part of a whole group.
pub(super) fn scan(path: &Path) -> io::Result<Option<Scan>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = fs::read(path)?;
    let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX));
    let name = name.and_then(|name| u64::from_str_radix(name, 16).ok()).unwrap_or(0);
    let Some((stream, first)) = header(&bytes) else { return Ok(None) };
    let (mut records, mut whole, mut end, mut next) = (Vec::new(), 0, HEADER, first);
    let mut at = HEADER;
    while let Some((record, last)) = record(&bytes, at, first + records.len() as u64) {
        at = record.offset as usize + record.length as usize;
        records.push(record);
        if last {
            (whole, end, next) = (records.len(), at, first + records.len() as u64);
        }
    }
    records.truncate(whole);
    let segment = Arc::new(Segment { name, stream, file });
    Ok(Some(Scan { segment, records, end: end as u64, next_seq: next }))
}

fn header(bytes: &[u8]) -> Option<(u64, u64)> {
    let header = bytes.get(..HEADER)?;
    let (head, crc) = header.split_at(HEADER - 4);
    let whole = head.starts_with(&MAGIC) && crc32c::crc32c(head).to_le_bytes() == crc;
    whole.then(|| Some((u64_at(head, 8)?, u64_at(head, 16)?)))?
}

fn record(bytes: &[u8], at: usize, seq: u64) -> Option<(Record, bool)> {
    let head = bytes.get(at..at + RECORD_HEAD)?;
    let length = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    let offset = at + RECORD_HEAD;
    let covered = bytes.get(at + 8..offset.checked_add(length as usize)?)?;
    if crc32c::crc32c(covered) != crc || u64_at(head, 8)? != seq {
        return None;
    }
    Some((Record { seq, offset: offset as u64, length }, head[16] == 1))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
