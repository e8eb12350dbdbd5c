//! A server: composition of the roles. Build, then run, then drain; no logic of its own.

mod build;
pub mod ca;
mod certificates;
mod group;
mod health;
pub mod identity;
mod listeners;
pub mod logging;
mod metrics;
pub mod names;
mod operators;
mod osquery;
mod parts;
pub mod planes;
mod run;
pub mod runtimes;
mod signals;
mod tls;

pub use build::Server;
pub use certificates::secret_key_file;
pub use run::run;
pub use signals::Signals;
