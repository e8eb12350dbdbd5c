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
use crate::fold::HuntView;

/// [`HuntSource`] over the index of hunts and the directory.
pub struct LiveHunts {
    hunts: Hunts,
    directory: Directory,
    retired: Mutex<HashMap<OrgId, (i64, Arc<AgentSet>)>>,
}

impl LiveHunts {
    /// Both must be kept up to date by their services.
    #[must_use]
    pub fn new(hunts: Hunts, directory: Directory) -> Self {
        Self { hunts, directory, retired: Mutex::default() }
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

    fn is_recruited(&self, hunt: HuntNo, agent: AgentNo) -> bool {
        self.hunts.knows_recruited(hunt, agent) == Some(true)
    }

    async fn refresh(&self) -> Result<(), SourceError> {
        self.hunts.refresh().await.map_err(|error| failed(&error))
    }

    /// No artifact runs on a schedule yet.
    fn scheduled(&self, _: OrgId, _: AgentKind, _: &str) -> Option<Arc<TableSpec>> {
        None
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
            due.push(Due { hunt: def.no, agents, outcome, reason: reason.to_owned() });
        }
        for def in self.hunts.live() {
            let retired = self.retired(def.org);
            if retired.is_empty() {
                continue;
            }
            let agents = AgentSet(&self.hunts.outstanding(def.no).0 & &retired.0);
            if !agents.is_empty() {
                let reason = "the endpoint was removed before it answered".to_owned();
                due.push(Due { hunt: def.no, agents, outcome: Outcome::Retired, reason });
            }
        }
        due
    }

    fn task_time(&self, hunt: HuntNo, agent: AgentNo) -> Option<Duration> {
        let def = self.hunts.peek(hunt)?;
        self.hunts.is_online(agent).then(|| Duration::from_millis(def.limits.task_timeout_ms))
    }

    fn agent(&self, agent: AgentNo) -> Option<(OrgId, AgentKind)> {
        self.directory.snapshot().agent(agent).map(|agent| (agent.org, agent.kind))
    }
}
