//! How long to wait before trying again.

use std::time::Duration;

/// Exponential with full jitter: any time between nothing and a ceiling that doubles, so that many
/// agents that lost one server do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// First ceiling.
    pub first: Duration,
    /// Last ceiling.
    pub last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), last: Duration::from_secs(60) }
    }
}

/// What a server asks for is believed up to here.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

impl Backoff {
    /// The wait after `failures` in a row (from 1).
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let ceiling = self.first.saturating_mul(doubled).min(self.last);
        ceiling.mul_f64(rand::random())
    }

    /// The wait a server asked for, or more by up to a half, so that not all come at once.
    #[must_use]
    pub fn asked(retry_after: Duration) -> Duration {
        let asked = retry_after.min(RETRY_AFTER_MAX);
        asked + asked.mul_f64(0.5 * rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_their_bounds() {
        let backoff = Backoff::default();
        for failures in 1..100 {
            assert!(backoff.wait(failures) <= backoff.last);
        }
        assert!(backoff.wait(1) <= backoff.first);
        let asked = Duration::from_secs(10);
        assert!((asked..=asked * 3 / 2).contains(&Backoff::asked(asked)));
    }
}
