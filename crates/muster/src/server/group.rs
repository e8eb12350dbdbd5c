//! Tasks in groups, which are stopped in order.

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The groups; [`super::run`] has the order in which they are stopped.
pub struct Groups {
    /// Listeners and what serves them.
    pub front: Group,
    /// Recruiting, folding, compacting.
    pub work: Group,
    /// What the others stand on: directory, hunts, presence.
    pub ground: Group,
    /// Heartbeat and leases.
    pub cluster: Group,
    /// Health and metrics.
    pub health: Group,
    /// Cancelled when a part failed that the server cannot do without.
    pub failed: CancellationToken,
}

impl Groups {
    /// Empty ones; the front group ends with `front`.
    pub fn new(front: CancellationToken) -> Self {
        let failed = CancellationToken::new();
        let group = |token| Group { token, tasks: JoinSet::new(), failed: failed.clone() };
        Self {
            front: group(front),
            work: group(CancellationToken::new()),
            ground: group(CancellationToken::new()),
            cluster: group(CancellationToken::new()),
            health: group(CancellationToken::new()),
            failed: failed.clone(),
        }
    }
}

/// Tasks with one token.
pub struct Group {
    /// Ends them.
    pub token: CancellationToken,
    tasks: JoinSet<()>,
    failed: CancellationToken,
}

impl Group {
    /// Runs a part of the server. One that panics ends the process, which others then take over from:
    /// half a server that keeps its leases helps nobody.
    pub fn run(&mut self, on: &Handle, part: impl Future<Output = ()> + Send + 'static) {
        let guard = Panicking(self.failed.clone());
        let part = async move {
            let _guard = guard;
            part.await;
        };
        self.tasks.spawn_on(part, on);
    }

    /// Runs what ends with the group and may fail without harm.
    pub fn alongside(&mut self, on: &Handle, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(part, on);
    }

    /// Ends its tasks and waits for them.
    pub async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the server panicked");
            }
        }
    }
}

/// Cancels when it is dropped by a panic.
struct Panicking(CancellationToken);

impl Drop for Panicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}
