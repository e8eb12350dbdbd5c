//! A simulated fleet of osquery agents, as honest as real ones are.
//!
//! What real agents do, and simulators are tempted not to: a new TLS connection with a full handshake
//! for every request, under one deadline of 16 s that includes the one resend after a connection
//! that broke; an HTTP status that nobody looks at; an empty body taken for success; exact waits
//! between attempts, without jitter; three loops that do not know of one another; one enrolment at a
//! time per host, and a key that any loop may throw away; distributed queries one after another in
//! the order of their names, with one answer for all, repeated whole; a log buffer that forgets its
//! oldest lines, and sends what it holds again until somebody takes it.
//!
//! Every log line carries a tag of its own, so that a run can say which were made, taken, given up
//! by the agent and why, and a reader of the server's tables can count what arrived.

mod answers;
mod buffer;
mod carve;
mod config;
mod dial;
mod fate;
mod host;
mod live;
mod log;
mod options;
mod plan;
mod report;
mod request;
mod run;

pub use options::OsqueryOptions;
pub use report::{Endpoint, OsqueryReport};
pub use run::{osquery, run};
