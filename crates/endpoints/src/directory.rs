//! The directory: the newest snapshot, kept in step with the catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use muster_bus::{Bus, Topic};
use muster_catalog::{Catalog, Error};
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Snapshot;

mod rows;
mod sql;

pub(crate) use sql::STATEMENTS;

const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Two looks because of hints are at least this far apart.
const HINTED_APART: Duration = Duration::from_millis(50);

/// Endpoints, agents and labels in memory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    bus: Arc<dyn Bus>,
    snapshot: ArcSwap<Snapshot>,
    version: watch::Sender<i64>,
    /// One refresh at a time; when the last one that succeeded began.
    refreshing: Mutex<Option<Instant>>,
    made: Instant,
    /// When the newest state that is held was asked for, in milliseconds after `made`.
    asked_at_ms: AtomicU64,
}

impl Directory {
    /// Loads the directory.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn open(catalog: Catalog, bus: Arc<dyn Bus>) -> Result<Self, Error> {
        let inner = Inner {
            catalog,
            bus,
            snapshot: ArcSwap::default(),
            version: watch::Sender::new(0),
            refreshing: Mutex::new(None),
            made: Instant::now(),
            asked_at_ms: AtomicU64::new(0),
        };
        let directory = Self { inner: Arc::new(inner) };
        let started = Instant::now();
        directory.refresh().await?;
        let agents = directory.snapshot().agent_count();
        tracing::debug!(agents, elapsed_ms = started.elapsed().as_millis(), "directory loaded");
        Ok(directory)
    }

    /// The newest state. Reading it waits for nobody.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// The same for a short look, without counting a reference.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.inner.snapshot.load()
    }

    /// Changes with the snapshot; its value is [`Snapshot::version`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.inner.version.subscribe()
    }

    /// Takes in everything that is committed by now: for callers that must see their own writes.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, Error> {
        let came = Instant::now();
        let mut begun = self.inner.refreshing.lock().await;
        // Of many that come while one looks, the next one looks for all.
        if begun.is_some_and(|begun| begun >= came) {
            return Ok(self.inner.snapshot.load_full());
        }
        let began = Instant::now();
        let known = self.inner.snapshot.load_full();
        let asked_at = self.inner.made.elapsed().as_millis();
        if let Some(changed) = rows::changed(&self.inner.catalog, &known).await? {
            let version = changed.version();
            self.inner.snapshot.store(Arc::new(changed));
            self.inner.version.send_replace(version);
        }
        let asked_at = u64::try_from(asked_at).unwrap_or(u64::MAX);
        self.inner.asked_at_ms.store(asked_at, Ordering::Release);
        *begun = Some(began);
        Ok(self.inner.snapshot.load_full())
    }

    /// Whether everything that was committed before this time ago is known.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        let asked_at = Duration::from_millis(self.inner.asked_at_ms.load(Ordering::Acquire));
        self.inner.made.elapsed() <= asked_at + within
    }

    /// Takes in what this caller has just committed, and tells the other instances to do the same.
    ///
    /// # Errors
    /// When the catalog fails; the hint is out then.
    pub async fn announce(&self) -> Result<Arc<Snapshot>, Error> {
        self.inner.bus.publish(Topic::Directory, bytes::Bytes::new());
        self.refresh().await
    }

    /// Follows the catalog, on hints and every second, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut hints = self.inner.bus.subscribe(&[Topic::Directory]);
        let mut ticks = interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                hint = hints.next() => {
                    if hint.is_none() {
                        return;
                    }
                    // The first of many at once, the others together.
                    due.get_or_insert_with(|| earliest.max(Instant::now()));
                    continue;
                }
                () = sleep_until(due.unwrap_or(earliest).into()), if due.is_some() => {}
                _ = ticks.tick() => {}
            }
            due = None;
            earliest = Instant::now() + HINTED_APART;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the directory could not be refreshed; it will be tried again");
            }
        }
    }

    /// The catalog behind it.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }
}

impl Snapshot {
    /// Everything as it is committed by now, for programs that look once.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn read(catalog: &Catalog) -> Result<Self, Error> {
        let none = Self::default();
        Ok(rows::changed(catalog, &none).await?.unwrap_or(none))
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("version", &self.snapshot().version()).finish()
    }
}
