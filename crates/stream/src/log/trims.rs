//! What outlives the segments: how far each shard is trimmed, and where positions go on.
//!
//! One small file with two slots that are written in turn, in place, so that it can be written on a
//! full disk and a torn write leaves the other slot.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::SHARDS;

use super::disk::{self, Disk};

const MAGIC: &[u8; 8] = b"MUSTRIM1";
const SLOT_BYTES: usize = 4096;
const USED_BYTES: usize = 8 + 8 + 8 + SHARDS as usize * 8 + 4;

/// One value per shard.
pub(super) type PerShard = [u64; SHARDS as usize];

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trims {
    /// Up to which position (inclusive) each shard is trimmed.
    pub(super) trimmed: PerShard,
    /// Everything below was durable and every position below is used up.
    pub(super) durable: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct TrimFile {
    file: File,
    generation: u64,
}

impl TrimFile {
    /// Opens or makes it. `None` beside it when it did not hold anything.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Option<Trims>)> {
        let path = dir.join("trims");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < 2 * SLOT_BYTES as u64 {
            // Written, not only allocated: later writes must not need room.
            file.write_all_at(&[0; 2 * SLOT_BYTES], 0)?;
            file.sync_all()?;
            disk::sync_dir(dir)?;
        }
        let mut newest: Slot = None;
        for slot in 0..2 {
            let mut bytes = vec![0; USED_BYTES];
            file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64)?;
            let found = decode(bytes.into());
            newest =
                [newest, found].into_iter().flatten().max_by_key(|(generation, _)| *generation);
        }
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, generation }, newest.map(|(_, trims)| trims)))
    }

    /// Writes durably. An error is final: what the disk holds is not known.
    pub(super) fn write(&mut self, disk: &dyn Disk, trims: &Trims) -> io::Result<()> {
        self.generation += 1;
        let offset = self.generation % 2 * SLOT_BYTES as u64;
        disk.write_at(&self.file, &[encode(self.generation, trims)], offset)?;
        disk.sync(&self.file)
    }
}

type Slot = Option<(u64, Trims)>;

fn encode(generation: u64, trims: &Trims) -> Bytes {
    let mut out = BytesMut::with_capacity(USED_BYTES);
    out.put_slice(MAGIC);
    out.put_u64_le(generation);
    out.put_u64_le(trims.durable);
    for trimmed in trims.trimmed {
        out.put_u64_le(trimmed);
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Slot {
    let body = bytes.split_to(bytes.len().checked_sub(4)?);
    if bytes.get_u32_le() != crc32c::crc32c(&body) {
        return None;
    }
    let mut body = body.strip_prefix(MAGIC)?;
    let generation = body.try_get_u64_le().ok()?;
    let durable = body.try_get_u64_le().ok()?;
    let mut trimmed = [0; SHARDS as usize];
    for value in &mut trimmed {
        *value = body.try_get_u64_le().ok()?;
    }
    Some((generation, Trims { trimmed, durable }))
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    fn trims(n: u64) -> Trims {
        Trims { trimmed: [n; SHARDS as usize], durable: n * 2 }
    }

    #[test]
    fn the_last_whole_write_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = TrimFile::open(dir.path()).unwrap();
        assert_eq!(none, None);
        for n in 1..=5 {
            file.write(&RealDisk, &trims(n)).unwrap();
            let (_, found) = TrimFile::open(dir.path()).unwrap();
            assert_eq!(found, Some(trims(n)));
        }
        // The newest slot is torn: the one before it is found.
        let newest = file.generation % 2 * SLOT_BYTES as u64;
        file.file.write_all_at(&[0xff; 100], newest + 50).unwrap();
        let (mut file, found) = TrimFile::open(dir.path()).unwrap();
        assert_eq!(found, Some(trims(4)));
        file.write(&RealDisk, &trims(6)).unwrap();
        assert_eq!(TrimFile::open(dir.path()).unwrap().1, Some(trims(6)));
    }
}
