//! One object, from the archive into a file and back.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use muster_archive::Archive;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::error::at;
use crate::folder::{make_dir, sync_dir};
use crate::object_list::Listed;
use crate::references::Reference;

/// Bytes of an object in memory at once.
const CHUNK: u64 = 8 << 20;

/// What became of an object.
pub(crate) enum Kept {
    /// It was there, or it is now.
    Here { listed: Listed, copied: bool },
    /// The archive does not have it.
    Missing(String),
}

/// Sees to it that an object is in the folder. What an earlier backup says of it is believed when the
/// file still has that length; [`crate::verify`] reads it.
pub(crate) async fn keep(
    archive: &Archive,
    folder: &Path,
    reference: Reference,
    known: Option<Listed>,
) -> Result<Kept, Error> {
    let Reference { name, byte_count } = reference;
    let path = folder.join(&name);
    let length = std::fs::metadata(&path).ok().map(|file| file.len());
    if let Some(known) = known.filter(|known| Some(known.bytes) == length) {
        return Ok(Kept::Here { listed: known, copied: false });
    }
    // Its name was given when it was whole, so this is what a backup that was cut off has copied.
    if let Some(bytes) = length.filter(|length| byte_count.is_none_or(|count| count == *length)) {
        let sha256 = hash(&path)?;
        return Ok(Kept::Here { listed: Listed { name, bytes, sha256 }, copied: false });
    }
    let Some(bytes) = archive.size(&name).await? else { return Ok(Kept::Missing(name)) };
    if byte_count.is_some_and(|count| count != bytes) {
        return Err(Error::Refused(format!(
            "object {name} has {bytes} bytes and not what the catalog says; it is damaged"
        )));
    }
    let sha256 = fetch(archive, &name, bytes, &path).await?;
    Ok(Kept::Here { listed: Listed { name, bytes, sha256 }, copied: true })
}

async fn fetch(archive: &Archive, name: &str, bytes: u64, path: &Path) -> Result<String, Error> {
    let dir = path.parent().unwrap_or(path);
    make_dir(dir)?;
    let part = path.with_extension("part");
    let mut file = File::create(&part).map_err(at(&part))?;
    let mut hash = Sha256::new();
    let mut from = 0;
    while from < bytes {
        let to = bytes.min(from + CHUNK);
        let chunk = archive.get_range(name, from..to).await?;
        hash.update(&chunk);
        file.write_all(&chunk).map_err(at(&part))?;
        from = to;
    }
    file.sync_all().map_err(at(&part))?;
    std::fs::rename(&part, path).map_err(at(path))?;
    sync_dir(dir)?;
    Ok(hex::encode(hash.finalize()))
}

/// SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk).map_err(at(path))?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&chunk[..n]);
    }
}
