//! Rows: of tasks, of schedules, and answers that come whole.

use std::collections::HashSet;

use muster_types::{Delta, Fact, HuntNo, Outcome, Rows, TaskId};

use super::apply::Step;
use super::tasks::{By, Standing};
use super::{Counted, LiveRows, RowAt, Target};

impl Step<'_> {
    pub fn rows(&mut self, rows: &Rows) {
        match rows.task {
            Some(task) => self.task_rows(task, rows),
            None => self.scheduled_rows(rows),
        }
    }

    /// Items of a message that is an answer as a whole: what it says of a task that has been answered
    /// already is a repeat, and rows without the end of their task cannot be told from one.
    pub fn whole(&mut self, items: Vec<Fact>) {
        let ends: HashSet<TaskId> = items
            .iter()
            .filter_map(|item| match item {
                Fact::End(end) => Some(end.task),
                _ => None,
            })
            .collect();
        let answered: HashSet<TaskId> =
            ends.iter().copied().filter(|task| self.is_answered(*task)).collect();
        self.counters.repeats += u64::from(!answered.is_empty());
        let mut sources: HashSet<String> = HashSet::new();
        for item in items {
            match item {
                Fact::Rows(rows) => match rows.task {
                    Some(task) if answered.contains(&task) => {}
                    Some(task) if !ends.contains(&task) => {
                        let at = RowAt { task: Some(task), ..self.at() };
                        self.refuse(&at, "rows", "rows came without the end of their task");
                    }
                    None if rows.delta != Delta::SNAPSHOT => {
                        let message =
                            "rows that are no whole state came in a message without identity";
                        self.refuse(&self.at(), &rows.source, message);
                    }
                    None if sources.contains(&rows.source) => {
                        // The first would look like a change when the message comes again.
                        let message = "two snapshots of one source in a message without identity";
                        self.refuse(&self.at(), &rows.source, message);
                    }
                    task => {
                        self.rows(&rows);
                        if task.is_none() {
                            sources.insert(rows.source);
                        }
                    }
                },
                Fact::End(end) => self.end(&end),
                Fact::Started(task) => self.started(task),
                Fact::Log { level, message } => self.log(&level, &message),
                Fact::Block(block) => self.block(&block),
                Fact::Dropped { source, message } => self.dropped(&source, &message),
            }
        }
    }

    fn task_rows(&mut self, task: TaskId, rows: &Rows) {
        let late = match self.standing(task) {
            Standing::Refused(why) => {
                let at = RowAt { task: Some(task), ..self.at() };
                return self.refuse(&at, "rows", why);
            }
            Standing::Cut => return self.counters.refused += 1,
            Standing::Open(_) => false,
            Standing::Late => true,
        };
        let endpoint_time = rows.endpoint_time;
        let at = RowAt { task: Some(task), late, endpoint_time, ..self.at() };
        let target = Target::Hunt(task.hunt, &rows.columns);
        match self.sink.rows(target, &at, rows.format, &rows.json) {
            Ok(counted) => self.took(task, late, counted, rows),
            Err(why) => {
                self.refuse(&at, "rows", &why);
                if let Standing::Open(index) = self.standing(task) {
                    self.agent.open[index].unreadable = true;
                }
            }
        }
    }

    /// Rows of a task are in the segment.
    fn took(&mut self, task: TaskId, late: bool, counted: Counted, rows: &Rows) {
        self.counters.rows += counted.rows;
        self.progress(task.hunt, |progress, _| {
            progress.row_count += counted.rows;
            progress.byte_count += counted.bytes;
        });
        let Some(hunt) = self.lookup.hunt(task.hunt) else { return };
        self.effects.urgent |= hunt.interactive;
        if hunt.watched && counted.rows > 0 {
            self.effects.live.push(LiveRows {
                hunt: task.hunt,
                agent: self.agent_no(),
                pos: self.entry.pos,
                rows: counted.rows,
                json: rows.json.clone(),
                format: rows.format,
                end: None,
            });
        }
        let Standing::Open(index) = self.standing(task) else { return };
        debug_assert!(!late, "rows of an open task are not late");
        let open = &mut self.agent.open[index];
        open.rows += counted.rows;
        open.bytes += counted.bytes;
        let over = if open.rows > hunt.rows_per_endpoint {
            format!("more than {} rows; the rest is dropped", hunt.rows_per_endpoint)
        } else if open.bytes > hunt.bytes_per_endpoint {
            format!("more than {} bytes of rows; the rest is dropped", hunt.bytes_per_endpoint)
        } else {
            return;
        };
        self.finish(index, Outcome::Failed, &over, By::Cap);
    }

    pub fn progress(
        &mut self,
        hunt: HuntNo,
        change: impl FnOnce(&mut super::ShardProgress, muster_types::AgentNo),
    ) {
        let agent = self.record.agent;
        change(self.hunts.entry(hunt).or_default(), agent);
        self.changed_hunts.insert(hunt);
        self.effects.progressed = true;
    }
}
