//! SQL over results and the catalog, answered by a child process.

mod child;
mod encode;
mod queue;
pub mod resource;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use muster_types::{ArchiveAccess, SqlLimits};
use secrecy::SecretString;

pub(crate) use encode::Format;
pub(crate) use queue::Queue;
pub(crate) use run::{Question, answer, collect};

/// The child and its limits.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// The program; `None`: this very one.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where the child finds the catalog. Goes to its standard input, never on its command line.
    pub catalog_url: SecretString,
    /// Where the child finds the archive.
    pub archive_url: String,
    /// How the child reaches it; by standard input, like the catalog's URL.
    pub archive_access: ArchiveAccess,
    /// Queries at once; more wait.
    pub concurrent: usize,
    /// Queries that may wait; more are told to come again.
    pub waiting: usize,
    /// Memory of one child.
    pub memory_bytes: u64,
    /// Longest life of one query, and longest that a reader may take for a piece of an answer.
    pub time: Duration,
    /// Longest life of an answer with all rows of a hunt, which may be many; less than what is replaced
    /// meanwhile stays readable.
    pub whole_time: Duration,
    /// Most rows of one answer.
    pub rows: u64,
    /// Working threads of one child.
    pub threads: usize,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            program: None,
            arguments: vec!["sql-worker".into()],
            catalog_url: String::new().into(),
            archive_url: String::new(),
            archive_access: ArchiveAccess::default(),
            concurrent: 2,
            waiting: 16,
            memory_bytes: 1 << 30,
            time: Duration::from_secs(600),
            whole_time: Duration::from_secs(900),
            rows: 10_000_000,
            threads: 2,
        }
    }
}

impl SqlOptions {
    /// The limits of one query that may take `time` and answer `rows`, within what is allowed.
    fn limits(&self, time: Option<Duration>, rows: Rows) -> SqlLimits {
        let longest = if rows == Rows::All { self.whole_time.max(self.time) } else { self.time };
        let time = time.unwrap_or(longest).min(longest);
        let rows = match rows {
            Rows::Allowed => self.rows,
            Rows::AtMost(rows) => rows.min(self.rows),
            Rows::All => u64::MAX,
        };
        SqlLimits {
            memory_bytes: self.memory_bytes,
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            rows,
        }
    }
}

/// How many rows an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// As many as the configuration allows. An answer that has more is cut, and is not taken for a whole one.
    Allowed,
    /// No more than the asker wants; what is beyond is left out, as was asked.
    AtMost(u64),
    /// However many there are: of questions that are streamed as they are read.
    All,
}

impl From<Option<u64>> for Rows {
    fn from(rows: Option<u64>) -> Self {
        rows.map_or(Self::Allowed, Self::AtMost)
    }
}
