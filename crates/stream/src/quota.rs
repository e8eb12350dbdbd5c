//! How much of the stream each class of record may fill.

use std::time::Duration;

use muster_types::{Class, Record};

use crate::AppendError;

/// The per cent of the quota up to which records of this class are taken.
///
/// What is most precious may use all of it; what an agent repeats by itself goes first.
#[must_use]
pub const fn share_percent(class: Class) -> u64 {
    match class {
        Class::LifeCycle => 100,
        Class::Collected => 90,
        Class::Scheduled => 75,
        Class::Status => 50,
    }
}

/// Up to how many bytes of `quota_bytes` records of this class are taken.
pub(crate) fn limit_bytes(class: Class, quota_bytes: u64) -> u64 {
    // Divided first: a quota may be as large as u64::MAX.
    quota_bytes / 100 * share_percent(class) + quota_bytes % 100 * share_percent(class) / 100
}

/// Whether intake counts as stopped at `used_bytes`: from the refusal of rows somebody asked for
/// until there is clearly room for them again, so that it does not flicker.
pub(crate) fn stopped(was_refused: bool, used_bytes: u64, quota_bytes: u64) -> bool {
    was_refused && used_bytes > quota_bytes / 5 * 4
}

/// The class an append is judged by: the least precious of its records, as it happens as a whole.
pub(crate) fn class_of(records: &[Record]) -> Class {
    records.iter().map(|record| record.class).max().unwrap_or(Class::LifeCycle)
}

/// The refusal of an append that does not fit.
pub(crate) fn full() -> AppendError {
    AppendError::Full { retry_after: Duration::from_secs(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fall_with_the_class_and_do_not_overflow() {
        let limits = Class::ALL.map(|class| limit_bytes(class, u64::MAX));
        assert!(limits.is_sorted_by(|a, b| a > b));
        assert_eq!(limits[0], u64::MAX);
        assert_eq!(Class::ALL.map(|class| limit_bytes(class, 10)), [10, 9, 7, 5]);
    }
}
