//! The contract of the bus; `conformance` holds implementations to it.

use async_trait::async_trait;
use bytes::Bytes;
use muster_types::{HuntNo, Shard};
use serde::{Deserialize, Serialize};

/// What a hint is about. Whoever listens could have found the same in the catalog or the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Hunts, waves or their states changed.
    Hunts,
    /// The fold committed something of this shard (progress of hunts).
    Progress,
    /// Endpoints, agents or labels changed.
    Directory,
    /// An agent connected or left: presence may be read from the hint.
    Presence,
    /// Which links of native agents were opened, so that a copied agent is found on two instances.
    Links,
    /// Rows of a watched hunt, as they are folded.
    Live(HuntNo),
    /// Which hunts are being watched, so that their rows are published.
    Watch,
    /// Which agents that poll have answered which tasks: no other instance hands these over again.
    Answered,
    /// New records in a shard (only where the stream does not wake its readers itself).
    Stream(Shard),
    /// Leases or instances changed.
    Cluster,
    /// Users, roles or tokens changed.
    Access,
    /// Schedules, or the configuration of osquery agents, changed.
    Schedules,
    /// Policies, or wishes to ask an endpoint anew, changed; or, with content, which agents were
    /// just asked.
    Inventory,
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A hint with its content, which may be empty.
    Message(Topic, Bytes),
    /// Hints were lost (lag or reconnect): reconcile with the catalog now.
    Gap,
}

/// Receives hints; made by [`Bus::subscribe`].
#[async_trait]
pub trait Subscription: Send {
    /// The next hint; `None` when the bus is gone for good.
    ///
    /// # Cancel safety
    /// Safe: a dropped call loses nothing.
    async fn next(&mut self) -> Option<Hint>;
}

/// Hints between tasks and instances.
pub trait Bus: Send + Sync {
    /// Tells whoever listens. Never waits and never fails.
    fn publish(&self, topic: Topic, content: Bytes);

    /// Listens to these topics from now on.
    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription>;
}
