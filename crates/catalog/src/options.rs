//! How a catalog is opened.

use std::time::Duration;

use crate::Program;

/// Which database is behind a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The embedded one.
    Sqlite,
    /// The one at scale.
    Postgres,
}

impl Database {
    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Bounds of a catalog.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections: to PostgreSQL in all, on SQLite for reading (the writer has its own).
    pub connections_max: u32,
    /// How long to wait for a connection, or for a place in the writer's queue.
    pub acquire_timeout: Duration,
    /// How long one statement may run (PostgreSQL).
    pub statement_timeout: Duration,
    /// How long one statement may wait for a lock (PostgreSQL).
    pub lock_timeout: Duration,
    /// How long a commit may take when a person waits, three times that when nobody does
    /// (PostgreSQL): after that its outcome counts as not known.
    pub commit_timeout: Duration,
    /// After how long without an answer the server is asked for a sign of life (PostgreSQL).
    pub suspect_after: Duration,
    /// How long a sign of life may take, and a new connection (PostgreSQL).
    pub probe_timeout: Duration,
    /// Servers that follow the primary, for [`crate::Catalog::stale`] (PostgreSQL).
    pub replicas: Vec<String>,
    /// How far behind such a server may be.
    pub stale_max: Duration,
    /// What is known of the layout; tests play older and newer programs.
    pub program: Program,
    /// How long one transaction may hold the writer (SQLite) or idle (PostgreSQL).
    pub hold_timeout: Duration,
    /// How long a group commit may stay open for more units (SQLite).
    pub group_time_max: Duration,
    /// Waiting transactions per priority (SQLite); further ones wait outside the queue.
    pub queue_length_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(4),
            commit_timeout: Duration::from_secs(4),
            suspect_after: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(2500),
            replicas: Vec::new(),
            stale_max: Duration::from_secs(30),
            program: Program::default(),
            hold_timeout: Duration::from_secs(5),
            group_time_max: Duration::from_millis(5),
            queue_length_max: 1024,
        }
    }
}
