//! A token bucket per agent, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use muster_types::{AgentNo, SHARDS, Timestamp};
use parking_lot::Mutex;

/// Agents tracked per shard; beyond it nobody new is tracked, which errs on the side of taking.
const TRACKED_MAX: usize = 16_384;

/// How much one agent may send.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Sustained.
    pub bytes_per_second: u64,
    /// At once, after a rest.
    pub burst_bytes: u64,
    /// What a message costs at least, however small.
    pub message_cost_bytes: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { bytes_per_second: 8 << 20, burst_bytes: 64 << 20, message_cost_bytes: 4 << 10 }
    }
}

/// The buckets. Only agents that owe something are kept: one whose bucket is full again is forgotten.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    shards: [Mutex<HashMap<AgentNo, Debt>>; SHARDS as usize],
}

/// A bucket that is not full, in microseconds of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Debt {
    /// When it is full again,
    full_at: i64,
    /// as was said at this time.
    said_at: i64,
}

/// Threads overtake each other by less than this; a clock that is further back was set.
const OVERTAKEN_MICROS: i64 = 1_000_000;

impl Debt {
    /// When it is full again. A clock that was set back since changes nothing about how long that is.
    fn full_at(&mut self, now: Timestamp) -> i64 {
        let back = self.said_at.saturating_sub(now.0);
        if back > OVERTAKEN_MICROS {
            self.full_at = self.full_at.saturating_sub(back);
            self.said_at = now.0;
        }
        self.full_at
    }
}

impl Buckets {
    /// Buckets of this size, all full.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Takes a message of so many bytes from an agent's bucket.
    ///
    /// # Errors
    /// How long until it would fit; nothing was taken.
    pub fn take(&self, agent: AgentNo, bytes: usize, now: Timestamp) -> Result<(), Duration> {
        let cost = self.micros((bytes as u64).max(self.rate.message_cost_bytes));
        let burst = self.micros(self.rate.burst_bytes).max(cost);
        let mut debts = self.shards[agent.shard().index()].lock();
        let known = debts.get_mut(&agent).map(|debt| debt.full_at(now));
        let next = known.unwrap_or(now.0).max(now.0).saturating_add(cost);
        let over = next.saturating_sub(now.0).saturating_sub(burst);
        if over > 0 {
            return Err(Duration::from_micros(over.unsigned_abs()));
        }
        if known.is_none() && debts.len() >= TRACKED_MAX {
            debts.retain(|_, debt| debt.full_at(now) > now.0);
            if debts.len() >= TRACKED_MAX {
                return Ok(());
            }
        }
        debts.insert(agent, Debt { full_at: next, said_at: now.0 });
        Ok(())
    }

    /// Forgets those who owe nothing. Called now and then.
    pub fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut debts = shard.lock();
            debts.retain(|_, debt| debt.full_at(now) > now.0);
            if debts.capacity() > 4 * debts.len() + 64 {
                debts.shrink_to_fit();
            }
        }
    }

    /// How many agents owe something, as far as is known.
    #[cfg(test)]
    pub(crate) fn tracked(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// The time it takes to earn so many bytes, in microseconds.
    fn micros(&self, bytes: u64) -> i64 {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate.bytes_per_second.max(1));
        i64::try_from(micros).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1000, burst_bytes: 3000, message_cost_bytes: 100 };

    #[test]
    fn a_burst_then_the_rate_then_rest_and_each_agent_for_itself() {
        let buckets = Buckets::new(RATE);
        let (agent, start) = (AgentNo(7), Timestamp(1_000_000_000));
        for _ in 0..3 {
            buckets.take(agent, 1000, start).unwrap();
        }
        assert_eq!(buckets.take(agent, 1000, start), Err(Duration::from_secs(1)));
        buckets.take(AgentNo(8), 1000, start).unwrap();
        buckets.take(agent, 1000, start.plus(Duration::from_secs(1))).unwrap();
        let tiny = buckets.take(agent, 1, start.plus(Duration::from_secs(1)));
        assert_eq!(tiny, Err(Duration::from_millis(100)), "small messages cost something too");
        let rested = start.plus(Duration::from_secs(60));
        buckets.take(agent, 9000, rested).expect("more than a burst passes a full bucket");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up_and_forgives_nothing() {
        let buckets = Buckets::new(RATE);
        let (agent, ahead) = (AgentNo(7), Timestamp(10_000_000_000));
        for agent in [agent, AgentNo(71)] {
            buckets.take(agent, 3000, ahead).unwrap();
        }
        let back = ahead.minus(Duration::from_secs(30 * 60));
        assert_eq!(buckets.take(agent, 1000, back), Err(Duration::from_secs(1)));
        let later = back.plus(Duration::from_secs(1));
        buckets.take(agent, 1000, later).unwrap();
        let overtaken = later.minus(Duration::from_millis(1));
        let wait = Err(Duration::from_millis(1001));
        assert_eq!(buckets.take(agent, 1000, overtaken), wait, "one thread before another");
        assert_eq!(buckets.take(agent, 1000, later), Err(Duration::from_secs(1)));
        // Also those that are not seen again.
        buckets.sweep(back);
        buckets.sweep(back.plus(Duration::from_secs(10)));
        assert_eq!(buckets.tracked(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let buckets = Buckets::new(RATE);
        let now = Timestamp(5);
        let agents = (0..).map(|n| AgentNo(n * u32::from(SHARDS)));
        for agent in agents.take(TRACKED_MAX + 100) {
            buckets.take(agent, 1000, now).unwrap();
        }
        assert_eq!(buckets.shards[0].lock().len(), TRACKED_MAX);
        buckets.sweep(now.plus(Duration::from_secs(2)));
        assert!(buckets.shards[0].lock().is_empty());
    }
}
