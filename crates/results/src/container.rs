//! The segment container: complete Parquet files back to back, and an index behind them.
//!
//! ```text
//! "MUSEG1" version 0                     8 bytes
//! part …                                 Parquet files
//! index: count u32, then per part        little endian
//!     org u16, class u8, day i64, offset u64, length u64, rows u64, name length u16, name
//! crc32c of the index u32, length of the index u32, "MUSEG1" version 0
//! ```
//! The manifest holds the same and is what readers go by; the index makes an object readable on
//! its own. Version 1 stays readable for ever.

use bytes::{Buf, Bytes};
use muster_types::{Format, OrgId};

use crate::limits;
use crate::table::{PartInfo, RowClass};

/// The form of a container.
pub const SEGMENT: Format = Format::first("segment");
const VERSION: u8 = SEGMENT.only();
const MARK: [u8; 8] = [b'M', b'U', b'S', b'E', b'G', b'1', VERSION, 0];
const TAIL_BYTES: usize = 16;
/// Shortest entry of the index.
const ENTRY_BYTES: usize = 37;

/// One part, by the index of its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartIndex {
    /// Organisation.
    pub org: OrgId,
    /// SQL name of its table.
    pub table: String,
    /// Class of its rows.
    pub class: RowClass,
    /// UTC day of its rows.
    pub day: i64,
    /// First byte.
    pub byte_offset: u64,
    /// Length in bytes.
    pub byte_count: u64,
    /// Rows.
    pub row_count: u64,
}

/// Why bytes are no container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// No container, or cut off.
    #[error("not a segment, or not all of it")]
    NotASegment,
    /// Written by a newer version.
    #[error("segment format {0} is newer than this version reads")]
    Version(u8),
    /// The checksum does not fit.
    #[error("index of the segment is damaged")]
    Checksum,
    /// The index says something that cannot be.
    #[error("index of the segment has an impossible {0}")]
    Impossible(&'static str),
}

/// Writes a container in memory.
#[derive(Debug)]
pub struct SegmentWriter {
    bytes: Vec<u8>,
    parts: Vec<PartInfo>,
}

impl Default for SegmentWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentWriter {
    /// An empty container.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: MARK.to_vec(), parts: Vec::new() }
    }

    /// Appends a Parquet file; sets where it stands.
    pub fn push(&mut self, mut part: PartInfo, file: &[u8]) {
        part.byte_offset = self.bytes.len() as u64;
        part.byte_count = file.len() as u64;
        self.bytes.extend_from_slice(file);
        self.parts.push(part);
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Closes it.
    #[must_use]
    pub fn finish(self) -> (Bytes, Vec<PartInfo>) {
        let Self { mut bytes, parts } = self;
        let start = bytes.len();
        bytes.extend_from_slice(&(parts.len() as u32).to_le_bytes());
        for part in &parts {
            bytes.extend_from_slice(&part.org.0.to_le_bytes());
            bytes.push(part.class as u8);
            bytes.extend_from_slice(&part.day.to_le_bytes());
            bytes.extend_from_slice(&part.byte_offset.to_le_bytes());
            bytes.extend_from_slice(&part.byte_count.to_le_bytes());
            bytes.extend_from_slice(&part.row_count.to_le_bytes());
            let name = &part.table.as_bytes()[..part.table.floor_char_boundary(0xffff)];
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name);
        }
        let index = &bytes[start..];
        let (sum, length) = (crc32c::crc32c(index), index.len() as u32);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&MARK);
        (bytes.into(), parts)
    }
}

/// Reads the index of a container. Never panics, never allocates more than the container is long.
///
/// # Errors
/// [`ContainerError`] when it is not a whole container of a known version.
pub fn read_container(container: &[u8]) -> Result<Vec<PartIndex>, ContainerError> {
    use ContainerError::{Checksum, NotASegment};
    let body = container.len().checked_sub(TAIL_BYTES).ok_or(NotASegment)?;
    if body < MARK.len() {
        return Err(NotASegment);
    }
    check_mark(&container[..MARK.len()])?;
    let (body, mut tail) = container.split_at(body);
    let (sum, length) = (tail.get_u32_le(), tail.get_u32_le());
    check_mark(tail)?;
    let parts_end = body.len().checked_sub(length as usize).ok_or(NotASegment)?;
    if parts_end < MARK.len() {
        return Err(NotASegment);
    }
    let index = &body[parts_end..];
    if crc32c::crc32c(index) != sum {
        return Err(Checksum);
    }
    read_index(index, parts_end as u64)
}

fn check_mark(mark: &[u8]) -> Result<(), ContainerError> {
    if mark[..6] != MARK[..6] {
        return Err(ContainerError::NotASegment);
    }
    if mark[6] != VERSION { Err(ContainerError::Version(mark[6])) } else { Ok(()) }
}

fn read_index(mut index: &[u8], parts_end: u64) -> Result<Vec<PartIndex>, ContainerError> {
    use ContainerError::Impossible;
    let count = index.try_get_u32_le().map_err(|_| Impossible("length"))? as usize;
    if count > limits::PARTS || count > index.len() / ENTRY_BYTES {
        return Err(Impossible("number of parts"));
    }
    let mut parts = Vec::with_capacity(count);
    let mut expected = MARK.len() as u64;
    for _ in 0..count {
        if index.len() < ENTRY_BYTES {
            return Err(Impossible("length"));
        }
        let org = OrgId(index.get_u16_le());
        let class = RowClass::from_code(index.get_u8()).ok_or(Impossible("class"))?;
        let day = index.get_i64_le();
        let (byte_offset, byte_count) = (index.get_u64_le(), index.get_u64_le());
        let row_count = index.get_u64_le();
        let name = usize::from(index.get_u16_le());
        if index.len() < name {
            return Err(Impossible("length"));
        }
        let (name, rest) = index.split_at(name);
        index = rest;
        let table = std::str::from_utf8(name).map_err(|_| Impossible("name"))?.to_owned();
        let end = byte_offset.checked_add(byte_count).filter(|end| *end <= parts_end);
        if byte_offset != expected || end.is_none() {
            return Err(Impossible("place of a part"));
        }
        expected = byte_offset + byte_count;
        parts.push(PartIndex { org, table, class, day, byte_offset, byte_count, row_count });
    }
    if !index.is_empty() || expected != parts_end {
        return Err(Impossible("length"));
    }
    Ok(parts)
}
