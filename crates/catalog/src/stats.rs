//! What the catalog measures of itself.

use std::time::Instant;

use muster_types::measure::{Counter, Durations};

use crate::Error;

/// Counts and times of all handles of one catalog.
#[derive(Debug, Default)]
pub struct Stats {
    /// How long reads outside transactions took.
    pub reads: Durations,
    /// How long single statements took, commit included.
    pub statements: Durations,
    /// How long transactions took that were committed, from their begin.
    pub transactions: Durations,
    /// Calls that failed because the database was away, too busy, or full.
    pub unavailable: Counter,
    /// Calls that failed for another reason; a violated constraint is an answer.
    pub failed: Counter,
    /// Transactions and statements that wait to begin: for a connection, or for SQLite's writer.
    pub waiting: Counter,
}

/// Connections to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Open ones.
    pub open: u32,
    /// Open ones that nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub allowed: u32,
}

impl Stats {
    /// Notes an answer and passes it on.
    pub(crate) fn seen<T>(
        &self,
        kind: &Durations,
        begun: Instant,
        answer: Result<T, Error>,
    ) -> Result<T, Error> {
        match &answer {
            Ok(_) | Err(Error::UniqueViolation { .. }) => kind.observe(begun.elapsed()),
            Err(error) => self.failure(error),
        }
        answer
    }

    pub(crate) fn failure(&self, error: &Error) {
        match error {
            Error::UniqueViolation { .. } => {}
            Error::Unavailable(_) | Error::DiskFull => self.unavailable.inc(),
            _ => self.failed.inc(),
        }
    }
}
