//! Tasks: at most a few at a time, each once.

mod done;
mod job;
mod spool;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use muster_codec_native::Task;
use muster_types::{Clock, Fact, Outcome, Spent, TaskEnd, TaskId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buffer::{self, Buffer, Room};
use crate::query::{Limits, Runner};

pub(crate) use done::Done;
pub(crate) use job::ends;

use job::Job;

/// Tasks that may wait for their turn.
const QUEUE_MAX: usize = 1024;

/// What the link asks for.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run it, unless it runs, waits or has ended.
    Run(Task),
    /// End it.
    Cancel(TaskId),
    /// Drop everything unsaid: the tasks belonged to another identity.
    Drop(oneshot::Sender<()>),
}

/// Runs tasks.
pub(crate) struct Tasks {
    pub(crate) runner: Runner,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) done: Arc<Done>,
    pub(crate) limits: Limits,
    pub(crate) concurrent: usize,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where rows gather.
    pub(crate) dir: PathBuf,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Task>,
    running: HashMap<TaskId, CancellationToken>,
    jobs: JoinSet<(TaskId, Result<(), buffer::Error>)>,
}

impl Tasks {
    /// Runs until `shutdown`; then the children are killed, and their tasks will be handed out again.
    ///
    /// # Errors
    /// When the buffer's disk fails: nothing can be promised to the server any more.
    pub(crate) async fn run(
        self,
        mut orders: mpsc::Receiver<Order>,
        shutdown: CancellationToken,
    ) -> Result<(), buffer::Error> {
        let mut work = Work::default();
        loop {
            while work.running.len() < self.concurrent.max(1) {
                let Some(task) = work.waiting.pop_front() else { break };
                self.start(task, &mut work);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = work.jobs.join_next(), if !work.jobs.is_empty() => {
                    // A job that panicked is a bug; its task must not stay "running" for ever.
                    let (task, result) = ended.unwrap_or_else(|error| {
                        std::panic::resume_unwind(error.into_panic())
                    });
                    work.running.remove(&task);
                    result?;
                }
                order = orders.recv() => match order {
                    Some(order) => self.obey(order, &mut work).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn obey(&self, order: Order, work: &mut Work) -> Result<(), buffer::Error> {
        match order {
            Order::Run(task) => {
                let id = task.task;
                let known = work.running.contains_key(&id)
                    || work.waiting.iter().any(|waiting| waiting.task == id);
                if known {
                    return Ok(());
                }
                if let Some(outcome) = self.done.outcome(id) {
                    return self.repeat_end(id, outcome).await;
                }
                if work.waiting.len() >= QUEUE_MAX {
                    let message = format!("{QUEUE_MAX} tasks wait on this endpoint already");
                    return self.end(id, Some(Outcome::Failed), message).await;
                }
                work.waiting.push_back(task);
                Ok(())
            }
            Order::Cancel(id) => {
                if let Some(token) = work.running.get(&id) {
                    token.cancel();
                    return Ok(());
                }
                work.waiting.retain(|task| task.task != id);
                if self.done.outcome(id).is_some() {
                    return Ok(());
                }
                self.end(id, Some(Outcome::Cancelled), "cancelled".to_owned()).await
            }
            Order::Drop(reply) => {
                work.waiting.clear();
                work.running.drain().for_each(|(_, cancel)| cancel.cancel());
                // Each writes its end, which goes with the rest; none may write after that.
                while work.jobs.join_next().await.is_some() {}
                let _ = reply.send(());
                Ok(())
            }
        }
    }

    fn start(&self, task: Task, work: &mut Work) {
        let cancel = CancellationToken::new();
        work.running.insert(task.task, cancel.clone());
        let job = Job {
            runner: self.runner.clone(),
            buffer: Arc::clone(&self.buffer),
            done: Arc::clone(&self.done),
            limits: self.limits.lowered_by(&task.limits),
            dir: self.dir.clone(),
            started_at: self.clock.now(),
        };
        work.jobs.spawn(async move { (task.task, job.run(task, cancel).await) });
    }

    /// The server asks again for what has ended. While the end waits in the buffer it will get there;
    /// when it was acknowledged the server has lost sight of it, and hears it once more.
    async fn repeat_end(&self, id: TaskId, outcome: Option<Outcome>) -> Result<(), buffer::Error> {
        let waiting: HashSet<TaskId> = ends(self.buffer.facts()?).map(|end| end.task).collect();
        if waiting.contains(&id) {
            return Ok(());
        }
        self.end(id, outcome, "ended earlier".to_owned()).await
    }

    async fn end(
        &self,
        task: TaskId,
        outcome: Option<Outcome>,
        message: String,
    ) -> Result<(), buffer::Error> {
        let end = TaskEnd { task, outcome, message, spent: Spent::default() };
        let (buffer, done) = (Arc::clone(&self.buffer), Arc::clone(&self.done));
        let write = move || {
            let result: Result<(), buffer::Error> = buffer.append_then(
                Room::Reserve,
                |group| group.push(vec![Fact::End(end)]),
                || done.add(task, outcome),
            );
            // When not even the reserve has room, the server will ask again.
            match result {
                Err(buffer::Error::Full { .. } | buffer::Error::DiskFull { .. }) => Ok(()),
                other => other,
            }
        };
        tokio::task::spawn_blocking(write)
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
