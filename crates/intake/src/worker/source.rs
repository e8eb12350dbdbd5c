//! What the worker asks of those who know hunts and agents.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_results::TableSpec;
use muster_types::{AgentKind, AgentNo, AgentSet, HuntNo, OrgId, Outcome, Timestamp};

use crate::fold::{HuntView, Keeps};

/// A hunt as the worker needs it. Nothing of it changes while the hunt lives.
#[derive(Clone, Debug)]
pub struct HuntInfo {
    /// For the fold; `watched` is the worker's to set.
    pub view: HuntView,
    /// Where rows go.
    pub table: Arc<TableSpec>,
}

/// Tasks that end because the server says so.
#[derive(Clone, Debug)]
pub struct Due {
    /// Which hunt.
    pub hunt: HuntNo,
    /// The agents, recruited for it. Those that have ended meanwhile may be among them.
    pub agents: AgentSet,
    /// How they end.
    pub outcome: Outcome,
    /// Why, for people.
    pub reason: String,
}

/// Why nothing can be said of hunts now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("hunts cannot be read: {0}")]
pub struct SourceError(pub String);

/// Hunts, waves and agents, from memory where it can be.
#[async_trait]
pub trait HuntSource: Send + Sync {
    /// A hunt of any state; reads through. `None` when there is none or it is deleted.
    ///
    /// # Errors
    /// [`SourceError`] when the catalog cannot be read.
    async fn hunt(&self, hunt: HuntNo) -> Result<Option<HuntInfo>, SourceError>;

    /// Whether the hunt is in memory, so that [`HuntSource::hunt`] costs nothing.
    fn is_known(&self, _hunt: HuntNo) -> bool {
        true
    }

    /// Those among these agents that a wave which is known here holds.
    fn recruited(&self, hunt: HuntNo, among: &AgentSet) -> AgentSet;

    /// Learns every wave that is committed by now. Called before an agent is told that nobody asked it.
    ///
    /// # Errors
    /// [`SourceError`] when the catalog cannot be read.
    async fn refresh(&self) -> Result<(), SourceError>;

    /// The table of an artifact that agents of this kind run on their own schedule.
    fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Arc<TableSpec>>;

    /// What is kept of it besides its rows.
    fn keeps(&self, _org: OrgId, _kind: AgentKind, _source: &str) -> Keeps {
        Keeps::State
    }

    /// Tasks whose time is up by `now`. Those that have ended may be among them.
    fn due(&self, now: Timestamp) -> Vec<Due>;

    /// How long a task of this hunt may take at least, whoever has it. `None` when that is not in memory.
    fn task_timeout(&self, _hunt: HuntNo) -> Option<Duration> {
        None
    }

    /// How long a task of this hunt may take on this agent. `None` while nobody can tell: the agent is
    /// offline and takes the task up again when it returns, or the hunt is not in memory.
    fn task_time(&self, _hunt: HuntNo, _agent: AgentNo) -> Option<Duration> {
        None
    }

    /// Organisation and kind of an agent.
    fn agent(&self, agent: AgentNo) -> Option<(OrgId, AgentKind)>;
}
