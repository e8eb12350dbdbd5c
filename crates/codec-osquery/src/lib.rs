//! The wire of osquery agents: what they post, what they are answered, and what is kept of it.
//!
//! Agents of every release ignore the HTTP status, take an empty body for success, send bytes that
//! are not UTF-8, and put their node key last. So every answer made here is a JSON object
//! ([`answer`]), every body is read lossily and as far as it was kept ([`Body`]), and a body over a
//! cap is taken as far as it fits, with a note of what was dropped.
//!
//! - [`EnrolRequest`], [`KeyOnly`], [`LogRequest`], [`WriteRequest`], [`CarveBegin`], [`CarveBlock`]:
//!   what is posted.
//! - [`wire`]: the form in which it goes into the stream, which never holds a node key.
//! - [`OsqueryDecoder`]: from that form to facts, in the worker.
//! - [`QueryId`]: the names of our distributed queries.
//!
//! Nothing here does I/O, and nothing allocates much more than its input.

pub mod answer;
mod body;
mod decode;
mod fuzz;
mod lenient;
mod query_id;
mod request;
pub mod wire;

pub use body::{Body, TAIL_BYTES};
pub use decode::OsqueryDecoder;
pub use fuzz::fuzz_decode;
pub use query_id::QueryId;
pub use request::{
    CarveBegin, CarveBlock, EnrolRequest, Error, HostDetails, KeyOnly, LINES_MAX, LogRequest,
    LogType, Platform, QUERIES_MAX, QueryAnswer, QueryUsed, WriteRequest,
};
