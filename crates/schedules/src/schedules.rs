//! [`Schedules`]: in memory, in step with the catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_bus::{Bus, Topic};
use muster_catalog::{Catalog, Error};
use muster_endpoints::{Agent, Directory, Label, Snapshot};
use muster_results::TableSpec;
use muster_types::{AgentKind, OrgId};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Key};
use crate::render::{For, Rendered, render};
use crate::state::{Org, State, Table};
use crate::{Platforms, rows::Cursor};

const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// A query that is in every document, whatever people schedule; its rows go where who defines it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The name agents report it under.
    pub name: String,
    /// What they run.
    pub sql: String,
    /// Seconds between runs. It is sent as a snapshot.
    pub interval_s: u32,
    /// On which systems.
    pub platforms: Platforms,
}

/// Schedules and configuration of all organisations. Cheap to clone.
#[derive(Clone)]
pub struct Schedules {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    bus: Arc<dyn Bus>,
    directory: Directory,
    built_in: Vec<BuiltIn>,
    current: ArcSwap<Current>,
    /// One refresh at a time; who waits for it finds its own writes in it.
    refreshing: tokio::sync::Mutex<()>,
    rendered: AtomicU64,
}

/// One state with the documents made of it; a new state begins with none.
#[derive(Default)]
struct Current {
    state: State,
    cache: Mutex<Cache>,
    labels: ArcSwap<Labels>,
}

/// The labels that matter, found by name in one snapshot of the directory.
#[derive(Default)]
struct Labels {
    /// `None` before the first look.
    version: Option<i64>,
    orgs: HashMap<OrgId, Vec<Option<Arc<Label>>>>,
}

impl Schedules {
    /// Loads all schedules. `built_in` are in every document.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn load(
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        directory: Directory,
        built_in: Vec<BuiltIn>,
    ) -> Result<Self, Error> {
        let inner = Inner {
            catalog,
            bus,
            directory,
            built_in,
            current: ArcSwap::default(),
            refreshing: tokio::sync::Mutex::new(()),
            rendered: AtomicU64::new(0),
        };
        let schedules = Self { inner: Arc::new(inner) };
        schedules.refresh().await?;
        Ok(schedules)
    }

    /// The document of an agent, by its organisation, its platform and the labels of its endpoint.
    /// Rendered once per distinct combination; memory only, and cheap enough for each request.
    #[must_use]
    pub fn config_for(&self, agent: &Agent) -> Arc<Rendered> {
        let current = self.inner.current.load();
        let labels = current.labels(&self.inner.directory.snapshot());
        let labels = labels.orgs.get(&agent.org).map(Vec::as_slice).unwrap_or_default();
        let key = Key {
            org: agent.org,
            platform: Platforms::bit(&agent.facts.platform).unwrap_or_default(),
            labels: bits(labels, agent.endpoint.0),
        };
        if let Some(rendered) = current.cache.lock().get(&key) {
            return rendered;
        }
        // Two threads may render the same; the bytes are equal.
        let has = |label: usize| {
            key.labels.get(label / 64).is_some_and(|word| word & (1 << (label % 64)) != 0)
        };
        let to = For { platform: &agent.facts.platform, has: &has };
        let nothing = Org::default();
        let org = current.state.orgs.get(&agent.org).unwrap_or(&nothing);
        let rendered = Arc::new(render(org, &self.inner.built_in, &to));
        self.inner.rendered.fetch_add(1, Ordering::Relaxed);
        if rendered.is_too_long() {
            let (agent, bytes) = (agent.no, rendered.bytes.len());
            tracing::warn!(%agent, bytes, "a configuration is longer than agents take (1 MiB)");
        }
        current.cache.lock().put(key, &rendered);
        rendered
    }

    /// A file of YARA rules, by name.
    #[must_use]
    pub fn yara_rules(&self, org: OrgId, name: &str) -> Option<Bytes> {
        self.inner.current.load().state.orgs.get(&org)?.yara.get(name).cloned()
    }

    /// The table that rows of an agent's own schedule go to, by the name the agent gives them. Names of
    /// schedules deleted in the last 30 days are known too.
    #[must_use]
    pub fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Arc<TableSpec>> {
        self.table(org, kind, source).map(|table| table.spec)
    }

    /// Whether rows of this name are things that happened, so that no present state follows from them: the
    /// schedule tells additions only, or reads osquery's event tables.
    #[must_use]
    pub fn is_events(&self, org: OrgId, kind: AgentKind, source: &str) -> bool {
        self.table(org, kind, source).is_some_and(|table| table.events)
    }

    fn table(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Table> {
        if kind != AgentKind::Osquery {
            return None;
        }
        self.inner.current.load().state.orgs.get(&org)?.tables.get(source).cloned()
    }

    /// How many documents were rendered since the start.
    #[must_use]
    pub fn rendered_count(&self) -> u64 {
        self.inner.rendered.load(Ordering::Relaxed)
    }

    /// Takes in everything that is committed by now: for callers that must see their own writes.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _one = self.inner.refreshing.lock().await;
        let known: Cursor = self.inner.current.load().state.cursor;
        if let Some(state) = State::changed(&self.inner.catalog, known).await? {
            self.inner.current.store(Arc::new(Current { state, ..Current::default() }));
        }
        Ok(())
    }

    /// Takes in what this caller has just committed, and tells the other instances to do the same.
    ///
    /// # Errors
    /// When the catalog fails; the hint is out then.
    pub async fn announce(&self) -> Result<(), Error> {
        self.inner.bus.publish(Topic::Schedules, bytes::Bytes::new());
        self.refresh().await
    }

    /// Follows the catalog, on hints and every five seconds, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut hints = self.inner.bus.subscribe(&[Topic::Schedules]);
        let mut ticks = interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                hint = hints.next() => if hint.is_none() { return },
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "schedules could not be refreshed; it will be tried again");
            }
        }
    }
}

impl Current {
    /// The labels by position; looked up by name once per version of the directory.
    fn labels(&self, snapshot: &Snapshot) -> Arc<Labels> {
        let known = self.labels.load_full();
        if known.version == Some(snapshot.version()) {
            return known;
        }
        let find = |(no, org): (&OrgId, &Org)| {
            let by_name: HashMap<&str, &Arc<Label>> =
                snapshot.labels(*no).map(|label| (&*label.name, label)).collect();
            let found = org.labels.iter().map(|name| by_name.get(name.as_str()).copied().cloned());
            (*no, found.collect())
        };
        let orgs = self.state.orgs.iter().filter(|(_, org)| !org.labels.is_empty()).map(find);
        let labels = Arc::new(Labels { version: Some(snapshot.version()), orgs: orgs.collect() });
        self.labels.store(Arc::clone(&labels));
        labels
    }
}

/// Which labels an endpoint has, a bit each.
fn bits(labels: &[Option<Arc<Label>>], endpoint: u32) -> Box<[u64]> {
    let mut bits = vec![0; labels.len().div_ceil(64)];
    for (at, label) in labels.iter().enumerate() {
        if label.as_ref().is_some_and(|label| label.members.contains(endpoint)) {
            bits[at / 64] |= 1 << (at % 64);
        }
    }
    bits.into_boxed_slice()
}

impl std::fmt::Debug for Schedules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schedules")
    }
}
