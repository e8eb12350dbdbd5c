//! What the gateway needs of others, as far as tests stand in for them.

use std::sync::Arc;

use bytes::Bytes;
use muster_codec_osquery::QueryId;
use muster_endpoints::Agent;
use muster_inventory::{Asked, Inventory};
use muster_schedules::{Rendered, Schedules};
use muster_types::{OrgId, Timestamp};

/// Where configurations come from. Memory only.
pub trait Configs: Send + Sync + 'static {
    /// The document of an agent; the same bytes for all agents it is for.
    fn config_for(&self, agent: &Agent) -> Arc<Rendered>;

    /// A file of YARA rules, by the name in its URL.
    fn yara_rules(&self, org: OrgId, name: &str) -> Option<Bytes> {
        let _ = (org, name);
        None
    }
}

impl Configs for Schedules {
    fn config_for(&self, agent: &Agent) -> Arc<Rendered> {
        Self::config_for(self, agent)
    }

    fn yara_rules(&self, org: OrgId, name: &str) -> Option<Bytes> {
        Self::yara_rules(self, org, name)
    }
}

/// A question besides those of hunts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name its answer comes back under, as [`QueryId`] writes it.
    pub id: String,
    /// SQL.
    pub sql: Arc<str>,
    /// A table that not every agent has; without it the question is not asked.
    pub needs: Option<&'static str>,
}

/// Questions that are due for an agent.
pub struct DueQuestions {
    /// The questions; may be none.
    pub questions: Vec<Question>,
    /// Called once they are on their way.
    pub handed: Box<dyn FnOnce() + Send>,
}

/// What every endpoint is asked now and then. Memory only.
pub trait Details: Send + Sync + 'static {
    /// What is due for an agent now; `None`, which is usual, costs nothing.
    fn due(&self, agent: &Agent, now: Timestamp) -> Option<DueQuestions>;

    /// An agent has answered such questions.
    fn answered(&self) {}
}

impl Details for Inventory {
    fn due(&self, agent: &Agent, now: Timestamp) -> Option<DueQuestions> {
        let due = Self::due(self, agent.no, now)?;
        let queries = self.queries(agent, due).into_iter();
        let question = |query: muster_inventory::Query| {
            let id = match query.asked {
                Asked::Policy(no) => QueryId::Policy(no.0.into()),
                Asked::Detail { round, source } => QueryId::Inventory { round, source },
            };
            Question { id: id.to_string(), sql: query.sql, needs: query.needs }
        };
        let (inventory, agent) = (self.clone(), agent.no);
        Some(DueQuestions {
            questions: queries.map(question).collect(),
            handed: Box::new(move || inventory.handed(agent, due, now)),
        })
    }

    fn answered(&self) {
        Self::answered(self);
    }
}
