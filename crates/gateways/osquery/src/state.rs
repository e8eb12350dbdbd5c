//! What the osquery gateway works with.

use std::sync::Arc;
use std::time::Duration;

use muster_catalog::Catalog;
use muster_endpoints::node_key::NodeKeys;
use muster_endpoints::{Agent, AgentReport, Directory, EnrolQueue, Presence};
use muster_gateway::{Admissions, AgentRef, Delivery, Ingest, Metrics};
use muster_hunts::Hunts;
use muster_types::{AgentNo, Clock};
use muster_uploads::Uploads;
use tokio::sync::{Mutex, MutexGuard};

use crate::deps::{Configs, Details};
use crate::packed::Packed;
use crate::rarely::Rarely;
use crate::readers::Readers;
use crate::{Options, capabilities};

/// What the osquery gateway is built from.
pub struct Parts {
    /// Bounds and choices.
    pub options: Options,
    /// The store of agents.
    pub catalog: Catalog,
    /// Agents in memory.
    pub directory: Directory,
    /// Who is online.
    pub presence: Presence,
    /// Node keys.
    pub keys: NodeKeys,
    /// Hunts in memory.
    pub hunts: Hunts,
    /// The way down.
    pub delivery: Arc<Delivery>,
    /// The way up.
    pub ingest: Ingest,
    /// How much of it now.
    pub admissions: Arc<Admissions>,
    /// Configurations.
    pub configs: Arc<dyn Configs>,
    /// What every endpoint is asked.
    pub details: Arc<dyn Details>,
    /// Files that agents upload.
    pub uploads: Uploads,
    /// How many may enrol.
    pub enrolments: Arc<muster_gateway::Enrolments>,
    /// What they go through then, the same for all gateways of a process.
    pub enrolling: EnrolQueue,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The gateway's state, shared by its requests.
pub struct Osquery {
    pub(crate) options: Options,
    pub(crate) catalog: Catalog,
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) keys: NodeKeys,
    pub(crate) hunts: Hunts,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) ingest: Ingest,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) configs: Arc<dyn Configs>,
    pub(crate) details: Arc<dyn Details>,
    pub(crate) uploads: Uploads,
    pub(crate) enrolments: Arc<muster_gateway::Enrolments>,
    pub(crate) enrolling: EnrolQueue,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) packed: Packed,
    /// Places of those that read a body off the runtime's threads.
    pub(crate) readers: Readers,
    /// Refused enrolments that are told.
    pub(crate) refusals: Rarely,
    turns: Box<[Mutex<()>]>,
}

/// Agents that share a turn; a few of 100,000 wait for another one's append of some milliseconds.
const TURNS: usize = 4096;
/// News of an agent is for people: it does not hold up an answer for longer.
const NOTE_TIME: Duration = Duration::from_secs(2);

impl Osquery {
    /// The state of one process.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Self {
            options: parts.options,
            enrolling: parts.enrolling,
            catalog: parts.catalog,
            directory: parts.directory,
            presence: parts.presence,
            keys: parts.keys,
            hunts: parts.hunts,
            delivery: parts.delivery,
            ingest: parts.ingest,
            admissions: parts.admissions,
            configs: parts.configs,
            details: parts.details,
            uploads: parts.uploads,
            enrolments: parts.enrolments,
            clock: parts.clock,
            metrics: parts.metrics,
            packed: Packed::default(),
            readers: Readers::new(cores),
            refusals: Rarely::default(),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
        })
    }

    /// An agent's turn to append. An agent that lost a connection sends its request again while the
    /// first may still be on its way: the second must not overtake it, or the fold could not tell that
    /// one begins like the other.
    pub(crate) async fn turn(&self, agent: AgentNo) -> MutexGuard<'_, ()> {
        self.turns[agent.0 as usize % TURNS].lock().await
    }

    /// Ends what is asked of an agent that never comes for it, with what to do about it.
    pub(crate) async fn end_unasked(&self, agent: AgentRef, known: Option<&Agent>) {
        if known.is_some_and(capabilities::is_distributed_off) && self.hunts.has_work(agent.no) {
            self.delivery.take(agent, self.options.tasks_per_poll).await;
        }
    }

    /// Notes what is new about an agent. A catalog that cannot take it now holds nothing up.
    pub(crate) async fn note(&self, known: &Agent, report: &AgentReport) {
        let noted = muster_endpoints::report_agent(&self.catalog, known, report);
        match tokio::time::timeout(NOTE_TIME, noted).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, agent = %known.no, "news of an agent not noted");
            }
            Err(_) => tracing::debug!(agent = %known.no, "news of an agent not noted in time"),
        }
    }
}

/// What is known of an agent, as it would say it.
pub(crate) fn report_of(agent: &Agent) -> AgentReport {
    let facts = &agent.facts;
    AgentReport {
        hostname: agent.hostname.to_string(),
        platform: facts.platform.to_string(),
        os_name: facts.os_name.to_string(),
        os_version: facts.os_version.to_string(),
        arch: facts.arch.to_string(),
        version: facts.version.to_string(),
        capabilities: facts.capabilities.to_string(),
        address: agent.last_address.to_string(),
    }
}
