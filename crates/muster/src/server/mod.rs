//! A server: composition of the roles. Build, then run, then drain; no logic of its own.

pub mod advertised;
mod build;
mod busy;
pub mod ca_file;
pub mod certificates;
pub mod formats;
mod front;
mod group;
mod health;
pub mod identity;
mod listeners;
pub mod logging;
mod metrics;
pub mod names;
pub mod nats;
mod operators;
mod osquery;
mod page;
pub mod parts;
pub mod planes;
pub mod program;
mod reachable;
mod run;
pub mod runtimes;
mod seat;
mod signals;
mod tls;

pub use build::Server;
pub use certificates::secret_key_file;
pub use run::run;
pub use signals::Signals;
