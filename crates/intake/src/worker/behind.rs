//! How far the worker is behind: the age of the oldest record that it has read and not committed.

use muster_stream::Entry;
use muster_types::Timestamp;

/// When the oldest records came that are folded, and those that are being committed.
#[derive(Debug, Default)]
pub(super) struct Behind {
    folded: Option<Timestamp>,
    committing: Option<Timestamp>,
}

impl Behind {
    /// Takes note of records on their way to the fold.
    pub fn read(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let oldest = entries.iter().map(|entry| entry.record.received_at).min();
        self.folded = self.folded.into_iter().chain(oldest).min();
        entries
    }

    /// What was folded is on its way.
    pub fn flushed(&mut self) {
        self.committing = self.committing.into_iter().chain(self.folded.take()).min();
    }

    /// What was on its way has arrived.
    pub fn committed(&mut self) {
        self.committing = None;
    }

    /// The age of the oldest of them.
    pub fn lag_ms(&self, now: Timestamp) -> u64 {
        let oldest = self.folded.into_iter().chain(self.committing).min();
        let age = oldest.map(|oldest| now.since(oldest).as_millis());
        age.map_or(0, |age| u64::try_from(age).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_what_is_not_committed() {
        let at = |second: i64| Timestamp(second * 1_000_000);
        let mut behind = Behind { folded: Some(at(5)), committing: None };
        assert_eq!(behind.lag_ms(at(8)), 3000);
        behind.flushed();
        behind.folded = Some(at(7));
        assert_eq!(behind.lag_ms(at(8)), 3000);
        behind.committed();
        assert_eq!(behind.lag_ms(at(8)), 1000);
        behind.flushed();
        behind.committed();
        assert_eq!(behind.lag_ms(at(8)), 0);
    }
}
