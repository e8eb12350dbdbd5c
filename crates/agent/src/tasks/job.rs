//! One task: a query, its rows, its end.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use muster_codec_native::Task;
use muster_types::{Delta, Fact, Outcome, RowFormat, Rows, Spent, TaskEnd, TaskId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::buffer::{self, Buffer, Room};
use crate::query::{Chunk, Finished, Limits, Request, Runner};

use super::done::Done;
use super::spool::{self, Spool};

/// Messages are for people.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// What a task needs.
pub(super) struct Job {
    pub(super) runner: Runner,
    pub(super) buffer: Arc<Buffer>,
    pub(super) done: Arc<Done>,
    pub(super) limits: Limits,
    pub(super) dir: PathBuf,
    pub(super) started_at: Timestamp,
}

impl Job {
    /// Runs the query, then puts rows and end into the buffer, all at once.
    pub(super) async fn run(
        self,
        task: Task,
        cancel: CancellationToken,
    ) -> Result<(), buffer::Error> {
        let id = task.task;
        let request =
            Request { sql: task.query, params: task.params, limits: self.limits, parent_pid: None };
        let mut spool = Spool::new(&self.dir);
        let mut sink = |chunk: Chunk, rows: Bytes| spool.push(chunk, rows);
        let finished = self.runner.run(request, &cancel, &mut sink).await;
        let finished = finished.unwrap_or_else(|error| Finished {
            outcome: Some(Outcome::Failed),
            message: format!("cannot start the query's process: {error}"),
            row_count: 0,
            spent: Spent::default(),
        });
        tracing::debug!(task = %id, outcome = ?finished.outcome, rows = finished.row_count, "query ended");
        let write = move || self.write(id, &finished, spool);
        tokio::task::spawn_blocking(write)
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn write(self, id: TaskId, finished: &Finished, spool: Spool) -> Result<(), buffer::Error> {
        let outcome = finished.outcome;
        let end = |outcome, message: &str| {
            let message = clip(message).to_owned();
            Fact::End(TaskEnd { task: id, outcome, message, spent: finished.spent })
        };
        let whole: Result<(), Failed> = self.buffer.append_then(
            Room::Quota,
            |group| {
                let mut chunks = spool.into_chunks()?.peekable();
                if chunks.peek().is_none() {
                    group.push(vec![end(outcome, &finished.message)])?;
                }
                while let Some(chunk) = chunks.next() {
                    let (chunk, rows) = chunk?;
                    let mut items = vec![self.rows(id, chunk, rows)];
                    if chunks.peek().is_none() {
                        items.push(end(outcome, &finished.message));
                    }
                    group.push(items)?;
                }
                Ok(())
            },
            || self.done.add(id, outcome),
        );
        let reason = match whole {
            Ok(()) => return Ok(()),
            Err(Failed::Buffer(error @ buffer::Error::Io { .. })) => return Err(error),
            Err(error) => error.to_string(),
        };
        // Nothing of it was kept; that much can be said.
        let failed = Some(Outcome::Failed);
        let word: Result<(), buffer::Error> = self.buffer.append_then(
            Room::Reserve,
            |group| group.push(vec![end(failed, &reason)]),
            || self.done.add(id, failed),
        );
        match word {
            Err(buffer::Error::Full { .. } | buffer::Error::DiskFull { .. }) => {
                tracing::warn!(task = %id, "{reason}; not even the end could be kept");
                Ok(())
            }
            other => other,
        }
    }

    fn rows(&self, task: TaskId, chunk: Chunk, json: Bytes) -> Fact {
        Fact::Rows(Rows {
            task: Some(task),
            source: String::new(),
            columns: chunk.columns,
            format: RowFormat::Array,
            json,
            endpoint_time: Some(self.started_at),
            delta: Delta::None,
        })
    }
}

/// Why rows did not get into the buffer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Buffer(#[from] buffer::Error),
    #[error("cannot read the rows back: {0}")]
    Spool(#[from] spool::Error),
}

/// The ends among facts.
pub(crate) fn ends(facts: Vec<Fact>) -> impl Iterator<Item = TaskEnd> {
    facts.into_iter().filter_map(|fact| match fact {
        Fact::End(end) => Some(end),
        _ => None,
    })
}

fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or(text)
}
