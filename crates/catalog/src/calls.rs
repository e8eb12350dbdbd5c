//! Counting what the database is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Stats};

/// Questions of all handles of one catalog.
#[derive(Debug)]
pub(crate) struct Calls {
    made: AtomicU64,
    /// How many are answered yet; all, except where a test says otherwise.
    left: AtomicU64,
    /// The answer of which commit is lost, counted from one; none when it is zero.
    lost_commit: AtomicU64,
    pub(crate) stats: Stats,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            made: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            lost_commit: AtomicU64::new(0),
            stats: Stats::default(),
        }
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

    /// After each commit that happened.
    pub(crate) fn committed(&self) -> Result<(), Error> {
        if self.lost_commit.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let one = |commits: u64| commits.checked_sub(1);
        match self.lost_commit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one) {
            Ok(1) => Err(Error::Unavailable("its answer was lost".to_owned())),
            _ => Ok(()),
        }
    }

    pub(crate) fn lose_commit(&self, commit: u64) -> bool {
        self.lost_commit.swap(commit, Ordering::Relaxed) == 0
    }

    pub(crate) fn away_after(&self, questions: Option<u64>) {
        self.left.store(questions.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
