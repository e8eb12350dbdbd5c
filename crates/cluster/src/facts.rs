//! What an instance says of itself beyond the columns that older versions know.

use std::collections::BTreeMap;

use muster_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Pins;

/// What a start says of itself; JSON in the catalog, so that versions may differ in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Where it listens.
    pub listeners: Listeners,
    /// The parts of jobs it is pinned to.
    pub pins: Pins,
    /// Why it cannot have others beside it: its stores serve one process. `None`: it can.
    pub alone: Option<String>,
    /// The newest version it reads of each form, by name. Set when it registers.
    pub reads: BTreeMap<String, u8>,
}

/// Addresses with ports, by listener; empty for one that is not served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listeners {
    /// For people and programs.
    pub operators: Vec<String>,
    /// For agents.
    pub agents: Vec<String>,
    /// Health and metrics.
    pub metrics: Vec<String>,
}

/// Facts and the start that wrote them, by database time. A version that does not know of facts leaves
/// those of an earlier start in place, and they are not believed.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Dated {
    started_at: i64,
    #[serde(flatten)]
    facts: Facts,
}

impl Facts {
    pub(crate) fn write(&self, started_at: Timestamp) -> String {
        let dated = Dated { started_at: started_at.0, facts: self.clone() };
        serde_json::to_string(&dated).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Facts of this start, or none.
    pub(crate) fn read(text: &str, started_at: Timestamp) -> Self {
        let dated: Dated = serde_json::from_str(text).unwrap_or_default();
        if dated.started_at == started_at.0 { dated.facts } else { Self::default() }
    }
}

/// How busy an instance is; written with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Agents' connections that are open.
    pub connections: u64,
    /// Agents that are linked.
    pub sessions: u64,
    /// Bytes of agents' messages in memory.
    pub bytes_in_flight: u64,
    /// Bytes of the stream that are not folded and committed yet, as this instance sees it.
    pub backlog_bytes: u64,
    /// Bytes the stream may hold.
    pub backlog_max_bytes: u64,
    /// CPU used since the last heartbeat, in percent of one core.
    pub cpu_percent: u32,
    /// Resident memory.
    pub memory_bytes: u64,
    /// It is draining: alive, and no longer to be sent anybody.
    pub draining: bool,
}
