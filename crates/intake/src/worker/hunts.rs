//! Hunts and agents as the server knows them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_endpoints::{AgentState, Directory};
use muster_hunts::{HuntKind, Hunts};
use muster_results::TableSpec;
use muster_types::{AgentKind, AgentNo, AgentSet, HuntNo, OrgId, Outcome, Timestamp};
use parking_lot::Mutex;

use super::{Due, HuntInfo, HuntSource, SourceError};
use crate::fold::{HuntView, Keeps};

/// Knows the tables of what agents send by themselves, by organisation, agent kind and source.
pub type Scheduled = Box<dyn Fn(OrgId, AgentKind, &str) -> Option<Arc<TableSpec>> + Send + Sync>;

/// Knows which of them are events.
pub type Events = Box<dyn Fn(OrgId, AgentKind, &str) -> bool + Send + Sync>;

/// An osquery agent keeps no limit of ours, answers when all that it took is done, and may restart
/// meanwhile: then it is handed the task again with a later poll.
const OSQUERY_LATE: Duration = Duration::from_secs(15 * 60);

/// [`HuntSource`] over the index of hunts and the directory.
pub struct LiveHunts {
    hunts: Hunts,
    directory: Directory,
    /// Asked in this order.
    scheduled: Vec<Scheduled>,
    events: Vec<Events>,
    retired: Mutex<HashMap<OrgId, (i64, Arc<AgentSet>)>>,
}

impl LiveHunts {
    /// Both must be kept up to date by their services.
    #[must_use]
    pub fn new(hunts: Hunts, directory: Directory) -> Self {
        Self {
            hunts,
            directory,
            scheduled: Vec::new(),
            events: Vec::new(),
            retired: Mutex::default(),
        }
    }

    /// Adds who knows of sources that no hunt asked for.
    #[must_use]
    pub fn with_scheduled(
        mut self,
        tables: impl Fn(OrgId, AgentKind, &str) -> Option<Arc<TableSpec>> + Send + Sync + 'static,
    ) -> Self {
        self.scheduled.push(Box::new(tables));
        self
    }

    /// Adds who knows of sources whose rows are events, so that no state is kept of them.
    #[must_use]
    pub fn with_events(
        mut self,
        events: impl Fn(OrgId, AgentKind, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.events.push(Box::new(events));
        self
    }

    /// Retired agents of an organisation; counted anew when the directory has changed.
    fn retired(&self, org: OrgId) -> Arc<AgentSet> {
        let snapshot = self.directory.snapshot();
        let mut retired = self.retired.lock();
        if let Some((version, agents)) = retired.get(&org)
            && *version == snapshot.version()
        {
            return agents.clone();
        }
        let gone = snapshot.agents(org).filter(|agent| agent.state == AgentState::Retired);
        let agents = Arc::new(gone.map(|agent| agent.no).collect::<AgentSet>());
        retired.insert(org, (snapshot.version(), agents.clone()));
        agents
    }
}

/// The tasks of agents that were removed.
fn removed(hunt: HuntNo, agents: AgentSet) -> Option<Due> {
    let reason = "the endpoint was removed before it answered".to_owned();
    (!agents.is_empty()).then_some(Due { hunt, agents, outcome: Outcome::Retired, reason })
}

fn failed(error: &muster_catalog::Error) -> SourceError {
    SourceError(error.to_string())
}

#[async_trait]
impl HuntSource for LiveHunts {
    async fn hunt(&self, hunt: HuntNo) -> Result<Option<HuntInfo>, SourceError> {
        let def = self.hunts.get(hunt).await.map_err(|error| failed(&error))?;
        Ok(def.map(|def| HuntInfo {
            view: HuntView {
                org: def.org,
                rows_per_endpoint: def.limits.task_rows_max,
                bytes_per_endpoint: def.limits.task_bytes_max,
                interactive: def.kind != HuntKind::Hunt,
                watched: false,
            },
            table: def.table.clone(),
        }))
    }

    fn is_known(&self, hunt: HuntNo) -> bool {
        self.hunts.peek(hunt).is_some()
    }

    fn recruited(&self, hunt: HuntNo, among: &AgentSet) -> AgentSet {
        self.hunts.recruited_among(hunt, among)
    }

    async fn refresh(&self) -> Result<(), SourceError> {
        self.hunts.refresh().await.map_err(|error| failed(&error))
    }

    fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Arc<TableSpec>> {
        self.scheduled.iter().find_map(|tables| tables(org, kind, source))
    }

    fn keeps(&self, org: OrgId, kind: AgentKind, source: &str) -> Keeps {
        let events = self.events.iter().any(|events| events(org, kind, source));
        if events { Keeps::Events } else { Keeps::State }
    }

    fn due(&self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for (def, agents) in self.hunts.overdue(now) {
            let outcome = def.deadline().outcome;
            let reason = match outcome {
                Outcome::Cancelled => "cancelled, and the agent did not say that it stopped",
                Outcome::TimedOut => "no answer came before the time was up",
                _ => "the hunt's time was up before an answer came",
            };
            // One that was removed did not run out of time: nobody was there to answer.
            let retired = self.retired(def.org);
            let gone = AgentSet(&agents.0 & &retired.0);
            let agents = AgentSet(agents.0 - &gone.0);
            due.extend(removed(def.no, gone));
            if !agents.is_empty() {
                due.push(Due { hunt: def.no, agents, outcome, reason: reason.to_owned() });
            }
        }
        for def in self.hunts.live() {
            let retired = self.retired(def.org);
            if !retired.is_empty() {
                due.extend(removed(
                    def.no,
                    AgentSet(&self.hunts.outstanding(def.no).0 & &retired.0),
                ));
            }
        }
        due
    }

    fn task_timeout(&self, hunt: HuntNo) -> Option<Duration> {
        self.hunts.peek(hunt).map(|def| def.limits.task_timeout())
    }

    fn task_time(&self, hunt: HuntNo, agent: AgentNo) -> Option<Duration> {
        let time = self.task_timeout(hunt)?;
        let answers_late = self.agent(agent)?.1 == AgentKind::Osquery;
        let time = if answers_late { time + OSQUERY_LATE } else { time };
        self.hunts.is_online(agent).then_some(time)
    }

    fn agent(&self, agent: AgentNo) -> Option<(OrgId, AgentKind)> {
        self.directory.snapshot().agent(agent).map(|agent| (agent.org, agent.kind))
    }
}
