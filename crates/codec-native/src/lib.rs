//! The wire format between Muster's own agent and its gateway.
//!
//! Enrolment is one HTTPS request with JSON both ways ([`EnrolRequest`]). Everything after it runs
//! over a WebSocket, one binary message per frame:
//!
//! ```text
//! version u8 | type u8 | header length u32 LE | header (JSON) | payload
//! ```
//!
//! Only a [`Batch`] has a payload: the rows of its items, back to back, as the agent's engine wrote
//! them. Decoding shares the message's memory and is bounded before it allocates. A frame of a
//! newer version is an error, since nothing about it is known; a frame type or a kind of batch item
//! this version does not know is skipped, so that agents and servers one version apart understand
//! each other. New header fields are added with defaults; fields are never removed within a version.
//!
//! The conversation: the server sends [`Challenge`], the agent [`Hello`], the server [`Welcome`]
//! (or [`Rekey`], or [`Bye`]); from then on the agent sends batches, numbered from 1 without gaps in
//! a stream it chose when it made its buffer, and the server answers each with [`Ack`] once it is
//! durable; [`Task`] and [`Cancel`] come whenever there is work. Liveness is the WebSocket's ping.

mod agent_frame;
mod batch;
mod decoder;
mod enrol;
mod frame;
mod fuzz;
mod hex;
mod host;
mod proof;
mod server_frame;

pub use agent_frame::{AgentFrame, Hello, StreamSeq};
pub use batch::Batch;
pub use decoder::NativeDecoder;
pub use enrol::{Credential, EnrolAnswer, EnrolRefusal, EnrolRequest, RefusalReason};
pub use frame::{Error, HEAD_BYTES, HEADER_BYTES_MAX, ITEMS_MAX, MESSAGE_BYTES_MAX, VERSION};
pub use fuzz::fuzz_decode;
pub use host::{CAP_CAS, HostFacts};
pub use proof::{enrol_message, hello_message};
pub use server_frame::{
    Ack, Bye, Cancel, Cas, Challenge, LinkLimits, Nack, Rekey, ServerFrame, Task, TaskLimits,
    Welcome,
};

/// Where an agent enrols, with POST.
pub const ENROL_PATH: &str = "/v1/agent/enrol";
/// Where an agent opens its WebSocket.
pub const LINK_PATH: &str = "/v1/agent/link";
