//! Hunts in osquery's terms: SQL with its parameters written in.

use bytes::Bytes;
use muster_artifact::render_sql;
use muster_endpoints::Directory;
use muster_gateway::{AgentRef, Gateway, Redelivery, TaskBytes, Unsupported};
use muster_hunts::HuntDef;
use muster_types::{AgentKind, TaskId};

use crate::capabilities::{self, CARVER_OFF, DISTRIBUTED_OFF};

/// Longest SQL that is handed over; agents take 8 MiB for all of an answer.
const SQL_BYTES_MAX: usize = 1 << 20;

/// The osquery gateway's part in handing out work. The text is the same for all agents; the name it
/// goes out under is the task's.
#[derive(Clone, Debug)]
pub struct OsqueryGateway {
    directory: Directory,
}

impl OsqueryGateway {
    /// For the agents of this directory.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self { directory }
    }
}

impl Gateway for OsqueryGateway {
    fn kind(&self) -> AgentKind {
        AgentKind::Osquery
    }

    fn compile(&self, hunt: &HuntDef, _: TaskId) -> Result<TaskBytes, Unsupported> {
        let source = hunt.sources.get(&AgentKind::Osquery).ok_or_else(|| {
            Unsupported::new(format!("{} has no source for osquery agents", hunt.title))
        })?;
        let sql = render_sql(&source.query, &hunt.parameters);
        let sql = sql.trim();
        // An agent that is given an empty text skips everything that comes after it.
        if sql.is_empty() {
            return Err(Unsupported::new(format!("{} has an empty query", hunt.title)));
        }
        if sql.len() > SQL_BYTES_MAX {
            return Err(Unsupported::new("the query is longer than 1 MiB"));
        }
        Ok(TaskBytes(Bytes::copy_from_slice(sql.as_bytes())))
    }

    fn address(&self, common: &TaskBytes, agent: AgentRef) -> Result<Bytes, Unsupported> {
        let snapshot = self.directory.current();
        let Some(agent) = snapshot.agent(agent.no) else { return Ok(common.0.clone()) };
        if capabilities::has(agent, DISTRIBUTED_OFF) {
            return Err(Unsupported::new(
                "this osquery agent does not take queries: start it with \
                 --disable_distributed=false and --distributed_plugin=tls",
            ));
        }
        if capabilities::has(agent, CARVER_OFF) && mentions_carves(&common.0) {
            return Err(Unsupported::new(
                "this osquery agent does not upload files: start it with \
                 --disable_carver=false and --carver_disable_function=false",
            ));
        }
        Ok(common.0.clone())
    }

    /// osquery has no way to stop a query.
    fn cancel(&self, _: TaskId) -> Option<Bytes> {
        None
    }

    fn redelivery(&self) -> Redelivery {
        Redelivery::Repeat
    }
}

fn mentions_carves(sql: &[u8]) -> bool {
    sql.windows(5).any(|word| word.eq_ignore_ascii_case(b"carve"))
}
