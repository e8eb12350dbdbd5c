//! A table in a file: a head line, a line per row, an end line; compressed, with the checksum of zstd.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use muster_catalog::Value;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::at;
use crate::row::{self, Digest};

const FORMAT: &str = "muster-table";
const VERSION: u32 = 1;
/// Longest line: the largest values are bitmaps and states of some megabytes.
const LINE_MAX: u64 = 1 << 28;
/// Rows that are read at once.
const PAGE_ROWS: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    table: String,
    columns: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    rows: u64,
    sha256: String,
}

/// Writes one.
pub(crate) struct TableWriter {
    path: PathBuf,
    out: zstd::Encoder<'static, BufWriter<File>>,
    digest: Digest,
}

impl TableWriter {
    pub(crate) fn create(path: PathBuf, table: &str, columns: &[String]) -> Result<Self, Error> {
        let open = || {
            let file = File::create_new(&path)?;
            let mut out = zstd::Encoder::new(BufWriter::new(file), 3)?;
            out.include_checksum(true)?;
            let head = Head {
                format: FORMAT.to_owned(),
                version: VERSION,
                table: table.to_owned(),
                columns: columns.to_vec(),
            };
            line(&mut out, &head)?;
            Ok(out)
        };
        let out = open().map_err(at(&path))?;
        Ok(Self { path, out, digest: Digest::default() })
    }

    pub(crate) fn row(&mut self, row: &[Value]) -> Result<(), Error> {
        let line = self.digest.add(row).map_err(|error| at(&self.path)(error.into()))?;
        self.out.write_all(line).map_err(at(&self.path))
    }

    /// Makes it durable; how many rows there are and what identifies them.
    pub(crate) fn finish(mut self) -> Result<(u64, String), Error> {
        let (rows, sha256) = self.digest.end();
        let end = || {
            line(&mut self.out, &End { rows, sha256: sha256.clone() })?;
            let file =
                self.out.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.sync_all()
        };
        end().map_err(at(&self.path))?;
        Ok((rows, sha256))
    }
}

fn line(out: &mut impl Write, what: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Reads one and checks it on the way.
pub(crate) struct TableReader {
    path: PathBuf,
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    pub(crate) columns: Vec<String>,
    digest: Option<Digest>,
    /// What the end line said, once it was read.
    pub(crate) end: Option<(u64, String)>,
}

impl TableReader {
    pub(crate) fn open(path: &Path, table: &str) -> Result<Self, Error> {
        let open = || Ok(BufReader::new(zstd::Decoder::new(File::open(path)?)?));
        let mut reader = Self {
            path: path.to_owned(),
            lines: open().map_err(at(path))?,
            columns: Vec::new(),
            digest: Some(Digest::default()),
            end: None,
        };
        let head: Head =
            serde_json::from_slice(&reader.line()?).map_err(|error| Error::damaged(path, error))?;
        if head.format != FORMAT || head.version > VERSION || head.table != table {
            let what = format!("it is {} {} of {}", head.format, head.version, head.table);
            return Err(Error::damaged(path, what));
        }
        reader.columns = head.columns;
        Ok(reader)
    }

    /// The next rows; none at the end, which is there and right then.
    pub(crate) fn page(&mut self) -> Result<Vec<Vec<Value>>, Error> {
        let mut rows = Vec::new();
        while rows.len() < PAGE_ROWS && self.end.is_none() {
            let line = self.line()?;
            if line.first() == Some(&b'{') {
                self.finish(&line)?;
                break;
            }
            let row = row::read(&line).filter(|row| row.len() == self.columns.len());
            let row = row.ok_or_else(|| Error::damaged(&self.path, "a line is no row"))?;
            if let Some(digest) = &mut self.digest {
                digest.add(&row).map_err(|error| Error::damaged(&self.path, error))?;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn finish(&mut self, line: &[u8]) -> Result<(), Error> {
        let end: End =
            serde_json::from_slice(line).map_err(|error| Error::damaged(&self.path, error))?;
        let read = self.digest.take().unwrap_or_default().end();
        if read != (end.rows, end.sha256) {
            return Err(Error::damaged(&self.path, "its rows are not those that were written"));
        }
        self.end = Some(read);
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| Error::damaged(&self.path, error))?;
        if line.last() != Some(&b'\n') {
            return Err(Error::damaged(&self.path, "it ends too early"));
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_and_a_changed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl.zst");
        let columns = vec!["a".to_owned(), "b".to_owned()];
        let mut file = TableWriter::create(path.clone(), "t", &columns).unwrap();
        let rows: Vec<_> =
            (0..1000).map(|n| vec![Value::Integer(n), Value::Text(format!("row {n}"))]).collect();
        for row in &rows {
            file.row(row).unwrap();
        }
        let written = file.finish().unwrap();
        let read = |path: &Path| {
            let mut reader = TableReader::open(path, "t")?;
            let mut rows = Vec::new();
            loop {
                let page = reader.page()?;
                if page.is_empty() {
                    return Ok::<_, Error>((rows, reader.end.unwrap()));
                }
                rows.extend(page);
            }
        };
        assert_eq!(read(&path).unwrap(), (rows, written));
        assert!(TableReader::open(&path, "other").is_err());

        let bytes = std::fs::read(&path).unwrap();
        for (at, cut) in [(bytes.len() / 2, bytes.len()), (0, bytes.len() - 20)] {
            let mut damaged = bytes[..cut].to_vec();
            damaged[at] ^= u8::from(at > 0);
            let path = dir.path().join("damaged");
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(read(&path), Err(Error::Damaged { .. } | Error::Io { .. })));
        }
    }
}
