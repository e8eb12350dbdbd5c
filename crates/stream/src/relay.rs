//! A stream behind a unix socket, so that several processes share one embedded stream.
//!
//! For tests of several server processes; a real cluster has a real stream. Frames are length
//! prefixed, one request and one answer at a time per connection. A connection that breaks while an
//! append waits for its answer makes that append [`AppendError::Unavailable`]: it may or may not
//! have happened.

mod client;
mod server;
mod wire;

pub use client::Client;
pub use server::Server;
