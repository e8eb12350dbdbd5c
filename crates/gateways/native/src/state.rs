//! What the native gateway works with.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use muster_catalog::Catalog;
use muster_endpoints::{Agent, Directory, EnrolQueue, Presence};
use muster_gateway::listener::Proxies;
use muster_gateway::{Admissions, Delivery, Enrolments, Ingest, Metrics, Sessions};
use muster_types::{AgentNo, Clock};
use rand::Rng as _;
use tokio::time::Instant;

use crate::Options;
use crate::copies::Copies;
use crate::ticket::Tickets;

/// What agents are told of the CAs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCas {
    /// The certificates of all that they shall trust, as PEM.
    pub pem: String,
    /// The number of the one that signed this server's certificate.
    pub signing: u32,
    /// The numbers of all.
    pub trusted: Vec<u32>,
}

/// What the native gateway is built from.
pub struct Parts {
    /// Bounds and times.
    pub options: Options,
    /// This server's version, as it tells agents.
    pub version: String,
    /// The store of agents.
    pub catalog: Catalog,
    /// Agents in memory.
    pub directory: Directory,
    /// Who is online.
    pub presence: Presence,
    /// The way up.
    pub ingest: Ingest,
    /// How much of it now.
    pub admissions: Arc<Admissions>,
    /// How many enrolments now.
    pub enrolments: Arc<Enrolments>,
    /// What they go through then, the same for all gateways of a process.
    pub enrolling: EnrolQueue,
    /// Whose word about an agent's address counts.
    pub proxies: Proxies,
    /// Who is connected here.
    pub sessions: Arc<Sessions>,
    /// The way down.
    pub delivery: Arc<Delivery>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The CAs agents shall trust; swapped when they rotate.
    pub server_cas: Arc<ArcSwap<ServerCas>>,
    /// Key of the tickets for copied agents; the same on all instances.
    pub ticket_key: [u8; 32],
}

/// The native gateway's state, shared by its connections.
pub struct NativeState {
    pub(crate) options: Options,
    pub(crate) version: String,
    pub(crate) catalog: Catalog,
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) ingest: Ingest,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) enrolments: Arc<Enrolments>,
    pub(crate) enrolling: EnrolQueue,
    pub(crate) proxies: Proxies,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) server_cas: Arc<ArcSwap<ServerCas>>,
    pub(crate) tickets: Tickets,
    pub(crate) copies: Copies,
    /// When the catalog was last asked for an unknown agent; those that ask wait in turn.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// Between two questions to the catalog about unknown agents.
const ASK_EVERY: Duration = Duration::from_millis(100);

impl NativeState {
    /// The state of one process.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let tickets = Tickets::new(&parts.ticket_key);
        Arc::new(Self {
            options: parts.options,
            version: parts.version,
            enrolling: parts.enrolling,
            catalog: parts.catalog,
            directory: parts.directory,
            presence: parts.presence,
            ingest: parts.ingest,
            admissions: parts.admissions,
            enrolments: parts.enrolments,
            proxies: parts.proxies,
            sessions: parts.sessions,
            delivery: parts.delivery,
            clock: parts.clock,
            metrics: parts.metrics,
            server_cas: parts.server_cas,
            tickets,
            copies: Copies::new(),
            asked: tokio::sync::Mutex::default(),
        })
    }

    /// An agent by number. One that is not in memory yet may have enrolled elsewhere a moment ago, so
    /// the catalog is asked, at most ten times a second: unknown numbers cost nobody else anything.
    pub(crate) async fn agent(
        &self,
        no: AgentNo,
    ) -> Result<Option<Arc<Agent>>, muster_catalog::Error> {
        if let Some(agent) = self.directory.snapshot().agent(no) {
            return Ok(Some(Arc::clone(agent)));
        }
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        // Everybody who waited is served by the first question asked after they came.
        if asked.is_none_or(|at| at < came) {
            if let Some(at) = *asked {
                tokio::time::sleep_until(at + ASK_EVERY).await;
            }
            *asked = Some(Instant::now());
            self.directory.refresh().await?;
        }
        drop(asked);
        Ok(self.directory.snapshot().agent(no).cloned())
    }

    /// A random part of a time, so that what many do is spread.
    #[expect(clippy::unused_self, reason = "randomness may become injected")]
    pub(crate) fn jitter(&self, most: Duration) -> Duration {
        most.mul_f64(rand::rng().random_range(0.0..1.0))
    }
}
