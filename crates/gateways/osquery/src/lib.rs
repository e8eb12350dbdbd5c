//! The gateway of osquery agents: unmodified osqueryd over its TLS protocol.
//!
//! What shapes everything here: agents look at the body of an answer alone and take an empty one for
//! success, open a new connection for every request, repeat what they hear nothing of, and send
//! their key last. So every answer is a JSON object; trouble of ours is an `error`, which makes an
//! agent keep what it has; `node_invalid` is said only of a key that is known to be bad; and a body
//! over a cap is taken as far as it fits, with a record of what was dropped.
//!
//! - [`OsqueryService`]: the requests, on [`muster_gateway::http`].
//! - [`OsqueryGateway`]: hunts as SQL.
//! - [`Configs`], [`Details`]: what it needs of schedules and inventory.

mod auth;
mod capabilities;
mod carve;
mod compile;
mod config;
mod deps;
mod enrol;
mod log;
mod off_thread;
mod options;
mod packed;
mod rarely;
mod read;
mod readers;
mod refusal;
mod route;
mod service;
mod state;
mod vitals;
mod write;

pub use compile::OsqueryGateway;
pub use deps::{Configs, Details, DueQuestions, Question};
pub use options::{Identifier, Options};
pub use service::OsqueryService;
pub use state::{Osquery, Parts};
