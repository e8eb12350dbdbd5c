//! What a gateway of one agent protocol tells the rest.

use bytes::Bytes;
use muster_hunts::HuntDef;
use muster_types::{AgentKind, TaskId};

use crate::AgentRef;

/// A task in an agent's own protocol, as far as it is the same for all agents. Compiled once and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBytes(pub Bytes);

/// An agent cannot run this; why, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unsupported {
    /// Why.
    pub reason: String,
}

impl Unsupported {
    /// With this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What to do about a task that was handed over and may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Hand it over again under the same identifier: the agent runs it once (native), or the first
    /// answer counts (osquery).
    Repeat,
    /// Ask the agent whether it knows it before a new attempt (Velociraptor).
    AskFirst,
    /// A new attempt after a reconnect, unless the agent said it has it (Fleetspeak and GRR).
    OnReconnect,
}

impl Redelivery {
    /// Whether the hand-over is made durable before the bytes leave, because it must not happen twice
    /// under one identifier.
    #[must_use]
    pub fn is_announced(self) -> bool {
        self != Self::Repeat
    }
}

/// One agent protocol, as delivery sees it.
pub trait Gateway: Send + Sync {
    /// Which agents it serves.
    fn kind(&self) -> AgentKind;

    /// Puts a hunt's task into the protocol: once for all agents.
    ///
    /// # Errors
    /// [`Unsupported`] when agents of this kind cannot run it at all.
    fn compile(&self, hunt: &HuntDef, task: TaskId) -> Result<TaskBytes, Unsupported>;

    /// The task for one agent. What is the same for all is shared, not copied.
    ///
    /// # Errors
    /// [`Unsupported`] when this agent cannot run it.
    fn address(&self, common: &TaskBytes, agent: AgentRef) -> Result<Bytes, Unsupported> {
        let _ = agent;
        Ok(common.0.clone())
    }

    /// What tells an agent to stop a task; `None` when its protocol cannot.
    fn cancel(&self, task: TaskId) -> Option<Bytes>;

    /// What to do about lost tasks.
    fn redelivery(&self) -> Redelivery;
}
