//! How a catalog is opened.

use std::time::Duration;

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
            hold_timeout: Duration::from_secs(5),
            group_time_max: Duration::from_millis(5),
            queue_length_max: 1024,
        }
    }
}
