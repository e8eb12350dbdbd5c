//! The rules of osquery's TLS remote protocol, each a test of its own, over real HTTPS.
//!
//! `docs/src/osquery-conformance.md` lists them.

mod client;
mod rig;

mod carve;
mod config;
mod distributed;
mod enrol;
mod keys;
mod log;
mod transport;
mod write;
