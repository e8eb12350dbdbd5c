//! The service that works the sinks whose leases this instance holds.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_archive::Archive;
use muster_catalog::Catalog;
use muster_cluster::Held;
use muster_cluster::secrets::Key;
use muster_endpoints::Directory;
use muster_types::{Clock, Epoch};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::Origin;
use crate::gauges::Gauges;
use crate::pump::{Pump, partition};
use crate::{Error, Sink, head, marks, store};

/// How often sinks are measured for metrics.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// Where files go, and how often things are looked at and tried again.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of file sinks.
    pub file_folder: PathBuf,
    /// Between looks for new commits and for changed sinks.
    pub every: Duration,
    /// The first pause after a failure; it doubles,
    pub retry_first: Duration,
    /// up to this.
    pub retry_most: Duration,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn new(file_folder: PathBuf) -> Self {
        Self {
            file_folder,
            every: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(300),
        }
    }
}

/// What the service works with.
#[derive(Clone)]
pub struct Deps {
    /// Sinks and the manifest.
    pub catalog: Catalog,
    /// Rows.
    pub archive: Archive,
    /// Names and labels of endpoints.
    pub directory: Directory,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Opens secrets.
    pub key: Arc<Key>,
    /// What is held of [`muster_cluster::Job::Sinks`].
    pub leases: watch::Receiver<Held>,
}

/// Works sinks; to be run.
pub struct Service {
    deps: Deps,
    options: Arc<Options>,
    gauges: Arc<Gauges>,
}

/// A pump that runs.
struct Running {
    epoch: Epoch,
    stop: CancellationToken,
}

impl Service {
    /// A service for the partitions that `deps.leases` grants.
    #[must_use]
    pub fn new(deps: Deps, options: Options) -> Self {
        Self { deps, options: Arc::new(options), gauges: Arc::default() }
    }

    /// How the sinks fare that are worked here, some seconds old.
    #[must_use]
    pub fn gauges(&self) -> Arc<Gauges> {
        self.gauges.clone()
    }

    /// Works until `shutdown`. Whatever is cut short is sent again by the next holder, under the
    /// same ids. A sink that fails, hangs or panics holds no other.
    pub async fn run(self, shutdown: CancellationToken) {
        let (seen, commits) = watch::channel(0);
        let marks = marks::run(
            &self.deps.catalog,
            &*self.deps.clock,
            self.deps.leases.clone(),
            self.options.every * 5,
            shutdown.clone(),
        );
        let pumps = self.supervise(&seen, &commits, &shutdown);
        tokio::join!(marks, pumps);
    }

    async fn supervise(
        &self,
        seen: &watch::Sender<i64>,
        commits: &watch::Receiver<i64>,
        shutdown: &CancellationToken,
    ) {
        let mut leases = self.deps.leases.clone();
        let mut running: HashMap<i64, Running> = HashMap::new();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut cluster = None;
        let mut measured: Option<Instant> = None;
        loop {
            running.retain(|no, pump| {
                let held = leases.borrow_and_update().epoch(partition(*no)) == Some(pump.epoch);
                if !held {
                    pump.stop.cancel();
                }
                // One that ended by itself or panicked has cancelled its own.
                !pump.stop.is_cancelled()
            });
            match self.look(seen, &mut cluster).await {
                Ok(sinks) => {
                    self.adjust(&sinks, &cluster, commits, &mut running, &mut tasks);
                    if measured.is_none_or(|at| at.elapsed() > MEASURE_EVERY) {
                        measured = Some(Instant::now());
                        self.measure(&sinks).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "sinks could not be looked at"),
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(self.options.every) => {}
                Ok(()) = leases.changed() => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a sink's task panicked");
                    tokio::time::sleep(self.options.every).await;
                },
            }
        }
        for pump in running.values() {
            pump.stop.cancel();
        }
        while tasks.join_next().await.is_some() {}
    }

    /// The sinks to be worked. Also tells the pumps of new commits.
    async fn look(
        &self,
        seen: &watch::Sender<i64>,
        cluster: &mut Option<Arc<str>>,
    ) -> Result<Vec<Sink>, Error> {
        if self.deps.leases.borrow().epochs.is_empty() {
            return Ok(Vec::new());
        }
        if cluster.is_none() {
            *cluster = Some(store::cluster(&self.deps.catalog).await?);
        }
        let sinks = store::active(&self.deps.catalog).await?;
        if !sinks.is_empty() {
            let commit = head::last_commit(&self.deps.catalog).await?;
            seen.send_if_modified(|known| std::mem::replace(known, commit) != commit);
        }
        Ok(sinks)
    }

    async fn measure(&self, sinks: &[Sink]) {
        let held = self.deps.leases.borrow().clone();
        let ours = |no: i64| held.epoch(partition(no)).is_some();
        if let Err(error) = self.gauges.look(&self.deps.catalog, sinks, ours).await {
            tracing::debug!(%error, "sinks could not be measured");
        }
    }

    /// Stops pumps of sinks that are paused or gone, and starts those that are missing.
    fn adjust(
        &self,
        sinks: &[Sink],
        cluster: &Option<Arc<str>>,
        commits: &watch::Receiver<i64>,
        running: &mut HashMap<i64, Running>,
        tasks: &mut JoinSet<()>,
    ) {
        running.retain(|no, pump| {
            let wanted = sinks.iter().any(|sink| sink.no == *no);
            if !wanted {
                pump.stop.cancel();
            }
            wanted
        });
        let Some(cluster) = cluster else { return };
        let held = self.deps.leases.borrow().clone();
        for sink in sinks {
            let Some(epoch) = held.epoch(partition(sink.no)) else { continue };
            if running.contains_key(&sink.no) {
                continue;
            }
            let stop = CancellationToken::new();
            let pump = Pump {
                sink: sink.clone(),
                epoch,
                deps: self.deps.clone(),
                options: Arc::clone(&self.options),
                origin: Origin { cluster: Arc::clone(cluster), org: sink.org },
                commits: commits.clone(),
                gauges: Arc::clone(&self.gauges),
            };
            let stopped = stop.clone();
            tasks.spawn(async move {
                // Also when it panics or ends by itself: then it is started again.
                let _ended = stopped.clone().drop_guard();
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = pump.run() => {}
                }
            });
            running.insert(sink.no, Running { epoch, stop });
        }
    }
}
