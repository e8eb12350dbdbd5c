//! The fold: what the records of one shard come to.
//!
//! [`apply`] is pure. It takes the state of a shard, one entry of the stream and what its decoder
//! made of it, puts rows into a [`RowSink`] and changes the state. It knows no clock but the
//! record's `received_at` and does no I/O, so a record that is folded again from the same state comes to
//! the same rows. The worker commits rows, state and position in one transaction; that makes the
//! rows of every acknowledged record appear exactly once, whatever dies in between.
//!
//! # Repeats
//! Each protocol offers another way to recognise a message that was sent twice ([`muster_types::Repeat`]):
//!
//! | repeat | kept per agent | bound |
//! |---|---|---|
//! | `Sequence` | highest number per stream | [`MAX_STREAMS`] streams |
//! | `RowRange` | ranges seen per part of a flow; an end in the message waits for the rows before it | [`MAX_PARTS`] parts, [`MAX_RANGES`] ranges |
//! | `Message` | the last identifiers, hashed to 64 bits | [`MAX_MESSAGES`] |
//! | `Lines` | number and hash of the lines of the last message, per log | [`MAX_LOGS`] |
//! | `Idempotent` | nothing: an answer comes whole, the first one counts | |
//!
//! # The state of scheduled sources
//! Rows that agents send by themselves are stored as they came, and once more as steps of their source's
//! present state ([`RowSink::state`], [`RowSink::mark`]). Each state has a generation, greater than any the agent had
//! before; a new one begins with a whole snapshot, another epoch, or run 0 of a differential query. What is remembered
//! per source (at most [`MAX_SOURCES`]) is the last run, so that one that is missing is seen and marked as a gap. A state
//! whose base was never seen has no rows, only that mark: the rows of an event table would grow for ever.
//!
//! # Outcomes
//! The first terminal fact in shard order wins, whether the agent's end or the server's. What comes
//! later is stored with `late`, and changes nothing. A task is open from the first sign of it, because
//! an answer may be appended before the fact that it was delivered.
//!
//! # Hostile agents
//! Rows for a hunt that never asked this agent, or for an attempt that was never handed out, are refused and
//! recorded in `errors`, like messages that cannot be read and numbers that are missing. Counts are ours: an agent's word
//! on how many rows it sent is not asked for.

mod agent;
mod agents;
mod apply;
mod codec;
mod context;
mod items;
mod repeat;
mod rows;
mod scheduled;
mod shard;
mod tasks;
mod uploads;

#[cfg(test)]
mod tests;

pub use agent::{
    MAX_LOGS, MAX_MESSAGES, MAX_PARTS, MAX_RANGES, MAX_SOURCES, MAX_STREAMS, MAX_UPLOAD_BYTES,
    MAX_UPLOADS,
};
pub use apply::apply;
pub use codec::StateError;
pub use context::{
    Counted, Effects, EndSeen, HuntLookup, HuntView, Keeps, LiveRows, RowAt, RowSink, StateStep,
    SystemRow, Target,
};
pub use muster_hunts::ShardProgress;
pub use shard::{Counters, OpenTaskAt, ShardState};
pub use uploads::UploadDone;
