//! The gateway of Muster's own agent: enrolment over HTTPS, everything else over one WebSocket.
//!
//! [`protocol`] serves links on the agents' listener. An idle agent costs one small task, the TLS state and its
//! kernel socket; no buffer waits with it. The wire format is `muster-codec-native`'s; what is shared
//! with other gateways (admission, ingest, sessions, delivery) is `muster-gateway`'s.

mod compile;
mod copies;
mod enrol;
mod facts;
mod head;
mod link;
mod options;
mod protocol;
mod state;
mod ticket;
mod ws;

pub use compile::NativeGateway;
pub use copies::follow_copies;
pub use enrol::router;
pub use options::Options;
pub use protocol::protocol;
pub use state::{NativeState, Parts, ServerCas};
