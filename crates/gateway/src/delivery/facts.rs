//! Facts about tasks on their way to the stream, in batches.

use std::time::Duration;

use muster_types::TaskFact;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{AgentRef, Ingest};

/// Facts gather this long: a wave makes few and large appends. Nobody waits for them: an agent's answer counts
/// before them as well.
const GATHER: Duration = Duration::from_millis(50);
/// Facts of one append.
const APPEND_MAX: usize = 4096;
/// Facts that wait while the stream takes none. Beyond it they are lost: the agent's answer, or the
/// task's deadline, still ends the task.
const WAITING_MAX: usize = 1 << 20;

/// What waits to be appended.
#[derive(Default)]
pub(super) struct Outbox {
    facts: Mutex<Vec<(AgentRef, TaskFact)>>,
    filled: Notify,
}

impl Outbox {
    /// Queues facts; how many.
    pub(super) fn extend(&self, more: impl IntoIterator<Item = (AgentRef, TaskFact)>) -> usize {
        let mut facts = self.facts.lock();
        let (before, was_empty) = (facts.len(), facts.is_empty());
        facts.extend(more);
        facts.truncate(WAITING_MAX);
        let added = facts.len().saturating_sub(before);
        drop(facts);
        if was_empty {
            self.filled.notify_one();
        }
        added
    }

    /// Appends what gathers until `shutdown`, and then once more.
    pub(super) async fn run(&self, ingest: &Ingest, shutdown: &CancellationToken) {
        loop {
            let filled = async {
                self.filled.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            let done = shutdown.run_until_cancelled(filled).await.is_none();
            let all_appended = self.flush(ingest).await;
            if done {
                return;
            }
            if !all_appended {
                let pause = tokio::time::sleep(Duration::from_secs(1));
                shutdown.run_until_cancelled(pause).await;
                self.filled.notify_one();
            }
        }
    }

    /// Whether everything was appended.
    async fn flush(&self, ingest: &Ingest) -> bool {
        loop {
            let batch: Vec<_> = {
                let mut facts = self.facts.lock();
                let count = facts.len().min(APPEND_MAX);
                if count == facts.len() {
                    std::mem::take(&mut *facts)
                } else {
                    facts.drain(..count).collect()
                }
            };
            if batch.is_empty() {
                return true;
            }
            if let Err(error) = ingest.append_facts(batch.clone()).await {
                tracing::debug!(%error, count = batch.len(), "facts wait for the stream");
                let mut facts = self.facts.lock();
                facts.splice(0..0, batch);
                facts.truncate(WAITING_MAX);
                return false;
            }
        }
    }
}
