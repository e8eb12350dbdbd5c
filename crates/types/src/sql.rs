//! What the server and its SQL child process say to each other.
//!
//! The child is the same binary (`muster sql-worker`). It reads one [`SqlRequest`] as a JSON line
//! from standard input, writes one [`SqlWorkerHello`] JSON line to standard output, then, when that
//! says `ok`, an Arrow IPC stream, and exits. Only the child links the query engine.

use serde::{Deserialize, Serialize};

use crate::{Access, ArchiveAccess, Timestamp};

/// Hard limits of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlLimits {
    /// Data segment of the child in bytes (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// After this the parent kills the child.
    pub time_ms: u64,
    /// At most this many rows come back; the child stops there.
    pub rows: u64,
}

/// One question over results and the catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SqlRequest {
    /// The text: one SELECT (or WITH, EXPLAIN, SHOW TABLES, DESCRIBE).
    pub sql: String,
    /// What the asker may see; applied in every scan.
    pub access: Access,
    /// Its limits.
    pub limits: SqlLimits,
    /// Catalog to read the manifest and the catalog tables from. May hold a password: it comes by
    /// standard input so that it is never on the process list.
    pub catalog_url: String,
    /// Root of the archive.
    pub archive_url: String,
    /// How to reach it. May hold a secret, like the catalog's URL.
    #[serde(default)]
    pub archive_access: ArchiveAccess,
    /// Now, by the server's clock.
    pub now: Timestamp,
    /// Working threads of the engine.
    pub threads: usize,
}

/// First line of the child's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum SqlWorkerHello {
    /// An Arrow IPC stream follows.
    Ok,
    /// The query was refused or failed before its first row.
    Error {
        /// What is wrong and what to do, for the asker.
        message: String,
        /// Whether the asker (not we) is at fault.
        user_error: bool,
        /// Whether a store is away, so that the same question may be answered soon.
        #[serde(default)]
        away: bool,
    },
}

/// One Parquet file inside an object of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Object name.
    pub object: String,
    /// Index of the part in its object.
    pub part: u32,
    /// First byte.
    pub byte_offset: u64,
    /// Length in bytes.
    pub byte_count: u64,
    /// Rows in it.
    pub row_count: u64,
}
