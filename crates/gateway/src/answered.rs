//! What agents have answered and the fold has not told of yet.

use std::collections::HashMap;

use muster_types::{AgentNo, AgentSet, TaskId};
use parking_lot::Mutex;

/// Agents that have ended a task, by task. The fold may be behind for as long as a store is away, and
/// whoever polls meanwhile must not be asked again: for agents that repeat a task it would be done, and
/// its rows sent, once more each time. A bit for each, so it needs no bound but that of live hunts.
#[derive(Debug, Default)]
pub(crate) struct Answered(Mutex<HashMap<TaskId, AgentSet>>);

impl Answered {
    pub(crate) fn insert(&self, agent: AgentNo, task: TaskId) {
        self.0.lock().entry(task).or_default().insert(agent);
    }

    pub(crate) fn contains(&self, agent: AgentNo, task: TaskId) -> bool {
        self.0.lock().get(&task).is_some_and(|agents| agents.contains(agent))
    }

    /// Keeps of each task only those agents that `open` returns: whose end is not known otherwise.
    pub(crate) fn keep(&self, open: impl Fn(TaskId, &AgentSet) -> AgentSet) {
        let all: Vec<_> = self.0.lock().iter().map(|(task, set)| (*task, set.clone())).collect();
        for (task, agents) in all {
            let known = agents.0.clone() - open(task, &agents).0;
            let mut tasks = self.0.lock();
            // Who answered meanwhile stays.
            if let Some(agents) = tasks.get_mut(&task) {
                agents.0 -= known;
                if agents.is_empty() {
                    tasks.remove(&task);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_types::HuntNo;

    use super::*;

    #[test]
    fn answers_are_kept_until_their_end_is_known_and_no_longer() {
        let answered = Answered::default();
        let [first, second] = [1, 2].map(|no| TaskId { hunt: HuntNo(no), attempt: 1 });
        for agent in 1..=1_000 {
            answered.insert(AgentNo(agent), first);
            answered.insert(AgentNo(agent), second);
        }
        assert!(answered.contains(AgentNo(7), first));
        assert!(!answered.contains(AgentNo(7), TaskId { attempt: 2, ..first }));
        // The first hunt has ended; of the second the fold has told of all but one.
        answered.keep(|task, agents| {
            // Somebody answers while it is looked.
            answered.insert(AgentNo(2_000), second);
            let open = agents.iter().filter(|agent| task == second && *agent == AgentNo(7));
            open.collect()
        });
        assert!(!answered.contains(AgentNo(7), first));
        assert!(answered.contains(AgentNo(7), second) && !answered.contains(AgentNo(8), second));
        assert!(answered.contains(AgentNo(2_000), second));
        answered.keep(|_, _| AgentSet::default());
        assert!(answered.0.lock().is_empty());
    }
}
