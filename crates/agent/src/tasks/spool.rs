//! Rows of a running query: in memory while they are few, then in a file without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::query::Chunk;

/// Beyond this rows go to disk.
const MEMORY_BYTES_MAX: usize = 1 << 20;

/// Why rows cannot be read back.
pub(super) type Error = io::Error;

/// The way back.
pub(super) type Chunks = Box<dyn Iterator<Item = io::Result<(Chunk, Bytes)>>>;

/// The rows so far, in order.
pub(super) struct Spool {
    dir: PathBuf,
    memory: Vec<(Chunk, Bytes)>,
    bytes: usize,
    file: Option<File>,
}

impl Spool {
    /// An empty one, with its file in `dir` should it need one.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), memory: Vec::new(), bytes: 0, file: None }
    }

    /// Adds an array of rows.
    pub(super) fn push(&mut self, chunk: Chunk, rows: Bytes) -> io::Result<()> {
        if self.file.is_none() && self.bytes + rows.len() > MEMORY_BYTES_MAX {
            let mut file = unnamed(&self.dir)?;
            for (chunk, rows) in self.memory.drain(..) {
                write(&mut file, &chunk, &rows)?;
            }
            self.file = Some(file);
        }
        self.bytes += rows.len();
        match &mut self.file {
            Some(file) => write(file, &chunk, &rows),
            None => {
                self.memory.push((chunk, rows));
                Ok(())
            }
        }
    }

    /// Hands them back, in order.
    pub(super) fn into_chunks(self) -> io::Result<Chunks> {
        let Some(mut file) = self.file else {
            return Ok(Box::new(self.memory.into_iter().map(Ok)));
        };
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(64 << 10, file);
        Ok(Box::new(std::iter::from_fn(move || read(&mut file).transpose())))
    }
}

/// A file that is gone when it is closed, however that comes about.
fn unnamed(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("spool-{}", uuid::Uuid::new_v4().simple()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn write(file: &mut File, chunk: &Chunk, rows: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(chunk)?;
    file.write_all(&(head.len() as u64).to_le_bytes())?;
    file.write_all(&head)?;
    file.write_all(rows)
}

fn read(file: &mut impl Read) -> io::Result<Option<(Chunk, Bytes)>> {
    let mut length = [0; 8];
    match file.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let bytes = |file: &mut dyn Read, length: u64| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let head = bytes(file, u64::from_le_bytes(length))?;
    let chunk: Chunk = serde_json::from_slice(&head)?;
    let rows = bytes(file, chunk.byte_count)?;
    Ok(Some((chunk, rows.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_rows_come_back_in_order() {
        for (count, on_disk) in [(3, false), (40, true)] {
            let dir = tempfile::tempdir().unwrap();
            let mut spool = Spool::new(dir.path());
            for n in 0..count {
                let rows = vec![n; 100_000];
                let byte_count = rows.len() as u64;
                spool
                    .push(Chunk { row_count: 1, byte_count, columns: Vec::new() }, rows.into())
                    .unwrap();
            }
            assert_eq!(spool.file.is_some(), on_disk);
            let back: Vec<_> = spool.into_chunks().unwrap().map(Result::unwrap).collect();
            assert_eq!(back.len(), usize::from(count));
            assert!(
                back.iter().zip(0..).all(|((_, rows), n): (_, u8)| rows[..] == vec![n; 100_000])
            );
        }
    }
}
