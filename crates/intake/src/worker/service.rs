//! The worker as a service: leases, time, pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::{Hint, Topic};
use muster_cluster::Held;
use muster_stream::{ReadError, Reader};
use muster_types::{Epoch, Shard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::behind::Behind;
use super::core::Processed;
use super::{Committed, Core, Deps, Error, Options, Watched, WorkerStats, live};
use crate::fold::Counters;

/// Ends that are appended at once.
const ENDS_AT_ONCE: usize = 4096;
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Folds the shards whose leases this instance holds.
pub struct Worker {
    deps: Arc<Deps>,
    options: Options,
    leases: watch::Receiver<Held>,
    watched: Watched,
    stats: watch::Sender<WorkerStats>,
    /// What earlier sessions met.
    folded: Counters,
}

/// Why a session ended.
enum Ended {
    Shutdown,
    Leases,
}

impl Worker {
    /// A worker over the shards that `leases` of [`muster_cluster::Job::Shards`] name.
    #[must_use]
    pub fn new(deps: Deps, options: Options, leases: watch::Receiver<Held>) -> Self {
        Self {
            deps: Arc::new(deps),
            options,
            leases,
            watched: Watched::default(),
            stats: watch::Sender::default(),
            folded: Counters::default(),
        }
    }

    /// What it has done, for metrics; at most a second old while it works.
    #[must_use]
    pub fn stats(&self) -> watch::Receiver<WorkerStats> {
        self.stats.subscribe()
    }

    /// Works until `shutdown`, then commits what is folded.
    ///
    /// # Errors
    /// When a newer version wrote what is to be read: this process is of no use then, and must leave its
    /// shards to those that read it. Nothing was skipped. Anything else is tried again.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut backoff = Duration::from_millis(50);
        loop {
            let held = shards(&self.leases.borrow_and_update());
            self.stats.send_modify(|stats| {
                stats.shards = held.len() as u64;
                stats.standing_still = 0;
            });
            if held.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    changed = self.leases.changed() => if changed.is_err() { return Ok(()) },
                }
                continue;
            }
            let begun = Instant::now();
            let ended = self.session(held, &shutdown).await;
            self.folded = self.stats.borrow().folded;
            match ended {
                Ok(Ended::Shutdown) => return Ok(()),
                Ok(Ended::Leases) => continue,
                Err(error) if error.is_newer() => return Err(error),
                Err(error) => {
                    self.stats.send_modify(|stats| stats.failures += 1);
                    tracing::warn!(error = &error as &dyn std::error::Error, "worker starts again");
                }
            }
            if begun.elapsed() > Duration::from_secs(10) {
                backoff = Duration::from_millis(50);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
            }
        }
    }

    async fn session(
        &mut self,
        mut held: BTreeMap<Shard, Epoch>,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Error> {
        let mut core = Core::open(self.deps.clone(), self.options.clone(), &held).await?;
        let mut reader = self.reader(&mut core).await?;
        let mut settled = Instant::now() + self.options.flush_after;
        let mut hints = self.deps.bus.subscribe(&[Topic::Watch]);
        let mut commits: JoinSet<Result<Committed, Error>> = JoinSet::new();
        let mut flush_at: Option<Instant> = None;
        let mut behind = Behind::default();
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.check_lease()?;
            let room = core.pending_bytes() < self.options.pending_bytes_max;
            let full = core.pending_bytes() >= self.options.flush_bytes;
            let free = commits.is_empty();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.finish(core, commits).await?;
                    return Ok(Ended::Shutdown);
                }
                Some(done) = commits.join_next() => {
                    self.done(done)?;
                    behind.committed();
                    core.committed();
                }
                () = until(flush_at), if free && core.is_pending() && !full => {
                    flush_at = None;
                    behind.flushed();
                    self.flush(&mut core, &mut commits).await?;
                }
                () = std::future::ready(()), if free && full => {
                    flush_at = None;
                    behind.flushed();
                    self.flush(&mut core, &mut commits).await?;
                }
                changed = self.leases.changed() => {
                    let mut now = shards(&self.leases.borrow_and_update());
                    let ours = held.iter().all(|(shard, epoch)| now.get(shard) == Some(epoch));
                    if changed.is_err() || !ours {
                        // What is folded of shards that are lost is somebody else's now: dropped, and read again there.
                        if ours {
                            self.finish(core, commits).await?;
                        }
                        return Ok(Ended::Leases);
                    }
                    if now.len() > held.len() {
                        // Nobody folds what came: those that are held already do not keep it waiting.
                        now.retain(|shard, _| !held.contains_key(shard));
                        core.adopt(&now).await?;
                        held.append(&mut now);
                        reader = self.reader(&mut core).await?;
                        settled = Instant::now() + self.options.flush_after;
                        self.stats.send_modify(|stats| stats.shards = held.len() as u64);
                    }
                }
                Some(hint) = hints.next() => {
                    if let Hint::Message(_, content) = hint {
                        self.watched.hint(&content, Instant::now());
                    }
                }
                _ = sweep.tick() => {
                    self.count(&core);
                    let lag_ms = behind.lag_ms(self.deps.clock.now());
                    self.stats.send_modify(|stats| stats.lag_ms = lag_ms);
                    self.sweep(&mut core).await?;
                }
                entries = reader.next(self.options.read_bytes), if room => {
                    let Processed { live, urgent } = core.process(behind.read(entries?), &self.watched).await?;
                    live::publish(&*self.deps.bus, &live);
                    let at = self.flush_at(urgent, settled);
                    if core.is_pending() {
                        flush_at = Some(flush_at.map_or(at, |before| before.min(at)));
                    }
                }
            }
        }
    }

    /// When what was read now is to be committed; `settled` is when shards count as taken for long.
    fn flush_at(&self, urgent: bool, settled: Instant) -> Instant {
        let Options { flush_after, flush_urgent_after, flush_taken_after, .. } = self.options;
        let now = Instant::now();
        let mut after = if urgent { flush_urgent_after } else { flush_after };
        if now < settled {
            after = after.min(flush_taken_after);
        }
        now + after
    }

    /// A reader over all shards that can be read. One whose records are gone is given up, loudly, and the others go on.
    async fn reader(&self, core: &mut Core) -> Result<Box<dyn Reader>, Error> {
        loop {
            match self.deps.stream.reader(core.positions()).await {
                Ok(reader) => return Ok(reader),
                Err(ReadError::TrimmedBelow { shard, after, oldest }) => {
                    tracing::error!(
                        %shard, %after, %oldest,
                        "records that were not folded are gone from the stream; the shard stands still",
                    );
                    core.skip(shard);
                    self.stats.send_modify(|stats| stats.standing_still += 1);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&self, core: &Core) {
        let folded = self.folded.plus(core.counters());
        self.stats.send_modify(|stats| stats.folded = folded);
    }

    fn check_lease(&self) -> Result<(), Error> {
        if Instant::now() >= self.leases.borrow().valid_until {
            return Err(Error::Step("the lease ran out".to_owned()));
        }
        Ok(())
    }

    async fn flush(
        &self,
        core: &mut Core,
        commits: &mut JoinSet<Result<Committed, Error>>,
    ) -> Result<(), Error> {
        if let Some(cut) = core.cut().await? {
            let deps = self.deps.clone();
            let span = tracing::info_span!(target: "muster::span", "commit", rows = cut.rows());
            commits.spawn(async move { cut.commit(&deps).await }.instrument(span));
        }
        Ok(())
    }

    fn done(
        &self,
        done: Result<Result<Committed, Error>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
        let committed = done.map_err(|error| Error::Step(error.to_string()))??;
        tracing::debug!(
            rows = committed.rows,
            entries = committed.entries,
            bytes = committed.byte_count,
            shards = committed.upto.len(),
            "committed",
        );
        self.stats.send_modify(|stats| {
            stats.commits += 1;
            stats.committed_bytes += committed.byte_count;
        });
        if let Some(progress) = committed.progress {
            self.deps.bus.publish(Topic::Progress, progress);
        }
        Ok(())
    }

    /// Commits what is on its way and what is folded.
    async fn finish(
        &self,
        mut core: Core,
        mut commits: JoinSet<Result<Committed, Error>>,
    ) -> Result<(), Error> {
        while let Some(done) = commits.join_next().await {
            self.done(done)?;
        }
        self.check_lease()?;
        self.count(&core);
        self.flush(&mut core, &mut commits).await?;
        while let Some(done) = commits.join_next().await {
            self.done(done)?;
        }
        Ok(())
    }

    /// Ends tasks whose time is up. A full stream is tried again with the next tick.
    async fn sweep(&self, core: &mut Core) -> Result<(), Error> {
        let records = core.due(ENDS_AT_ONCE).await?;
        if records.is_empty() {
            return Ok(());
        }
        match self.deps.stream.append(records.clone()).await {
            Ok(positions) => core.appended(&records, &positions),
            Err(error) => tracing::warn!(%error, "failed to append the ends of tasks"),
        }
        Ok(())
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn shards(held: &Held) -> BTreeMap<Shard, Epoch> {
    held.epochs
        .iter()
        .filter_map(|(n, epoch)| Some((Shard::new(u8::try_from(*n).ok()?)?, *epoch)))
        .collect()
}
