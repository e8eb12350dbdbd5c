//! Counting what the database is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Stats};

/// Questions of all handles of one catalog.
#[derive(Debug)]
pub(crate) struct Calls {
    made: AtomicU64,
    /// How many are answered yet; all, except where a test says otherwise.
    left: AtomicU64,
    pub(crate) stats: Stats,
}

impl Default for Calls {
    fn default() -> Self {
        Self { made: AtomicU64::new(0), left: AtomicU64::new(u64::MAX), stats: Stats::default() }
    }
}

impl Calls {
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Before a read, a single statement or a transaction.
    pub(crate) fn count(&self) -> Result<(), Error> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.ask()
    }

    /// Before each question.
    pub(crate) fn ask(&self) -> Result<(), Error> {
        if self.left.load(Ordering::Relaxed) == u64::MAX {
            return Ok(());
        }
        let one = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Unavailable("it was taken away".to_owned())),
        }
    }

    pub(crate) fn away_after(&self, questions: Option<u64>) {
        self.left.store(questions.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
