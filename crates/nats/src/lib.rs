//! The connection to NATS that stream and bus are built on: addresses, TLS, credentials, how it
//! comes back, and whether what it promises is durable.
//!
//! A [`Connection`] is made once and lasts for the life of the process: it looks for a server again
//! for ever, with bounded and jittered pauses. What happens to it is a [`Status`] that can be
//! watched. [`durability`] tells what a cluster really promises, for those who check a deployment.

mod backoff;
mod connect;
mod durability;
mod error;
mod finding;
mod monitor;
mod options;
mod status;
mod version;

pub use connect::{Connection, connect};
pub use durability::{Expected, durability};
pub use error::ConnectError;
pub use finding::{Finding, Severity};
pub use options::Options;
pub use status::Status;
pub use version::Version;
