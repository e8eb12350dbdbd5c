//! Removing old backups.
//!
//! Cut off at any point it leaves whole backups: first those that go lose their names, so that nobody
//! restores from them, and only then the objects go that no backup with a name lists. What is left is removed
//! by the next run. The folder is locked all the while, because a backup that is being taken counts on the
//! objects that it finds.

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use crate::error::at;
use crate::folder::{self, Folder};
use crate::object_list::ListReader;
use crate::{Error, Manifest};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups, the oldest first.
    pub backups: Vec<String>,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The backups that [`prune`] would remove, the oldest first.
///
/// # Errors
/// When there is no such folder or one of its backups is damaged.
pub fn surplus(dir: &Path, keep: usize) -> Result<Vec<Manifest>, Error> {
    let mut all = folder::backups(dir)?;
    all.truncate(all.len().saturating_sub(keep));
    Ok(all)
}

/// Removes all but the newest `keep` whole backups, and the objects that none of those needs.
///
/// # Errors
/// When none would be left, the folder is in use, or what a kept backup lists cannot be read: nothing is
/// removed then.
pub fn prune(dir: &Path, keep: usize) -> Result<Pruned, Error> {
    if keep == 0 {
        return Err(Error::Refused("at least one backup must be kept".to_owned()));
    }
    // A folder that holds no backups does not become one that does.
    folder::backups(dir)?;
    let folder = Folder::open(dir)?;
    let gone = surplus(dir, keep)?;
    let mut needed = Needed::default();
    for manifest in folder::backups(dir)?.iter().skip(gone.len()) {
        needed.add(dir, manifest)?;
    }
    folder.remove(gone.iter().map(|manifest| &*manifest.id))?;
    let backups = gone.into_iter().map(|manifest| manifest.id).collect();
    let mut pruned = Pruned { backups, ..Pruned::default() };
    sweep(&dir.join("objects"), "", &needed, &mut pruned)?;
    Ok(pruned)
}

/// Names of objects, as 8 bytes each: there may be millions. Two names that meet keep one too many.
#[derive(Default)]
struct Needed {
    names: HashSet<u64>,
    hasher: RandomState,
}

impl Needed {
    fn add(&mut self, dir: &Path, manifest: &Manifest) -> Result<(), Error> {
        let path = dir.join("backups").join(&manifest.id).join("objects.jsonl.zst");
        let mut list = ListReader::open(&path)?;
        while let Some(object) = list.next()? {
            self.names.insert(self.hasher.hash_one(&*object.name));
        }
        // Half a list would say that the other half is not needed.
        if list.end() != manifest.objects.sha256 {
            return Err(Error::damaged(&path, "it is not the list that the manifest names"));
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(&self.hasher.hash_one(name))
    }
}

/// Removes what is not needed from a folder of objects, whose names begin with `prefix`.
fn sweep(dir: &Path, prefix: &str, needed: &Needed, pruned: &mut Pruned) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        let path = entry.path();
        // No object has another name.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        if entry.file_type().map_err(at(&path))?.is_dir() {
            sweep(&path, &format!("{name}/"), needed, pruned)?;
            // Only an empty one.
            let _ = fs::remove_dir(&path);
        } else if !needed.has(&name) {
            let bytes = entry.metadata().map_err(at(&path))?.len();
            fs::remove_file(&path).map_err(at(&path))?;
            pruned.objects += 1;
            pruned.bytes += bytes;
        }
    }
    Ok(())
}
