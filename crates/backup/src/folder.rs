//! The folder of backups.
//!
//! ```text
//! muster-backup           says that this is such a folder
//! objects/…               objects of the archive under their names, shared by all backups
//! backups/ID/manifest.json
//! backups/ID/catalog/TABLE.jsonl.zst
//! backups/ID/objects.jsonl.zst
//! backups/ID/secret.key   if asked for
//! ```
//! A backup gets its name when it is whole; `ID.partial` is one that was cut off.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::manifest::{FORMAT, Manifest, VERSION};
use crate::{Error, manifest};

const MARK: &str = "muster-backup";

/// A folder of backups, open for one more.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens it, or makes it of an empty or missing folder; for its owner only.
    ///
    /// # Errors
    /// When it holds something else, or another process is at it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        make_dir(dir)?;
        let mark = dir.join(MARK);
        if !mark.is_file() {
            let mut entries = std::fs::read_dir(dir).map_err(at(dir))?;
            if entries.next().is_some() {
                let dir = dir.display();
                return Err(Error::Refused(format!(
                    "{dir} holds something else; give an empty folder"
                )));
            }
            write_new(&mark, format!("{FORMAT} {VERSION}\n").as_bytes())?;
        }
        let lock = File::open(&mark).map_err(at(&mark))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let dir = dir.display();
                return Err(Error::Refused(format!("another backup into {dir} is being taken")));
            }
            Err(TryLockError::Error(error)) => return Err(at(&mark)(error)),
        }
        let folder = Self { dir: dir.to_owned(), _lock: lock };
        make_dir(&folder.dir.join("objects"))?;
        make_dir(&folder.dir.join("backups"))?;
        folder.drop_partial()?;
        Ok(folder)
    }

    fn drop_partial(&self) -> Result<(), Error> {
        let backups = self.dir.join("backups");
        for entry in std::fs::read_dir(&backups).map_err(at(&backups))? {
            let path = entry.map_err(at(&backups))?.path();
            if path.extension().is_some_and(|extension| extension == "partial") {
                std::fs::remove_dir_all(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// The folder of a backup that is being taken.
    pub(crate) fn begin(&self, id: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join("backups").join(format!("{id}.partial"));
        make_dir(&path.join("catalog"))?;
        Ok(path)
    }

    /// Writes the manifest and gives the backup its name.
    pub(crate) fn end(&self, partial: &Path, manifest: &Manifest) -> Result<PathBuf, Error> {
        let text =
            serde_json::to_vec_pretty(manifest).map_err(|error| Error::damaged(partial, error))?;
        write_new(&partial.join("manifest.json"), &text)?;
        sync_dir(&partial.join("catalog"))?;
        sync_dir(partial)?;
        let whole = self.dir.join("backups").join(&manifest.id);
        std::fs::rename(partial, &whole).map_err(at(&whole))?;
        sync_dir(&self.dir.join("backups"))?;
        Ok(whole)
    }

    /// Removes backups. They lose their names first, all of them: whatever happens then, nobody takes one for
    /// whole, and the next one who opens the folder removes the rest.
    pub(crate) fn remove<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let backups = self.dir.join("backups");
        for id in ids {
            let partial = backups.join(format!("{id}.partial"));
            std::fs::rename(backups.join(id), &partial).map_err(at(&partial))?;
        }
        sync_dir(&backups)?;
        self.drop_partial()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The whole backups in a folder, the oldest first.
///
/// # Errors
/// When there is no such folder or one of them is damaged.
pub fn backups(dir: &Path) -> Result<Vec<Manifest>, Error> {
    if !dir.join(MARK).is_file() {
        return Err(Error::Refused(format!("{} is no folder of backups", dir.display())));
    }
    let folder = dir.join("backups");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
        let path = entry.map_err(at(&folder))?.path();
        if path.extension().is_none_or(|extension| extension != "partial") {
            found.push(read_manifest(&path)?);
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// One backup by its name, or the newest.
pub(crate) fn find(dir: &Path, id: Option<&str>) -> Result<(PathBuf, Manifest), Error> {
    let mut all = backups(dir)?;
    let found = match id {
        Some(id) => all.into_iter().find(|manifest| manifest.id == id),
        None => all.pop(),
    };
    let Some(manifest) = found else {
        let dir = dir.display();
        return Err(Error::Refused(match id {
            Some(id) => format!("{dir} holds no backup {id}"),
            None => format!("{dir} holds no whole backup"),
        }));
    };
    Ok((dir.join("backups").join(&manifest.id), manifest))
}

fn read_manifest(backup: &Path) -> Result<Manifest, Error> {
    let path = backup.join("manifest.json");
    let text = std::fs::read(&path).map_err(at(&path))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| Error::damaged(&path, error))?;
    if manifest.format != FORMAT || manifest.version > manifest::VERSION {
        return Err(Error::Refused(format!(
            "{} was written by a newer version ({}); restore with that one",
            path.display(),
            manifest.program
        )));
    }
    Ok(manifest)
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Writes a file for its owner only, durably.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}
