//! Where a copy comes from: a backup in a folder, or other stores.

use std::path::PathBuf;

use bytes::Bytes;
use muster_archive::Archive;
use muster_catalog::copy::{Snapshot, Table};
use muster_catalog::{Row, Value};

use crate::error::at;
use crate::object_list::ListReader;
use crate::references::Walk;
use crate::row::Digest;
use crate::table_file::TableReader;
use crate::take::{LEFT_OUT, values};
use crate::{Error, Manifest, objects};

/// Objects that are told of at once.
const PAGE: usize = 256;

/// A copy's source.
pub(crate) enum Source {
    /// A backup: its folder, its own folder in there, what it holds.
    Folder { dir: PathBuf, backup: PathBuf, manifest: Manifest },
    /// Stores that nobody else uses.
    Stores { snapshot: Snapshot, archive: Archive },
}

/// An object to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// Its hash, where it is known.
    sha256: Option<String>,
}

impl Source {
    /// The tables to be copied.
    pub(crate) fn tables(&self) -> Vec<String> {
        match self {
            Self::Folder { manifest, .. } => {
                manifest.tables.iter().map(|entry| entry.name.clone()).collect()
            }
            Self::Stores { snapshot, .. } => {
                let names = snapshot.tables().iter().map(|table| table.name.clone());
                names.filter(|name| !LEFT_OUT.contains(&&**name)).collect()
            }
        }
    }

    /// The rows of a table, from its beginning.
    pub(crate) fn rows(&mut self, table: &str) -> Result<Rows<'_>, Error> {
        match self {
            Self::Folder { backup, .. } => {
                let path = backup.join("catalog").join(format!("{table}.jsonl.zst"));
                Ok(Rows::File(TableReader::open(&path, table)?))
            }
            Self::Stores { snapshot, .. } => {
                let found = snapshot.tables().iter().find(|known| known.name == table).cloned();
                let table =
                    found.ok_or_else(|| Error::Refused(format!("there is no table {table}")))?;
                Ok(Rows::Live { snapshot, table, last: None })
            }
        }
    }

    /// What identifies the rows of a table. Of a backup it is what the manifest says, which reading
    /// the table checks; of stores it is found by reading all of them.
    pub(crate) async fn digest(&mut self, table: &str) -> Result<(u64, String), Error> {
        if let Self::Folder { manifest, .. } = self
            && let Some(entry) = manifest.tables.iter().find(|entry| entry.name == table)
        {
            return Ok((entry.rows, entry.sha256.clone()));
        }
        digest(&mut self.rows(table)?).await
    }

    /// A walk over the objects.
    pub(crate) fn objects(&self) -> Result<Objects, Error> {
        match self {
            Self::Folder { backup, .. } => {
                Ok(Objects::Listed(ListReader::open(&backup.join("objects.jsonl.zst"))?))
            }
            Self::Stores { .. } => Ok(Objects::Walked(Walk::new())),
        }
    }

    /// The next objects of a walk; none at its end.
    pub(crate) async fn next(&mut self, walk: &mut Objects) -> Result<Option<Vec<Wanted>>, Error> {
        match (self, walk) {
            (Self::Folder { .. }, Objects::Listed(list)) => {
                let mut some = Vec::new();
                while some.len() < PAGE
                    && let Some(listed) = list.next()?
                {
                    some.push(Wanted { name: listed.name, sha256: Some(listed.sha256) });
                }
                Ok((!some.is_empty()).then_some(some))
            }
            (Self::Stores { snapshot, .. }, Objects::Walked(walk)) => {
                let next = walk.next(snapshot).await?;
                let wanted = |reference: crate::references::Reference| Wanted {
                    name: reference.name,
                    sha256: None,
                };
                Ok(next.map(|some| some.into_iter().map(wanted).collect()))
            }
            _ => Ok(None),
        }
    }

    /// How objects are read, apart from the rows.
    pub(crate) fn reader(&self) -> ObjectReader {
        match self {
            Self::Folder { dir, .. } => ObjectReader::Folder(dir.join("objects")),
            Self::Stores { archive, .. } => ObjectReader::Archive(archive.clone()),
        }
    }
}

/// Where a walk over objects stands.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(crate) enum Objects {
    Listed(ListReader),
    Walked(Walk),
}

/// Reads objects.
pub(crate) enum ObjectReader {
    Folder(PathBuf),
    Archive(Archive),
}

impl ObjectReader {
    /// The bytes of an object; `None` when it is not there.
    pub(crate) async fn read(&self, wanted: &Wanted) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(&wanted.name);
                let found = objects::hash(&path)?;
                if wanted.sha256.as_ref().is_some_and(|known| *known != found) {
                    return Err(Error::damaged(&path, "it is not the object that was copied"));
                }
                Ok(Some(std::fs::read(&path).map_err(at(&path))?.into()))
            }
            Self::Archive(archive) => match archive.get(&wanted.name).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(muster_archive::Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// The rows of one table, a page at a time.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(crate) enum Rows<'a> {
    File(TableReader),
    Live { snapshot: &'a mut Snapshot, table: Table, last: Option<Row> },
}

impl Rows<'_> {
    pub(crate) fn columns(&self) -> Vec<String> {
        match self {
            Self::File(file) => file.columns.clone(),
            Self::Live { table, .. } => {
                table.columns.iter().map(|column| column.name.clone()).collect()
            }
        }
    }

    /// The next ones; none at the end.
    pub(crate) async fn page(&mut self) -> Result<Vec<Vec<Value>>, Error> {
        match self {
            Self::File(file) => file.page(),
            Self::Live { snapshot, table, last } => {
                let rows = snapshot.page(table, last.as_ref()).await?;
                *last = rows.last().cloned();
                rows.into_iter().map(|row| values(table, row)).collect()
            }
        }
    }
}

/// What identifies all rows of a table.
pub(crate) async fn digest(rows: &mut Rows<'_>) -> Result<(u64, String), Error> {
    let mut digest = Digest::default();
    loop {
        let page = rows.page().await?;
        if page.is_empty() {
            return Ok(digest.end());
        }
        for row in &page {
            let added = digest.add(row);
            added.map_err(|error| Error::Refused(format!("a row cannot be written: {error}")))?;
        }
    }
}
