//! Reading a backup back.

use std::path::Path;

use crate::folder::find;
use crate::object_list::ListReader;
use crate::table_file::TableReader;
use crate::{Error, Manifest, objects};

/// What was read, all of it right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Reads every row and every object of a backup (`None`: the newest) and compares what it finds with
/// what the backup says of itself.
///
/// # Errors
/// [`Error::Damaged`] with the first file that is not what it was.
pub fn verify(dir: &Path, id: Option<&str>) -> Result<(Manifest, Verified), Error> {
    let (backup, manifest) = find(dir, id)?;
    let mut done = Verified::default();
    for entry in &manifest.tables {
        let path = backup.join("catalog").join(format!("{}.jsonl.zst", entry.name));
        let mut file = TableReader::open(&path, &entry.name)?;
        while !file.page()?.is_empty() {}
        if file.end != Some((entry.rows, entry.sha256.clone())) {
            return Err(Error::damaged(&path, "it is not the one that the manifest names"));
        }
        done.tables += 1;
        done.rows += entry.rows;
    }
    let list = backup.join("objects.jsonl.zst");
    let mut listed = ListReader::open(&list)?;
    while let Some(object) = listed.next()? {
        let path = dir.join("objects").join(&object.name);
        let length = std::fs::metadata(&path).map_err(crate::error::at(&path))?.len();
        if length != object.bytes || objects::hash(&path)? != object.sha256 {
            return Err(Error::damaged(&path, "it is not the object that was copied"));
        }
        done.objects += 1;
        done.bytes += length;
    }
    let says = &manifest.objects;
    if (done.objects, done.bytes) != (says.count, says.bytes) || listed.end() != says.sha256 {
        return Err(Error::damaged(&list, "it is not the list that the manifest names"));
    }
    Ok((manifest, done))
}
