//! `hash`: digests of the files asked for.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::glob;
use crate::table::{Column, Row, Rows, Scan, Table, Value, hash};

/// The table.
pub(super) struct Hash;

const COLUMNS: &[Column] = &[
    Column::text("path").required(),
    Column::text("directory").required(),
    Column::text("md5"),
    Column::text("sha1"),
    Column::text("sha256"),
    Column::int("pid_with_namespace").hidden(),
    Column::text("mount_namespace_id").hidden(),
];

const MD5: usize = 2;
const SHA1: usize = 3;
const SHA256: usize = 4;

impl Table for Hash {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn identity(&self, row: &[Value]) -> u64 {
        hash(row.get(..1).unwrap_or_default())
    }

    fn rows(&self, scan: &Scan) -> Rows {
        let asked = Asked {
            md5: scan.uses(MD5).then(Md5::new),
            sha1: scan.uses(SHA1).then(Sha1::new),
            sha256: scan.uses(SHA256).then(Sha256::new),
        };
        let warnings = scan.warnings.clone();
        Box::new(glob::paths(scan, 0, 1).filter_map(move |path| {
            let digests = match digest(&path, asked.clone()) {
                Ok(Some(digests)) => digests,
                Ok(None) => return None,
                Err(error) => {
                    warnings.add(format!("hash: {}: {error}", path.display()));
                    Asked::default()
                }
            };
            Some(row(&path, digests))
        }))
    }
}

/// The digests to compute: what the statement does not read is not computed.
#[derive(Clone, Default)]
struct Asked {
    md5: Option<Md5>,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
}

fn row(path: &Path, asked: Asked) -> Row {
    let (directory, _) = glob::split(path);
    vec![
        String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned().into(),
        directory.into(),
        asked.md5.map(|hash| hex::encode(hash.finalize())).into(),
        asked.sha1.map(|hash| hex::encode(hash.finalize())).into(),
        asked.sha256.map(|hash| hex::encode(hash.finalize())).into(),
    ]
}

/// Reads a regular file through the digests; `None` for everything that is no such file.
fn digest(path: &Path, mut asked: Asked) -> std::io::Result<Option<Asked>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        _ => return Ok(None),
    }
    // Should a pipe have taken its place just now, opening it must not wait for a writer.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(asked)),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Some(hash) = &mut asked.md5 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut asked.sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut asked.sha256 {
            hash.update(bytes);
        }
    }
}
