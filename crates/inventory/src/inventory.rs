//! [`Inventory`]: who is due for which questions, from memory.

use std::sync::Arc;

use muster_artifact::Platform;
use muster_bus::Bus;
use muster_catalog::{Catalog, Error};
use muster_endpoints::{Agent, Directory};
use muster_results::TableSpec;
use muster_types::{AgentKind, AgentNo, Clock, InstanceId, OrgId, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::detail;
use crate::pace::Pace;
use crate::policy::{self, Policies, PolicyNo};
pub use crate::rounds::Why;
use crate::rounds::{Rounds, turn};
use crate::service;

/// Agents whose hand-over is not told yet; beyond, the others learn of it from the blocks.
const UNTOLD_MAX: usize = 65_536;

/// What the inventory is built from.
pub struct Deps {
    /// Policies, wishes and rounds.
    pub catalog: Catalog,
    /// Tells the other instances who was asked.
    pub bus: Arc<dyn Bus>,
    /// Who there is.
    pub directory: Directory,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// This instance.
    pub instance: InstanceId,
}

/// Rounds, policies and wishes in memory. Cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) deps: Deps,
    pub(crate) rounds: Rounds,
    pub(crate) policies: Policies,
    pace: Pace,
    /// Handed here since the last hint.
    pub(crate) untold: Mutex<Vec<(AgentNo, u32)>>,
    pub(crate) cursor: tokio::sync::Mutex<service::Cursor>,
}

/// An agent's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Names the round: the same for everything that is handed over at once, rising per agent.
    pub round: u32,
    /// Why now.
    pub why: Why,
    /// When it was last asked, in seconds since 1970; zero for never.
    asked_before: u32,
}

/// A question for one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What it is; its answer comes back under this name.
    pub asked: Asked,
    /// osquery's SQL.
    pub sql: Arc<str>,
    /// A table that not every agent has: to be asked only where it is there.
    pub needs: Option<&'static str>,
}

/// What a [`Query`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A detail: rows of a source, its whole state.
    Detail {
        /// [`Due::round`].
        round: u32,
        /// The source of the rows.
        source: &'static str,
    },
    /// A policy: passes with one row or more.
    Policy(PolicyNo),
}

impl Inventory {
    /// Loads what is kept in memory.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn open(deps: Deps) -> Result<Self, Error> {
        let inner = Inner {
            deps,
            rounds: Rounds::default(),
            policies: Policies::default(),
            pace: Pace::default(),
            untold: Mutex::default(),
            cursor: tokio::sync::Mutex::default(),
        };
        let inventory = Self { inner: Arc::new(inner) };
        service::load(&inventory.inner).await?;
        Ok(inventory)
    }

    /// Follows the catalog and the other instances, and tells them who was asked here, until
    /// `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        service::run(&self.inner, &shutdown).await;
    }

    /// Whether an agent is to be given its questions with this poll. Memory only. On `Some` the caller
    /// gets [`Inventory::queries`] and, once they are on their way, calls [`Inventory::handed`], also when
    /// there were none.
    ///
    /// Those whose hour is over are let through at a bounded rate, and no more of them than answer (see
    /// [`Inventory::answered`]), so that an outage does not end in a flood; who is held back is due with a later poll. A person's wish is never held back.
    #[must_use]
    pub fn due(&self, agent: AgentNo, now: Timestamp) -> Option<Due> {
        let seconds = seconds(now);
        let (why, asked_before) = self.inner.rounds.due(agent, seconds)?;
        let agents = || self.inner.deps.directory.snapshot().agent_count();
        if why != Why::Wanted && !self.inner.pace.take(now, agents) {
            return None;
        }
        let round = match why {
            Why::Round => turn(agent, seconds),
            Why::New | Why::Wanted | Why::Policies => seconds,
        };
        Some(Due { round, why, asked_before })
    }

    /// The questions of this turn: policies that apply to the agent, and the details of its platform.
    #[must_use]
    pub fn queries(&self, agent: &Agent, due: Due) -> Vec<Query> {
        if agent.kind != AgentKind::Osquery {
            return Vec::new();
        }
        let platform = Platform::of(&agent.facts.platform);
        let snapshot = self.inner.deps.directory.snapshot();
        let newer = match due.why {
            Why::Policies => Some(due.asked_before),
            _ => None,
        };
        let policies = self.inner.policies.of(agent, platform, &snapshot, newer);
        let mut queries: Vec<_> = policies
            .into_iter()
            .map(|(no, sql)| Query { asked: Asked::Policy(no), sql, needs: None })
            .collect();
        if due.why != Why::Policies {
            queries.extend(detail::asked(platform).map(|source| Query {
                asked: Asked::Detail { round: due.round, source: &source.name },
                sql: source.text(),
                needs: source.needs.as_deref(),
            }));
        }
        queries
    }

    /// Notes that the questions of this turn are on their way to the agent.
    pub fn handed(&self, agent: AgentNo, due: Due, now: Timestamp) {
        // A turn is over even when the clock was set back meanwhile.
        let at = seconds(now).max(due.round);
        self.inner.rounds.handed(agent, at);
        let mut untold = self.inner.untold.lock();
        if untold.len() < UNTOLD_MAX {
            untold.push((agent, at));
        }
    }

    /// Notes that an agent has answered questions of its turn: the next one may be asked.
    pub fn answered(&self) {
        self.inner.pace.answered();
    }

    /// The table that rows of this source go to, when the source is one of ours.
    #[must_use]
    pub fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Arc<TableSpec>> {
        if kind != AgentKind::Osquery {
            return None;
        }
        match policy::of_source(source) {
            Some(no) => self.inner.policies.knows(org, no).then(policy::table),
            None => detail::table_of(source),
        }
    }

    /// The policies of an organisation that are not deleted, by number.
    #[must_use]
    pub fn policies(&self, org: OrgId) -> Vec<Arc<policy::Policy>> {
        self.inner.policies.list(org)
    }

    /// Takes in everything that is committed by now: for callers that must see their own writes. The
    /// other instances are told.
    ///
    /// # Errors
    /// When the catalog fails; the hint is out then.
    pub async fn announce(&self) -> Result<(), Error> {
        self.inner.deps.bus.publish(muster_bus::Topic::Inventory, bytes::Bytes::new());
        service::follow(&self.inner).await
    }
}

impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inventory")
    }
}

pub(crate) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.seconds()).unwrap_or(0)
}
