//! Tasks that end because the server says so.

use muster_types::{Body, Class, Pos, Record, TaskFact, TaskId};

use super::{Core, Error};

impl Core {
    /// Facts that end tasks whose time is up, to be appended to the stream: they get their place in the
    /// order there, and the fold takes them from there like anybody's.
    ///
    /// # Errors
    /// When progress cannot be read.
    pub async fn due(&mut self, limit: usize) -> Result<Vec<Record>, Error> {
        let now = self.deps.clock.now();
        let mut records = Vec::new();
        for due in self.deps.hunts.due(now) {
            if records.len() >= limit {
                break;
            }
            self.load_progress(due.hunt).await?;
            for agent in due.agents.iter() {
                let shard = agent.shard();
                let (Some(state), Some(holding)) = (self.states.get(&shard), self.held.get(&shard))
                else {
                    continue;
                };
                let folded = self.positions.get(&shard).copied().unwrap_or_default();
                if holding.ends.get(&due.hunt).is_some_and(|appended| *appended > folded) {
                    continue;
                }
                let progress = state.progress(due.hunt);
                let done = progress.is_some_and(|progress| progress.is_terminal(agent));
                if done || records.len() >= limit {
                    continue;
                }
                let Some((org, kind)) = self.deps.hunts.agent(agent) else { continue };
                let attempt = state.attempt(agent, due.hunt);
                let task = TaskId { hunt: due.hunt, attempt };
                let (outcome, reason) = (due.outcome, due.reason.clone());
                records.push(Record {
                    org,
                    agent,
                    kind,
                    class: Class::LifeCycle,
                    received_at: now,
                    body: Body::Fact(TaskFact::Ended { task, outcome, reason }),
                });
            }
        }
        Ok(records)
    }

    /// Remembers where records of [`Core::due`] were appended.
    pub fn appended(&mut self, records: &[Record], positions: &[Pos]) {
        for (record, pos) in records.iter().zip(positions) {
            let Body::Fact(fact) = &record.body else { continue };
            if let Some(holding) = self.held.get_mut(&record.shard()) {
                if holding.ends.len() > 1024 {
                    holding.ends.clear();
                }
                holding.ends.insert(fact.task().hunt, *pos);
            }
        }
    }
}
