//! The stream plane: facts in flight, durable before the agent's ack, ordered within a shard.
//!
//! Promise: an append that returned `Ok` is on disk (fdatasync) and will be read at least once by
//! whoever reads its shard from a position below it; positions rise within a shard, with gaps. An
//! append that failed or was dropped may or may not have happened; the agent repeats it and the
//! fold removes the repeat.
//!
//! [`log::Log`] is the embedded stream, [`jetstream::JetStream`] the one of several machines,
//! [`memory::MemoryStream`] is for simulations. [`conformance`] holds every implementation to the
//! contract of [`Stream`].

mod api;
pub mod conformance;
pub mod jetstream;
pub mod log;
mod measured;
pub mod memory;
mod quota;
pub mod relay;

pub use api::{AppendError, Entry, Pressure, ReadError, Reader, Stream};
pub use measured::{AppendStats, MeasuredStream};
pub use quota::share_percent;
