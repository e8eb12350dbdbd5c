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
    /// Per agent the time at which its bucket is full again, in microseconds.
    shards: [Mutex<HashMap<AgentNo, i64>>; SHARDS as usize],
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
        let mut full_at = self.shards[agent.shard().index()].lock();
        let known = full_at.get(&agent).copied();
        let next = known.unwrap_or(now.0).max(now.0).saturating_add(cost);
        let over = next.saturating_sub(now.0).saturating_sub(burst);
        if over > 0 {
            return Err(Duration::from_micros(over.unsigned_abs()));
        }
        if known.is_none() && full_at.len() >= TRACKED_MAX {
            full_at.retain(|_, at| *at > now.0);
            if full_at.len() >= TRACKED_MAX {
                return Ok(());
            }
        }
        full_at.insert(agent, next);
        Ok(())
    }

    /// Forgets those who owe nothing. Called now and then.
    pub fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut full_at = shard.lock();
            full_at.retain(|_, at| *at > now.0);
            if full_at.capacity() > 4 * full_at.len() + 64 {
                full_at.shrink_to_fit();
            }
        }
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
