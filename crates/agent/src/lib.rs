//! The endpoint's side: tables over SQL, queries in a child process, the link to the server.
//!
//! [`run`] is the agent. It enrols once with a secret, keeps its own key, and holds one outgoing
//! connection. A task becomes a child process ([`query`]); its rows gather in a spool and enter the
//! disk [`buffer`] together with the task's end, all at once. So a task that was interrupted (by a
//! kill, a crash, a reboot) has left nothing behind, the server hands it out again, and running it
//! again cannot double a row; a task that is in the buffer, or was, is not run again.

mod backoff;
pub mod buffer;
pub mod cli;
mod config;
mod enrol;
mod functions;
mod glob;
mod host;
mod leave;
mod link;
mod membership;
mod options;
mod plan;
pub mod query;
mod run;
mod servers;
mod standing;
mod state;
pub mod table;
pub mod tables;
mod tasks;
pub mod transport;
mod vtab;
mod warnings;

pub use backoff::Backoff;
pub use config::{AgentConfig, ConfigError};
pub use enrol::{Enroller, Refusal};
pub use leave::{Left, agent_no, leave};
pub use options::{AgentOptions, Secret};
pub use run::{Error, enrol, run};
pub use standing::{Standing, standing};
pub use state::{Key, trusted_cas};
pub use warnings::Warnings;
