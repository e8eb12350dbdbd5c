//! Slows down guessing: a bucket per name and one per address, in constant memory.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use muster_types::Timestamp;
use parking_lot::Mutex;

use crate::problem::{Code, Problem, Result};

const SLOTS: usize = 8_192;
/// Who reads the clock may wait for so long before it counts by it. What was counted further ahead than that was
/// counted by a clock that was set forward, and is forgotten: else everybody would wait until it is that late.
pub(crate) const OVERTAKEN: Duration = Duration::from_secs(60);

/// How often one may fail.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Failures in a row.
    pub burst: u32,
    /// One more is allowed each.
    pub every: Duration,
}

impl Allowance {
    /// Twenty times of it.
    pub(crate) fn generous(self) -> Self {
        Self { burst: self.burst.saturating_mul(20), every: self.every / 20 }
    }
}

/// Counts failures. Names and addresses share a table of fixed size under a keyed hash; two that
/// fall together merely share an allowance.
pub struct Throttle {
    hasher: RandomState,
    allowance: Allowance,
    /// Virtual time up to which each slot's allowance is used (GCRA).
    used_until: Mutex<Vec<i64>>,
}

impl Throttle {
    /// A table in which each key has this allowance.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self {
            hasher: RandomState::new(),
            allowance,
            used_until: Mutex::new(vec![i64::MIN; SLOTS]),
        }
    }

    /// Takes one attempt.
    ///
    /// # Errors
    /// 429 with the time to wait when the allowance is used up.
    pub fn take(&self, key: &(impl Hash + ?Sized), now: Timestamp) -> Result<()> {
        let (every, burst) = (self.every(), i64::from(self.allowance.burst));
        let slot = self.slot(key);
        let mut slots = self.used_until.lock();
        let was_set = slots[slot].saturating_sub(now.0) > every * burst + micros(OVERTAKEN);
        let used = if was_set { now.0 } else { slots[slot].max(now.0) };
        let next = used.saturating_add(every);
        let over = next - now.0 - every * burst;
        if over > 0 {
            return Err(too_many(over));
        }
        slots[slot] = next;
        Ok(())
    }

    /// Gives an attempt back, because it was a good one.
    pub fn give_back(&self, key: &(impl Hash + ?Sized)) {
        let slot = self.slot(key);
        let mut slots = self.used_until.lock();
        slots[slot] = slots[slot].saturating_sub(self.every());
    }

    fn every(&self) -> i64 {
        micros(self.allowance.every)
    }

    fn slot(&self, key: &(impl Hash + ?Sized)) -> usize {
        (self.hasher.hash_one(key) % SLOTS as u64) as usize
    }
}

pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 1_000)
}

/// The refusal of an attempt that would be one too many for so many more microseconds.
pub(crate) fn too_many(over_us: i64) -> Problem {
    let seconds = u32::try_from(over_us.max(1).div_ceil_micros()).unwrap_or(u32::MAX);
    let detail = format!("too many attempts to sign in; wait {seconds} s");
    Problem::new(Code::TooMany, detail).retry_after(seconds)
}

trait Micros {
    fn div_ceil_micros(self) -> i64;
}

impl Micros for i64 {
    fn div_ceil_micros(self) -> i64 {
        (self + 999_999) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_at_a_time() {
        let throttle = Throttle::new(Allowance { burst: 3, every: Duration::from_secs(10) });
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        for _ in 0..3 {
            throttle.take("ana", at(100)).unwrap();
        }
        assert!(throttle.take("ana", at(100)).is_err());
        assert!(throttle.take("ana", at(109)).is_err());
        throttle.take("ana", at(110)).unwrap();
        assert!(throttle.take("ana", at(110)).is_err());
        throttle.give_back("ana");
        throttle.take("ana", at(110)).unwrap();
    }
}
