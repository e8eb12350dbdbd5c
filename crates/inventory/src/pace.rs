//! How fast agents are given their questions, so that an outage does not end in a flood of answers.

use muster_types::Timestamp;
use parking_lot::Mutex;

use crate::rounds::ROUND_SECONDS;

/// Agents a second that any installation bears.
const RATE_MIN: f64 = 20.0;
/// How much faster than evenly over the hour a backlog is worked off.
const CATCH_UP: f64 = 4.0;

/// A bucket of permits, refilled by time.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    permits: f64,
    filled_at: Option<Timestamp>,
}

impl Pace {
    /// Takes a permit if there is one. The rate follows the number of agents; what fits into one second is
    /// kept.
    pub(crate) fn take(&self, agents: usize, now: Timestamp) -> bool {
        let rate = (agents as f64 * CATCH_UP / f64::from(ROUND_SECONDS)).max(RATE_MIN);
        let mut state = self.0.lock();
        let fresh = match state.filled_at {
            None => rate,
            Some(last) => now.since(last).as_secs_f64() * rate,
        };
        // A clock that was set back fills nothing and starts anew from there.
        state.filled_at = Some(now);
        state.permits = (state.permits + fresh).min(rate);
        if state.permits < 1.0 {
            return false;
        }
        state.permits -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_backlog_goes_out_four_times_as_fast_as_usual() {
        let pace = Pace::default();
        let start = Timestamp(1_763_640_000_000_000);
        let taken_in = |from: u32, seconds: u32| {
            let at = |ms: u32| start.plus(Duration::from_millis(u64::from(ms)));
            let polls = (from * 1_000..(from + seconds) * 1_000).flat_map(|ms| [ms; 10]);
            polls.filter(|ms| pace.take(360_000, at(*ms))).count()
        };
        // 360,000 agents are 100 a second over the hour.
        assert!((400..=802).contains(&taken_in(0, 1)), "what one second keeps, and one second's");
        assert!((3_998..=4_002).contains(&taken_in(1, 10)));
    }

    #[test]
    fn few_agents_wait_for_nothing() {
        let pace = Pace::default();
        assert!((0..20).all(|_| pace.take(5, Timestamp(1))));
        assert!(!pace.take(5, Timestamp(1)));
    }
}
