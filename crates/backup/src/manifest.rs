//! What a backup holds.

use serde::{Deserialize, Serialize};

/// The format of whole backups.
pub(crate) const FORMAT: &str = "muster-backup";
pub(crate) const VERSION: u32 = 1;

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `muster-backup`.
    pub format: String,
    /// Of the format: 1.
    pub version: u32,
    /// Its name in its folder; later ones sort behind earlier ones.
    pub id: String,
    /// When its snapshot was taken, in microseconds since 1970, by the database's clock.
    pub taken_at: i64,
    /// The version of the program that took it.
    pub program: String,
    /// The newest migration of its catalog.
    pub migration: String,
    /// `sqlite` or `postgres`; it can be restored into either.
    pub database: String,
    /// The installation.
    pub cluster: String,
    /// The catalog.
    pub tables: Vec<TableEntry>,
    /// The archive.
    pub objects: Objects,
    /// How far each shard was folded.
    pub shards: Vec<(u8, u64)>,
    /// Whether the key that opens its secrets is in it.
    pub secret_key: bool,
}

/// A table of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// SHA-256 of its rows, as lines in the order of the primary key.
    pub sha256: String,
}

/// The objects that the catalog refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// How many.
    pub count: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// How many of them this backup copied; the others were there.
    pub copied: u64,
    /// SHA-256 of the list of them.
    pub sha256: String,
    /// Those that the archive did not have: lost before the backup was taken. The first 100.
    pub missing: Vec<String>,
    /// How many such.
    pub missing_count: u64,
}

impl Manifest {
    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}
