//! A server: composition of the roles. Build, then run, then drain; no logic of its own.

pub mod ca;
pub mod health;
pub mod identity;
pub mod logging;
pub mod names;
pub mod runtimes;
pub mod tls;
