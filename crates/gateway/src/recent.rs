//! What was handed over a short time ago, in bounded memory.

use std::collections::HashSet;
use std::time::Duration;

use muster_types::{AgentNo, TaskId, Timestamp};
use parking_lot::Mutex;

/// Entries of one generation; a full one is retired early.
const GENERATION_MAX: usize = 500_000;

/// Remembers pairs of agent and task for at least `time` and at most twice that, as two generations of
/// a set. It gives an agent that polls the time to answer; what it forgets early is handed over twice,
/// which the fold removes.
#[derive(Debug)]
pub(crate) struct Recent {
    time: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Timestamp,
    current: HashSet<(AgentNo, TaskId)>,
    previous: HashSet<(AgentNo, TaskId)>,
}

impl Recent {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, state: Mutex::default() }
    }

    pub(crate) fn insert(&self, agent: AgentNo, task: TaskId, now: Timestamp) {
        let mut state = self.state.lock();
        state.turn(self.time, now);
        state.current.insert((agent, task));
    }

    pub(crate) fn remove(&self, agent: AgentNo, task: TaskId) {
        let mut state = self.state.lock();
        state.current.remove(&(agent, task));
        state.previous.remove(&(agent, task));
    }

    pub(crate) fn contains(&self, agent: AgentNo, task: TaskId, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.turn(self.time, now);
        state.current.contains(&(agent, task)) || state.previous.contains(&(agent, task))
    }
}

impl State {
    fn turn(&mut self, time: Duration, now: Timestamp) {
        // A clock that was set back: what is remembered must not stay until it has caught up.
        self.since = self.since.min(now);
        let age = now.since(self.since);
        if age >= time || self.current.len() >= GENERATION_MAX {
            self.previous = std::mem::take(&mut self.current);
            if age >= time * 2 {
                self.previous = HashSet::new();
            }
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_types::HuntNo;

    use super::*;

    #[test]
    fn entries_are_known_for_one_to_two_times() {
        let recent = Recent::new(Duration::from_secs(60));
        let (agent, task) = (AgentNo(1), TaskId { hunt: HuntNo(1), attempt: 1 });
        let at = |seconds| Timestamp(1_000_000_000_000).plus(Duration::from_secs(seconds));
        assert!(!recent.contains(agent, task, at(0)));
        recent.insert(agent, task, at(59));
        assert!(recent.contains(agent, task, at(118)));
        assert!(!recent.contains(agent, task, at(240)));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nothing_for_longer() {
        let recent = Recent::new(Duration::from_secs(60));
        let (agent, task) = (AgentNo(1), TaskId { hunt: HuntNo(1), attempt: 1 });
        let at = |seconds| Timestamp(1_000_000_000_000).plus(Duration::from_secs(seconds));
        recent.insert(agent, task, at(86_400));
        assert!(recent.contains(agent, task, at(0)), "a day back");
        assert!(recent.contains(agent, task, at(59)));
        assert!(!recent.contains(agent, task, at(120)));
    }
}
