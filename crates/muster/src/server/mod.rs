//! A server: composition of the roles. Build, then run, then drain; no logic of its own.

pub mod ca;
pub mod logging;
pub mod tls;
