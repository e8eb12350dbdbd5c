//! How long to wait before the next attempt.

use std::time::Duration;

/// The longest pause between two attempts.
const MAX: Duration = Duration::from_secs(4);

/// The pause before attempt `n` (from 1): doubled from 50 ms up to 4 s, and then between half and all
/// of it, so that many instances that lost one server do not return to the next at one moment.
pub(crate) fn before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let pause = (Duration::from_millis(50) * 2u32.pow(doublings)).min(MAX);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert!(before(1) < Duration::from_millis(51));
        for attempt in [0, 1, 5, 8, 40, usize::MAX] {
            assert!(before(attempt) <= MAX);
        }
        assert!(before(usize::MAX) >= MAX / 2);
    }
}
