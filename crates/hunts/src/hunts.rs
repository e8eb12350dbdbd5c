//! The index of hunts: what the frontends, the fold, the dispatcher and the API ask.

use std::sync::Arc;
use std::time::Duration;

use muster_bus::{Bus, Hint, Topic};
use muster_catalog::{Catalog, Error};
use muster_endpoints::{Directory, Presence};
use muster_types::{Access, AgentNo, AgentSet, Clock, HuntNo, OrgId, Outcome, Timestamp};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::follow::{Following, Heard};
use crate::index::Index;
use crate::scopes::Scopes;
use crate::standing::{Coverage, EndpointOutcome, Standing};
use crate::{Deadline, HuntDef, HuntError, HuntState, NewHunt, News};

const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// A hint that has overtaken another one waits this long for it; then the feeds are read.
const OVERTAKEN: Duration = Duration::from_millis(20);
/// Events a slow listener may be behind before it has to reconcile.
const EVENTS_MAX: usize = 1_024;

/// Something a frontend acts on. Who lags reconciles with [`Hunts::live`] and [`Hunts::work_for`].
#[derive(Clone, Debug)]
pub enum HuntEvent {
    /// These agents have work now: a new wave, or a hunt that goes on.
    Work {
        /// The hunt.
        hunt: Arc<HuntDef>,
        /// Who.
        agents: Arc<AgentSet>,
    },
    /// A hunt was stopped: what was handed out is to be cancelled ([`Hunts::to_cancel`]).
    Stopped {
        /// The hunt.
        hunt: Arc<HuntDef>,
    },
}

/// Live hunts in memory, with reading through for others. Cheap to clone.
#[derive(Clone)]
pub struct Hunts {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index: Index,
    pub(crate) scopes: Scopes,
    /// How far the feeds are read; one reader at a time.
    pub(crate) following: Mutex<Following>,
    pub(crate) events: broadcast::Sender<HuntEvent>,
    pub(crate) changes: watch::Sender<u64>,
}

impl Hunts {
    /// Loads the live hunts.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn open(
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        directory: Directory,
        presence: Presence,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let inner = Inner {
            catalog,
            bus,
            directory,
            presence,
            clock,
            index: Index::default(),
            scopes: Scopes::default(),
            following: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            changes: watch::Sender::new(0),
        };
        let hunts = Self { inner: Arc::new(inner) };
        hunts.load().await?;
        Ok(hunts)
    }

    /// Follows the feeds, on hints and every second, until `shutdown`.
    ///
    /// A hint that carries the next change of its feed is applied without a look at the catalog. One
    /// that is ahead waits a moment for those before it. In every other case the feeds are read.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut hints = self.inner.bus.subscribe(&[Topic::Hunts, Topic::Progress]);
        let mut ticks = interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                hint = hints.next() => match hint {
                    None => return,
                    Some(Hint::Message(_, content)) => match self.hear(&content).await {
                        Heard::InStep => {
                            behind_at = None;
                            continue;
                        }
                        Heard::Early => {
                            behind_at.get_or_insert_with(|| Instant::now() + OVERTAKEN);
                            continue;
                        }
                        Heard::Behind => {}
                    },
                    Some(Hint::Gap) => {}
                },
                () = until(behind_at) => {}
                _ = ticks.tick() => {}
            }
            behind_at = None;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "hunts could not be refreshed; it will be tried again");
            }
        }
    }

    /// Makes a hunt in a transaction of its own and announces it.
    ///
    /// # Errors
    /// As [`crate::create`].
    pub async fn create(&self, new: &NewHunt) -> Result<HuntNo, HuntError> {
        let first = self.first_wave(new);
        let mut tx = self.inner.catalog.begin(muster_catalog::Priority::Api).await?;
        let created = crate::create(&mut tx, new, &first).await?;
        tx.commit().await?;
        self.tell(&created.news).await?;
        Ok(created.no)
    }

    /// Takes in what this caller has just committed and tells the other instances, which need not read
    /// it from the catalog then.
    ///
    /// # Errors
    /// When the catalog fails; the hint is out then.
    pub async fn tell(&self, news: &News) -> Result<(), Error> {
        self.inner.bus.publish(Topic::Hunts, news.encode());
        match self.take(news.clone()).await {
            Heard::InStep => Ok(()),
            Heard::Early | Heard::Behind => self.refresh().await,
        }
    }

    /// Takes in what this caller has just committed, and tells the other instances to do the same; for
    /// changes without [`News`].
    ///
    /// # Errors
    /// When the catalog fails; the hint is out then.
    pub async fn announce(&self) -> Result<(), Error> {
        self.inner.bus.publish(Topic::Hunts, bytes::Bytes::new());
        self.refresh().await
    }

    /// A hunt that is in memory: every live one is.
    #[must_use]
    pub fn peek(&self, no: HuntNo) -> Option<Arc<HuntDef>> {
        self.inner.index.get(no).filter(|entry| !entry.deleted).map(|entry| Arc::clone(&entry.def))
    }

    /// A hunt that is not deleted; read from the catalog when it is not in memory.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn get(&self, no: HuntNo) -> Result<Option<Arc<HuntDef>>, Error> {
        let entry = self.entry(no).await?;
        Ok(entry.filter(|entry| !entry.deleted).map(|entry| Arc::clone(&entry.def)))
    }

    /// Hunts that have not ended, by number.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<HuntDef>> {
        self.inner.index.live().into_iter().map(|entry| Arc::clone(&entry.def)).collect()
    }

    /// Whether an agent may have work: one bit, no lock.
    #[must_use]
    pub fn has_work(&self, agent: AgentNo) -> bool {
        self.inner.index.has_work(agent)
    }

    /// Hunts whose task this agent has to do: recruited, not ended, and the hunt is running. Those it
    /// was handed already are among them; see [`Hunts::is_delivered`].
    #[must_use]
    pub fn work_for(&self, agent: AgentNo) -> Vec<Arc<HuntDef>> {
        let work = self.inner.index.work_for(agent);
        work.into_iter().map(|entry| Arc::clone(&entry.def)).collect()
    }

    /// Those of these agents whose task has not ended, by what is in memory; nobody once the hunt has.
    #[must_use]
    pub fn unended(&self, no: HuntNo, agents: &AgentSet) -> AgentSet {
        let entry = self.inner.index.get(no);
        let live = entry.filter(|entry| !entry.deleted && !entry.def.state.is_ended());
        let open = |entry: Arc<Entry>| {
            agents.iter().filter(move |agent| !entry.is_terminal(*agent)).collect()
        };
        live.map(open).unwrap_or_default()
    }

    /// Whether the fold has seen the task handed to the agent.
    #[must_use]
    pub fn is_delivered(&self, no: HuntNo, agent: AgentNo) -> bool {
        self.inner.index.get(no).is_some_and(|entry| entry.is_delivered(agent))
    }

    /// Agents of a stopped hunt that were handed its task and have not ended.
    #[must_use]
    pub fn to_cancel(&self, no: HuntNo) -> AgentSet {
        let entry = self.inner.index.get(no);
        let entry = entry.filter(|entry| entry.def.state == HuntState::Stopped);
        AgentSet(entry.map(|entry| entry.agents(Outcome::Running)).unwrap_or_default())
    }

    /// Stopped hunts whose task this agent may still be busy with.
    #[must_use]
    pub fn cancels_for(&self, agent: AgentNo) -> Vec<Arc<HuntDef>> {
        let ended = self.inner.index.ended().into_iter();
        let busy = |entry: &Arc<Entry>| {
            entry.def.state == HuntState::Stopped
                && entry.is_delivered(agent)
                && !entry.is_terminal(agent)
        };
        ended.filter(busy).map(|entry| Arc::clone(&entry.def)).collect()
    }

    /// When tasks of a hunt that were handed out end without an answer; for hunts in memory.
    #[must_use]
    pub fn deadline(&self, no: HuntNo) -> Option<Deadline> {
        self.inner.index.get(no).map(|entry| entry.def.deadline())
    }

    /// Recruited agents of a hunt in memory whose task was handed out and has not ended.
    #[must_use]
    pub fn outstanding(&self, no: HuntNo) -> AgentSet {
        let entry = self.inner.index.get(no);
        AgentSet(entry.map(|entry| entry.agents(Outcome::Running)).unwrap_or_default())
    }

    /// Hunts in memory whose time is up by `now`, with the agents that were handed the task and
    /// have not ended.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Vec<(Arc<HuntDef>, AgentSet)> {
        let entries = self.inner.index.live().into_iter().chain(self.inner.index.ended());
        let late = entries.filter(|entry| !entry.deleted && entry.def.deadline().at <= now);
        late.map(|entry| (Arc::clone(&entry.def), AgentSet(entry.agents(Outcome::Running))))
            .filter(|(_, agents)| !agents.is_empty())
            .collect()
    }

    /// Whether an agent is online, here or elsewhere.
    #[must_use]
    pub fn is_online(&self, agent: AgentNo) -> bool {
        self.inner.presence.is_online(agent)
    }

    /// Whether the waves in memory hold this agent; `None` when the hunt is not in memory.
    #[must_use]
    pub fn knows_recruited(&self, no: HuntNo, agent: AgentNo) -> Option<bool> {
        self.inner.index.get(no).map(|entry| entry.is_recruited(agent))
    }

    /// Those among these agents that the waves in memory hold; nobody when the hunt is not in memory.
    #[must_use]
    pub fn recruited_among(&self, no: HuntNo, agents: &AgentSet) -> AgentSet {
        let entry = self.inner.index.get(no);
        AgentSet(entry.map(|entry| &agents.0 & &*entry.recruited).unwrap_or_default())
    }

    /// Whether the dispatcher recruited this agent. On a miss the catalog is asked, so the answer never
    /// lags behind an agent that has its task from another instance.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn is_recruited(&self, no: HuntNo, agent: AgentNo) -> Result<bool, Error> {
        if self.knows_recruited(no, agent) == Some(true) {
            return Ok(true);
        }
        self.refresh().await?;
        Ok(self.entry(no).await?.is_some_and(|entry| entry.is_recruited(agent)))
    }

    /// What became of one agent, by what is in memory. `None` when it is not recruited or the hunt is
    /// not in memory.
    #[must_use]
    pub fn outcome_of(&self, no: HuntNo, agent: AgentNo) -> Option<Outcome> {
        let entry = self.inner.index.get(no).filter(|entry| entry.is_recruited(agent))?;
        let outcome = entry.progress(agent.shard()).map(|progress| progress.outcome(agent));
        Some(outcome.unwrap_or(Outcome::Waiting))
    }

    /// How many endpoints have which outcome, as far as the asker sees them. `None` when there is no
    /// such hunt in the asker's organisation.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn coverage(&self, no: HuntNo, access: &Access) -> Result<Option<Coverage>, Error> {
        let Some((entry, standing)) = self.standing(no, access).await? else { return Ok(None) };
        Ok(Some(standing.coverage_of(&entry, access)))
    }

    /// Every endpoint in a hunt's scope with its outcome, rising, as far as the asker sees them.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn outcomes(
        &self,
        no: HuntNo,
        access: &Access,
    ) -> Result<Option<Vec<EndpointOutcome>>, Error> {
        let standing = self.standing(no, access).await?;
        let snapshot = self.inner.directory.snapshot();
        Ok(standing.map(|(_, standing)| standing.endpoints(&snapshot)))
    }

    /// Events for frontends, from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<HuntEvent> {
        self.inner.events.subscribe()
    }

    /// Changes whenever anything about a hunt does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    async fn standing(
        &self,
        no: HuntNo,
        access: &Access,
    ) -> Result<Option<(Arc<Entry>, Standing)>, Error> {
        let Some(entry) = self.entry(no).await?.filter(|e| is_visible(e, access.org)) else {
            return Ok(None);
        };
        let snapshot = self.inner.directory.snapshot();
        let scope = self.inner.scopes.endpoints(&entry.def, &snapshot, &self.inner.presence);
        let standing = Standing::of(&entry, &snapshot, &scope, self.inner.clock.now());
        let standing = standing.seen_by(&snapshot, access);
        Ok(Some((entry, standing)))
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn is_visible(entry: &Entry, org: OrgId) -> bool {
    entry.def.org == org && !entry.deleted
}
