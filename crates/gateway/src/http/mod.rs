//! A lean HTTP/1.1 server for agents that POST small requests and mostly hear that there is nothing
//! to do.
//!
//! An idle connection holds its TLS state, its socket and a small task: no buffer, and no future
//! sized for a request. A request that came whole is answered where it was read, out of a buffer of
//! the thread. What this server does not do (chunked bodies, upgrades, other paths) it gives back to
//! the listener, whose router does it.

mod adapter;
mod body;
mod connection;
mod gather;
mod head;
mod idle;
mod meter;
mod scratch;
mod server;
mod service;
mod turn;
mod write;

pub use server::Server;
pub use service::{
    After, Answer, Called, Head, Over, Plan, Read, Request, Room, Service, Source, TAIL_BYTES_MAX,
};
