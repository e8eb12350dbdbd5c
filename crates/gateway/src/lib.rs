//! What the gateways of all agent protocols share; free of any one of them.
//!
//! - [`Admissions`]: whether a message is taken now, by a global byte budget, a bucket per agent and
//!   the stream's state. The gateway words the answer as its agents need it.
//! - [`Ingest`]: the way up, from bytes in memory to a durable record of the stream; large payloads
//!   are objects first.
//! - [`Sessions`]: who is connected here; the newest connection of an agent wins.
//! - [`Delivery`]: the way down, from the waves of a hunt to the agents that are connected here, and
//!   to those that poll.
//! - [`Enrolments`]: how many enrolments are taken, from each address and together.
//! - [`Gateway`]: what a protocol tells delivery.
//! - [`listener`]: one port, shared by the protocols; [`http`]: the server of those that POST.

mod admission;
mod answered;
mod bucket;
mod budget;
mod delivery;
mod enrolments;
mod gateway;
pub mod http;
mod ingest;
pub mod listener;
mod metrics;
mod recent;
mod revocation;
mod session;
mod sessions;

pub use admission::{Admission, Admissions, Offer, Options};
pub use bucket::{Buckets, Rate};
pub use budget::{Budget, Permit};
pub use delivery::{Delivery, Handover};
pub use enrolments::{EnrolmentRates, Enrolments};
pub use gateway::{Gateway, Redelivery, TaskBytes, Unsupported};
pub use ingest::{AgentRef, INLINE_BYTES_MAX, Ingest, Message, Refused};
pub use metrics::{Counter, Metrics, ProtocolMetrics, Refusal};
pub use revocation::follow_revocations;
pub use session::{CloseReason, Line, Next, Push, Pushed, Session, Tried};
pub use sessions::{Registered, Sessions};
