//! Blocks into one file: in order, in pieces, with a hash.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_archive::manifest::{Part, PartFilter, parts_of};
use muster_archive::{Archive, day_name};
use muster_catalog::Catalog;
use muster_types::{Timestamp, UploadNo};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::model::piece;
use crate::{BLOCKS_TABLE, Error, Options, Upload, blocks};

/// Clocks of instances may differ by less than this.
pub(crate) const SKEW: std::time::Duration = std::time::Duration::from_secs(60 * 60);
/// Enough of the beginning to tell what a file is.
const HEAD_BYTES: usize = 512;

/// A file in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub object: String,
    pub piece_count: u32,
    pub byte_count: u64,
    pub sha256: [u8; 32],
    pub format: &'static str,
}

/// Puts the blocks of an upload together. Cut short, it leaves pieces that nobody names.
///
/// Memory: one part, the blocks held back, and a few pieces.
pub(crate) async fn assemble(
    catalog: &Catalog,
    archive: &Archive,
    options: &Options,
    upload: &Upload,
    now: Timestamp,
) -> Result<Assembled, Error> {
    let filter = PartFilter {
        received: upload.begun_at.minus(SKEW)..=Timestamp(i64::MAX),
        agent: upload.agent..=upload.agent,
        ..PartFilter::default()
    };
    let mut parts = parts_of(catalog, upload.org, BLOCKS_TABLE, &filter).await?;
    // Blocks come in order, so one walk mostly does.
    parts.sort_by_key(|part| (part.info.received_min, part.info.received_max));
    let object =
        format!("upload/v1/{}/{}-{}", day_name(now.day()), upload.no, Uuid::now_v7().simple());
    let mut file = File::new(upload, options);
    let mut piece_count = 0;
    while !file.is_whole() {
        let next = file.next;
        let mut at = 0;
        while at < parts.len() && !file.is_whole() {
            let pieces;
            let has_more;
            (file, pieces, has_more) = walk(archive, &parts[at], file).await?;
            for bytes in pieces {
                archive.put_new(&piece(&object, piece_count), bytes).await?;
                piece_count += 1;
            }
            // Parts with nothing left for us are not read again.
            if has_more {
                at += 1;
            } else {
                parts.remove(at);
            }
        }
        if file.next == next {
            let message = format!("block {next} of {} is missing", upload.block_count);
            return Err(Error::Blocks(message));
        }
    }
    let (rest, byte_count, sha256, format) = file.finish();
    if !rest.is_empty() || piece_count == 0 {
        archive.put_new(&piece(&object, piece_count), rest).await?;
        piece_count += 1;
    }
    Ok(Assembled { object, piece_count, byte_count, sha256, format })
}

/// Takes what a part has for the file; pieces that are full, and whether it may have more.
async fn walk(
    archive: &Archive,
    part: &Part,
    mut file: File,
) -> Result<(File, Vec<Bytes>, bool), Error> {
    let info = &part.info;
    let range = info.byte_offset..info.byte_offset + info.byte_count;
    let bytes = archive.get_range(&part.object, range).await?;
    // Decoding and hashing take milliseconds for each megabyte.
    let work = tokio::task::spawn_blocking(move || {
        let upload = file.upload;
        let mut forgotten = false;
        let read = blocks::read(bytes, upload, |block, data| forgotten |= !file.take(block, data));
        let pieces = file.take_pieces();
        read.map(|()| (file, pieces, forgotten))
    });
    let done = work.await.map_err(|error| Error::Blocks(error.to_string()))?;
    done.map_err(Error::Blocks)
}

/// A file in the making.
struct File {
    upload: UploadNo,
    block_count: u32,
    /// The first block that is not in yet.
    next: u32,
    /// Blocks behind it, and their length.
    held: BTreeMap<u32, Vec<u8>>,
    held_bytes: usize,
    held_bytes_max: usize,
    piece: Vec<u8>,
    piece_bytes: usize,
    full: Vec<Bytes>,
    head: Vec<u8>,
    hash: Sha256,
    byte_count: u64,
}

impl File {
    fn new(upload: &Upload, options: &Options) -> Self {
        Self {
            upload: upload.no,
            block_count: upload.block_count,
            next: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            held_bytes_max: options.held_bytes_max,
            piece: Vec::new(),
            piece_bytes: options.piece_bytes,
            full: Vec::new(),
            head: Vec::new(),
            hash: Sha256::new(),
            byte_count: 0,
        }
    }

    fn is_whole(&self) -> bool {
        self.next >= self.block_count
    }

    /// Takes a block; false when one had to be forgotten and is to be read again.
    fn take(&mut self, block: u32, data: &[u8]) -> bool {
        if block < self.next || self.held.contains_key(&block) {
            return true;
        }
        if block > self.next {
            self.held_bytes += data.len();
            self.held.insert(block, data.to_vec());
            return self.shed();
        }
        self.append(data);
        while let Some(data) = self.held.remove(&self.next) {
            self.held_bytes -= data.len();
            self.append(&data);
        }
        true
    }

    /// Keeps within the bound by forgetting the last blocks.
    fn shed(&mut self) -> bool {
        let mut kept = true;
        while self.held_bytes > self.held_bytes_max
            && let Some((_, data)) = self.held.pop_last()
        {
            self.held_bytes -= data.len();
            kept = false;
        }
        kept
    }

    fn append(&mut self, mut data: &[u8]) {
        self.next += 1;
        self.byte_count += data.len() as u64;
        self.hash.update(data);
        let head = (HEAD_BYTES - self.head.len()).min(data.len());
        self.head.extend_from_slice(&data[..head]);
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(self.piece_bytes - self.piece.len()));
            self.piece.extend_from_slice(now);
            data = later;
            if self.piece.len() == self.piece_bytes {
                self.full.push(std::mem::take(&mut self.piece).into());
            }
        }
    }

    fn take_pieces(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.full)
    }

    /// The last piece, the length, the hash, and what it seems to be.
    fn finish(self) -> (Bytes, u64, [u8; 32], &'static str) {
        (self.piece.into(), self.byte_count, self.hash.finalize().into(), format(&self.head))
    }
}

/// What a file that begins like this seems to be. Carves are tar, or zstd of tar.
fn format(head: &[u8]) -> &'static str {
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "tar.zst",
        _ if head.get(257..262) == Some(b"ustar") => "tar",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(block_count: u32, held_bytes_max: usize) -> File {
        File {
            upload: UploadNo(1),
            block_count,
            next: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            held_bytes_max,
            piece: Vec::new(),
            piece_bytes: 4,
            full: Vec::new(),
            head: Vec::new(),
            hash: Sha256::new(),
            byte_count: 0,
        }
    }

    #[test]
    fn blocks_in_any_order_come_out_in_theirs() {
        let mut file = file(4, 100);
        for (block, data) in [(2, b"fg"), (0, b"ab"), (0, b"ab"), (1, b"cd"), (3, b"hi")] {
            assert!(file.take(block, data));
        }
        assert!(file.is_whole());
        assert_eq!(file.take_pieces(), [&b"abcd"[..], b"fghi"]);
        let (rest, byte_count, sha256, format) = file.finish();
        assert_eq!((rest.len(), byte_count, format), (0, 8, "bin"));
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(b"abcdfghi")));
    }

    #[test]
    fn what_does_not_fit_is_read_again() {
        let mut file = file(4, 3);
        assert!(file.take(3, b"hi"));
        assert!(!file.take(2, b"fg"), "the last one is forgotten");
        assert_eq!(file.held.keys().copied().collect::<Vec<_>>(), [2]);
        assert!(file.take(0, b"ab") && file.take(1, b"cd"));
        assert_eq!(file.next, 3);
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(format(&tar), "tar");
        assert_eq!(format(&[0x28, 0xb5, 0x2f, 0xfd, 0]), "tar.zst");
        assert_eq!(format(b""), "bin");
    }
}
