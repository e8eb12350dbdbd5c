//! The life of a task: open, superseded, lost, ended. The first terminal fact wins.

use muster_types::{Outcome, Spent, TaskEnd, TaskFact, TaskId};

use super::agent::{EndedTask, OpenTask};
use super::apply::{Step, clip};
use super::{EndSeen, LiveRows, RowAt, SystemRow};

/// How a task stands when something of it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Open, at this index, and this is its attempt.
    Open(usize),
    /// Ended, or another attempt took its place, or the attempt is lost.
    Late,
    /// Ended because it went over a cap.
    Cut,
    /// It was never asked for.
    Refused(&'static str),
}

/// Who ended a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Its agent, which says what it cost.
    Agent(Spent),
    /// The server.
    Server,
    /// The fold, at a cap: what follows is dropped.
    Cap,
}

impl Step<'_> {
    /// How a task stands that the agent speaks of; opens it if this is the first sign of it.
    pub fn standing(&mut self, task: TaskId) -> Standing {
        self.stand(task, false)
    }

    fn stand(&mut self, task: TaskId, by_server: bool) -> Standing {
        if let Some(index) = self.agent.open.iter().position(|open| open.hunt == task.hunt) {
            let open = &mut self.agent.open[index];
            return match task.attempt.cmp(&open.attempt) {
                std::cmp::Ordering::Less => Standing::Late,
                std::cmp::Ordering::Equal if open.lost => Standing::Late,
                std::cmp::Ordering::Equal => Standing::Open(index),
                std::cmp::Ordering::Greater if by_server => {
                    let started = OpenTask { attempt: task.attempt, ..fresh(task, open.since) };
                    *open = started;
                    Standing::Open(index)
                }
                std::cmp::Ordering::Greater => Standing::Refused(NEVER_HANDED_OUT),
            };
        }
        let agent = self.agent_no();
        match self.lookup.hunt(task.hunt) {
            None => return Standing::Refused("there is no such hunt"),
            Some(hunt) if hunt.org != self.record.org => {
                return Standing::Refused("there is no such hunt");
            }
            Some(_) => {}
        }
        let ended = self.hunts.get(&task.hunt).is_some_and(|progress| progress.is_terminal(agent));
        if ended {
            let cut = self.agent.ended.iter().any(|ended| ended.hunt == task.hunt && ended.cut);
            return if cut { Standing::Cut } else { Standing::Late };
        }
        if !self.lookup.is_recruited(task.hunt, agent) {
            return Standing::Refused("this agent was not asked");
        }
        // Redelivery under the same identifier keeps attempt 1. A new attempt is announced in the stream before
        // its bytes leave, so an agent cannot know it earlier than we do.
        if task.attempt != 1 && !by_server {
            return Standing::Refused(NEVER_HANDED_OUT);
        }
        let since = self.now();
        self.agent.open.push(fresh(task, since));
        self.progress(task.hunt, |progress, agent| _ = progress.deliver(agent));
        Standing::Open(self.agent.open.len() - 1)
    }

    /// Whether the agent's own answer to this task was taken, or has gone under.
    pub fn is_answered(&self, task: TaskId) -> bool {
        let agent = self.record.agent;
        let ended = self.hunts.get(&task.hunt).is_some_and(|progress| progress.is_terminal(agent));
        let last = self.agent.ended.iter().rev().find(|ended| ended.hunt == task.hunt);
        ended && last.is_none_or(|ended| ended.answered)
    }

    pub fn started(&mut self, task: TaskId) {
        if let Standing::Refused(why) = self.standing(task) {
            self.refuse(&RowAt { task: Some(task), ..self.at() }, "task", why);
        }
    }

    /// The agent says that a task ended.
    pub fn end(&mut self, end: &TaskEnd) {
        match self.standing(end.task) {
            Standing::Refused(why) => {
                self.refuse(&RowAt { task: Some(end.task), ..self.at() }, "task", why);
            }
            Standing::Late | Standing::Cut => {
                let known = self.agent.ended.iter_mut().rev().find(|e| e.hunt == end.task.hunt);
                if let Some(known) = known {
                    known.answered = true;
                }
            }
            Standing::Open(index) => {
                let open = self.agent.open[index];
                let counted = if open.rows > 0 { Outcome::Rows } else { Outcome::Empty };
                let (outcome, message) = match end.outcome {
                    None | Some(Outcome::Rows | Outcome::Empty) if open.unreadable => {
                        (Outcome::Failed, "rows could not be read; see errors")
                    }
                    None | Some(Outcome::Rows | Outcome::Empty) => (counted, &*end.message),
                    Some(
                        outcome @ (Outcome::Failed
                        | Outcome::TimedOut
                        | Outcome::Unsupported
                        | Outcome::Cancelled),
                    ) => (outcome, &*end.message),
                    Some(_) => {
                        (Outcome::Failed, "the agent reported an end that only the server decides")
                    }
                };
                let by = By::Agent(end.spent);
                self.finish(index, outcome, message, by);
            }
        }
    }

    /// Something the server knows of a task.
    pub fn server_fact(&mut self, fact: &TaskFact) {
        let task = fact.task();
        match fact {
            TaskFact::Delivering(_) | TaskFact::Delivered(_) | TaskFact::Acked(_) => {
                match self.stand(task, true) {
                    Standing::Open(index) => {
                        // Handed over again: its time begins again.
                        self.agent.open[index].since = self.record.received_at;
                        self.progress(task.hunt, |progress, agent| _ = progress.deliver(agent));
                    }
                    Standing::Refused(why) => {
                        self.refuse(&RowAt { task: Some(task), ..self.at() }, "task", why);
                    }
                    Standing::Late | Standing::Cut => {}
                }
            }
            TaskFact::Lost(_) => {
                if let Standing::Open(index) = self.stand(task, true) {
                    self.agent.open[index].lost = true;
                    self.progress(task.hunt, |progress, agent| _ = progress.undeliver(agent));
                }
            }
            TaskFact::Ended { outcome, reason, .. } => {
                let open = self.agent.open.iter().position(|open| open.hunt == task.hunt);
                let newer = open.is_some_and(|index| self.agent.open[index].attempt > task.attempt);
                if newer || !outcome.is_terminal() {
                    return;
                }
                match open {
                    Some(index) => self.finish(index, *outcome, reason, By::Server),
                    None => self.end_unseen(task, *outcome, reason),
                }
            }
        }
    }

    /// The server ends a task of which nothing was seen.
    fn end_unseen(&mut self, task: TaskId, outcome: Outcome, reason: &str) {
        let known = self.lookup.hunt(task.hunt).is_some_and(|hunt| hunt.org == self.record.org);
        if !known || !self.lookup.is_recruited(task.hunt, self.agent_no()) {
            return;
        }
        self.close(task, None, outcome, reason, By::Server);
    }

    /// Ends the open task at `index`.
    pub fn finish(&mut self, index: usize, outcome: Outcome, message: &str, by: By) {
        let open = self.agent.open.swap_remove(index);
        let task = TaskId { hunt: open.hunt, attempt: open.attempt };
        if matches!(by, By::Agent(_)) {
            // It was busy with this one: the time of those in its queue begins now.
            let now = self.now();
            for waiting in &mut self.agent.open {
                waiting.since = now;
            }
        }
        self.close(task, Some(open), outcome, message, by);
    }

    fn close(
        &mut self,
        task: TaskId,
        open: Option<OpenTask>,
        outcome: Outcome,
        message: &str,
        by: By,
    ) {
        let message = clip(message);
        let mut first = false;
        self.progress(task.hunt, |progress, agent| first = progress.end(agent, outcome));
        if !first {
            return;
        }
        let answered = !matches!(by, By::Server);
        self.agent.remember_end(EndedTask {
            hunt: task.hunt,
            answered,
            cut: matches!(by, By::Cap),
        });
        self.counters.ended += 1;
        let at = RowAt { task: Some(task), ..self.at() };
        let row = SystemRow::Collection {
            outcome,
            rows: open.map_or(0, |open| open.rows),
            bytes: open.map_or(0, |open| open.bytes),
            started: open.map(|open| open.since),
            spent: match by {
                By::Agent(spent) => Some(spent),
                By::Server | By::Cap => None,
            },
            message,
        };
        self.sink.system(&at, &row);
        let Some(hunt) = self.lookup.hunt(task.hunt) else { return };
        self.effects.urgent |= hunt.interactive;
        if hunt.watched {
            self.effects.live.push(LiveRows {
                hunt: task.hunt,
                agent: self.agent_no(),
                pos: self.entry.pos,
                rows: 0,
                json: bytes::Bytes::new(),
                format: muster_types::RowFormat::Lines,
                end: Some(EndSeen { outcome, message: message.to_owned() }),
            });
        }
    }
}

const NEVER_HANDED_OUT: &str = "this attempt was never handed out";

fn fresh(task: TaskId, since: muster_types::Timestamp) -> OpenTask {
    OpenTask {
        hunt: task.hunt,
        attempt: task.attempt,
        since,
        lost: false,
        unreadable: false,
        rows: 0,
        bytes: 0,
    }
}
