//! The archive plane: immutable objects, the manifest that says which of them exist, and the work
//! that keeps both small.
//!
//! An object's name is never used twice and an object is created only if absent, so nothing that a
//! late or doubled writer does can change what a reader sees. The manifest in the catalog is the
//! only truth: an object that it does not name does not exist, whatever a listing says. So every
//! step here may be cut short at any await; what is left over is an orphan that [`sweep`] removes.

pub mod compaction;
pub mod conformance;
mod current;
mod error;
pub mod manifest;
mod measured;
mod name;
mod pause;
pub mod purge;
mod put;
mod remote;
pub mod retention;
mod rewrite;
mod statements;
mod store;
pub mod sweep;

pub use error::Error;
pub use measured::{ArchiveStats, Call};
pub use name::{day_name, payload_name, segment_name};
pub use pause::Pause;
pub use rewrite::Rewritten;
pub use store::{Archive, OBJECT_BYTES_MAX, ObjectInfo};

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [statements::STATEMENTS, current::STATEMENTS].concat()
}
