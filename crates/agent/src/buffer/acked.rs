//! How far the server's acknowledgement went: one small file, written in place and not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use muster_codec_native::StreamSeq;

/// The last acknowledged batch.
pub(super) struct Acked {
    file: File,
    last: Option<StreamSeq>,
}

impl Acked {
    /// Opens the file of a folder; what it holds counts only when its sum fits.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(dir.join("acked"))?;
        let mut bytes = [0; 20];
        let last = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| {
            let (head, crc) = bytes.split_at(16);
            if crc32c::crc32c(head).to_le_bytes() != crc {
                return None;
            }
            let number =
                |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
            Some(StreamSeq { stream: number(0)?, seq: number(8)? })
        });
        Ok(Self { file, last })
    }

    /// Whether a batch is acknowledged.
    pub(super) fn covers(&self, at: StreamSeq) -> bool {
        self.last.is_some_and(|last| last.stream == at.stream && at.seq <= last.seq)
    }

    /// Notes the last one.
    pub(super) fn store(&mut self, at: StreamSeq) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend(at.stream.to_le_bytes());
        bytes.extend(at.seq.to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        self.file.write_all_at(&bytes, 0)?;
        self.last = Some(at);
        Ok(())
    }
}
