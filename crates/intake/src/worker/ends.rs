//! Tasks that end because the server says so.

use std::collections::HashMap;
use std::time::Duration;

use muster_types::{
    AgentNo, Body, Class, HuntNo, Outcome, Pos, Record, TaskFact, TaskId, Timestamp,
};

use super::{Core, Error};

/// An agent ends a task itself when its time is up, and says so; we wait this much longer.
const GRACE: Duration = Duration::from_secs(15);
/// Overdue tasks must stay so for this long: an agent that has just returned gets its task again.
const SETTLED: Duration = Duration::from_secs(5);
const SILENT_MAX: usize = 100_000;

/// Overdue tasks of agents that are online and say nothing. Lost with the process, which costs them a little time.
#[derive(Debug, Default)]
pub struct Silent {
    /// Since when the task is open, and since when it is known to be overdue.
    known: HashMap<(AgentNo, TaskId), (Timestamp, Timestamp)>,
    /// Before this nothing more is overdue, but for tasks of shards that were gained since: those wait for it.
    next: Timestamp,
}

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
        self.silent(now, limit, &mut records);
        Ok(records)
    }

    /// Tasks that an agent has had for longer than it may, without a word. Its own limit ends a task
    /// long before; this is for an agent that hangs, or lies.
    fn silent(&mut self, now: Timestamp, limit: usize, records: &mut Vec<Record>) {
        if self.silent.known.is_empty() && now < self.silent.next {
            return;
        }
        let mut known = std::mem::take(&mut self.silent.known);
        // What is opened from now on has at least this long.
        let mut next = now.plus(GRACE);
        // Most open tasks have time left, and many are of the same hunt: those cost a comparison.
        let mut timeouts: HashMap<HuntNo, Option<Duration>> = HashMap::new();
        let mut last = (HuntNo(0), None);
        for state in self.states.values() {
            for open in state.open_tasks() {
                let hunt = open.task.hunt;
                if last.0 != hunt {
                    let of = || self.deps.hunts.task_timeout(hunt);
                    last = (hunt, *timeouts.entry(hunt).or_insert_with(of));
                }
                let (_, least) = last;
                if let Some(time) = least
                    && now.since(open.since) <= time + GRACE
                {
                    next = next.min(open.since.plus(time + GRACE));
                    continue;
                }
                let time = self.deps.hunts.task_time(hunt, open.agent);
                let Some(time) = time.filter(|time| now.since(open.since) > *time + GRACE) else {
                    continue;
                };
                let key = (open.agent, open.task);
                let (since, first) = known.remove(&key).unwrap_or((open.since, now));
                let settled = since == open.since && now.since(first) >= SETTLED;
                if !settled || records.len() >= limit {
                    if self.silent.known.len() < SILENT_MAX {
                        let first = if since == open.since { first } else { now };
                        self.silent.known.insert(key, (open.since, first));
                    }
                    continue;
                }
                let Some((org, kind)) = self.deps.hunts.agent(open.agent) else { continue };
                let (task, outcome) = (open.task, Outcome::TimedOut);
                let reason =
                    format!("no answer within {} s of being asked", (time + GRACE).as_secs());
                records.push(Record {
                    org,
                    agent: open.agent,
                    kind,
                    class: Class::LifeCycle,
                    received_at: now,
                    body: Body::Fact(TaskFact::Ended { task, outcome, reason }),
                });
            }
        }
        self.silent.next = next;
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
