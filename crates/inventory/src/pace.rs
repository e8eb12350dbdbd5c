//! How fast agents are given their questions, so that an outage does not end in a flood of answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};

use muster_types::Timestamp;
use parking_lot::Mutex;

use crate::rounds::ROUND_SECONDS;

/// Agents a second that any installation bears.
const RATE_MIN: f64 = 20.0;
/// How much faster than evenly over the hour a backlog is worked off.
const CATCH_UP: f64 = 4.0;
/// Agents that have questions and have not answered: a full answer is a third of a megabyte, and when the
/// machine cannot take them as fast as the rate allows, the rate is what it can take.
const FLYING_MAX: u32 = 128;
/// Who has not answered within this time does not count any longer, in seconds: it may never do so.
const FLYING_SECONDS: i64 = 30;
/// A permit is never further away than this; if it seems so, the clock was set back.
const AHEAD_MAX: i64 = 1_000_000;

/// A bucket of permits, refilled by time.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    /// No permit before this, in microseconds: told without the lock, for a whole fleet may be waiting.
    empty_until: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    permits: f64,
    filled_at: Option<Timestamp>,
    /// Permits of each second that are not answered for yet, oldest first.
    flying: VecDeque<(i64, u32)>,
}

impl State {
    fn flying(&mut self, second: i64) -> u32 {
        let over = |(then, _): &mut (i64, u32)| !(second - FLYING_SECONDS..=second).contains(then);
        while self.flying.pop_front_if(over).is_some() {}
        self.flying.iter().map(|(_, count)| count).sum()
    }

    fn count(&mut self, second: i64) {
        match self.flying.back_mut() {
            Some((then, count)) if *then == second => *count += 1,
            _ => self.flying.push_back((second, 1)),
        }
    }
}

impl Pace {
    /// Takes a permit if there is one. The rate follows the number of agents; what fits into one second is
    /// kept. While too many have not answered there is none.
    pub(crate) fn take(&self, now: Timestamp, agents: impl FnOnce() -> usize) -> bool {
        let wait = self.empty_until.load(Ordering::Relaxed).saturating_sub(now.0);
        if (1..=AHEAD_MAX).contains(&wait) {
            return false;
        }
        let rate = (agents() as f64 * CATCH_UP / f64::from(ROUND_SECONDS)).max(RATE_MIN);
        let mut state = self.state.lock();
        let fresh = match state.filled_at {
            None => rate,
            Some(last) => now.since(last).as_secs_f64() * rate,
        };
        // A clock that was set back fills nothing and starts anew from there.
        state.filled_at = Some(now);
        state.permits = (state.permits + fresh).min(rate);
        let second = now.seconds();
        let taken = state.permits >= 1.0 && state.flying(second) < FLYING_MAX;
        if taken {
            state.permits -= 1.0;
            state.count(second);
        }
        if state.permits < 1.0 {
            let micros = (1.0 - state.permits) / rate * 1e6;
            self.empty_until.store(now.0.saturating_add(micros as i64), Ordering::Relaxed);
        }
        taken
    }

    /// Somebody who was asked has answered.
    pub(crate) fn answered(&self) {
        let mut state = self.state.lock();
        if let Some((_, count)) = state.flying.iter_mut().find(|(_, count)| *count > 0) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp(1_763_640_000_000_000);

    #[test]
    fn a_backlog_goes_out_four_times_as_fast_as_usual() {
        let pace = Pace::default();
        let at = |ms: u32| START.plus(Duration::from_millis(u64::from(ms)));
        let take = |ms: u32| {
            let taken = pace.take(at(ms), || 360_000);
            if taken {
                pace.answered();
            }
            taken
        };
        let taken_in = |from: u32, seconds: u32| {
            let polls = (from * 1_000..(from + seconds) * 1_000).flat_map(|ms| [ms; 10]);
            polls.filter(|ms| take(*ms)).count()
        };
        // 360,000 agents are 100 a second over the hour.
        assert!((400..=802).contains(&taken_in(0, 1)), "what one second keeps, and one second's");
        let taken = taken_in(1, 10);
        assert!((3_300..=4_002).contains(&taken), "{taken}");
    }

    #[test]
    fn who_does_not_answer_holds_the_others_up_for_a_while() {
        let pace = Pace::default();
        let at = |second: u64| START.plus(Duration::from_secs(second));
        let taken = |second: u64| (0..500).filter(|_| pace.take(at(second), || 360_000)).count();
        assert_eq!(taken(0), FLYING_MAX as usize);
        assert_eq!(taken(5), 0, "nobody has answered");
        (0..10).for_each(|_| pace.answered());
        assert_eq!(taken(6), 10);
        assert_eq!(taken(31), FLYING_MAX as usize - 10, "the first ones are given up");
        (0..1_000).for_each(|_| pace.answered());
        assert_eq!(taken(32), FLYING_MAX as usize, "more answers than questions change nothing");
    }

    #[test]
    fn few_agents_wait_for_nothing() {
        let pace = Pace::default();
        assert!((0..20).all(|_| pace.take(START, || 5)));
        assert!(!pace.take(START, || 5));
        assert!(!pace.take(START.plus(Duration::from_millis(40)), || panic!("no need to count")));
        assert!(pace.take(START.plus(Duration::from_millis(51)), || 5));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let pace = Pace::default();
        while pace.take(START, || 5) {}
        let before = START.minus(Duration::from_secs(3_600));
        assert!(!pace.take(before, || 5));
        assert!(pace.take(before.plus(Duration::from_millis(51)), || 5));
    }
}
