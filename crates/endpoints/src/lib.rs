//! Endpoints: who there is, who is online, and what a scope means.
//!
//! The [`Directory`] keeps endpoints, agents and labels of all organisations in memory, fed from the
//! catalog; readers take a [`Snapshot`] and never wait. [`Presence`] knows who is online. Enrolment,
//! labels and deletion are transactions on the catalog; every one stamps its rows from the feed
//! `directory`, which is how the other instances learn of it.

mod change;
mod chunked;
pub mod condition;
mod directory;
mod enrol;
mod labels;
mod model;
pub mod node_key;
mod presence;
mod scope;
mod secrets;
mod snapshot;
mod table;
mod text;

pub use change::{
    delete_endpoint, delete_endpoint_in, join_agent, rename_endpoint, report_agent,
    set_agent_blocked, split_agent,
};
pub use chunked::Chunked;
pub use directory::Directory;
pub use enrol::{
    AgentReport, Enrol, EnrolError, EnrolNode, EnrolQueue, Enrolled, Granted, LIVE_WITHIN,
    LastHeard, NodeEnrolled, enrol, enrol_clone, enrol_node, grant_node, granted,
};
pub use labels::{
    LabelError, add_members, add_members_in, create_label, create_label_in, delete_label,
    delete_label_in, remove_members, remove_members_in,
};
pub use model::{Agent, AgentFacts, AgentState, Endpoint, Label};
pub use presence::{Block, FRESH, Presence};
pub use scope::{Live, PreparedScope, Resolved, ScopeError};
pub use secrets::{
    EnrolSecret, NewSecret, adopt_secret_in, create_secret, create_secret_in, list_secrets,
    revoke_secret, revoke_secret_in,
};
pub use snapshot::Snapshot;

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [
        change::STATEMENTS,
        directory::STATEMENTS,
        enrol::STATEMENTS,
        labels::STATEMENTS,
        presence::STATEMENTS,
        secrets::STATEMENTS,
    ]
    .concat()
}
