//! Lines of the log that anybody can cause: they must not fill it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Lets a line through now and then, and counts those it holds back.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    next_at: Option<Instant>,
    left_out: u64,
}

impl Rarely {
    /// How many lines were left out since the last one, when it is time for another.
    pub(crate) fn turn(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock();
        if lines.next_at.is_some_and(|at| now < at) {
            lines.left_out += 1;
            return None;
        }
        lines.next_at = Some(now + EVERY);
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_a_second_and_it_counts_the_others() {
        let (rarely, start) = (Rarely::default(), Instant::now());
        let turn = |millis| rarely.turn(start + Duration::from_millis(millis));
        assert_eq!([turn(0), turn(0), turn(999)], [Some(0), None, None]);
        assert_eq!([turn(1_000), turn(1_500)], [Some(2), None]);
        assert_eq!([turn(9_000), turn(10_000)], [Some(1), Some(0)]);
    }
}
