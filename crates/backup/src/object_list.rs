//! The list of a backup's objects: name, length and hash of each, by name.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::error::at;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Writes a list.
pub(crate) struct ListWriter {
    path: PathBuf,
    out: zstd::Encoder<'static, BufWriter<File>>,
    hash: Sha256,
}

impl ListWriter {
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        let open = || {
            let mut out = zstd::Encoder::new(BufWriter::new(File::create_new(&path)?), 3)?;
            out.include_checksum(true)?;
            Ok(out)
        };
        let out = open().map_err(at(&path))?;
        Ok(Self { path, out, hash: Sha256::new() })
    }

    pub(crate) fn add(&mut self, object: &Listed) -> Result<(), Error> {
        let mut line =
            serde_json::to_vec(object).map_err(|error| Error::damaged(&self.path, error))?;
        line.push(b'\n');
        self.hash.update(&line);
        self.out.write_all(&line).map_err(at(&self.path))
    }

    /// Makes it durable; what identifies it.
    pub(crate) fn finish(self) -> Result<String, Error> {
        let Self { path, out, hash } = self;
        let end = || {
            let file = out.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.sync_all()
        };
        end().map_err(at(&path))?;
        Ok(hex::encode(hash.finalize()))
    }
}

/// Reads a list.
pub(crate) struct ListReader {
    path: PathBuf,
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    hash: Sha256,
    ahead: Option<Listed>,
}

impl ListReader {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let open = || Ok(BufReader::new(zstd::Decoder::new(File::open(path)?)?));
        let lines = open().map_err(at(path))?;
        Ok(Self { path: path.to_owned(), lines, hash: Sha256::new(), ahead: None })
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Result<Option<Listed>, Error> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let mut line = Vec::new();
        let read = self.lines.read_until(b'\n', &mut line);
        read.map_err(|error| Error::damaged(&self.path, error))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.hash.update(&line);
        let listed = serde_json::from_slice(&line);
        listed.map(Some).map_err(|error| Error::damaged(&self.path, error))
    }

    /// The entry of this name, skipping what is before it. Names must be asked for in rising order.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Listed>, Error> {
        while let Some(listed) = self.next()? {
            if *listed.name >= *name {
                if listed.name == name {
                    return Ok(Some(listed));
                }
                self.ahead = Some(listed);
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// What identifies what was read.
    pub(crate) fn end(self) -> String {
        hex::encode(self.hash.finalize())
    }
}
