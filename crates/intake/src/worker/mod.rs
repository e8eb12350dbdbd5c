//! The worker: reads the shards it holds, folds, and commits what it came to.
//!
//! Every second, or at 64 MiB, what was folded becomes one segment object and one transaction: positions
//! (compare-and-set on old position and epoch), segment, state deltas, progress of hunts. If a compare fails nothing
//! has happened. There is one answer to every failure and to every doubt about a commit: forget what is in memory, take
//! the shards again, load their state and read on from the committed position. What was folded twice was stored once,
//! because only one of the two transactions can have moved the position.
//!
//! - [`Core`] is the logic without time and leases; the simulation drives it step by step.
//! - [`Worker`] is the service around it.

mod batch;
mod behind;
mod commit;
mod core;
mod ends;
mod hunts;
mod live;
mod other;
mod service;
mod sink;
mod source;
mod stats;
mod store;
pub mod tables;

use std::collections::HashMap;
use std::sync::Arc;

use muster_archive::Archive;
use muster_bus::Bus;
use muster_catalog::Catalog;
use muster_cluster::Formats;
use muster_stream::{ReadError, Stream};
use muster_types::{AgentKind, Clock, Decode, Shard};

pub use self::core::{Core, Options};
pub use commit::{Committed, Cut};
pub use hunts::LiveHunts;
pub use live::Watched;
pub use service::Worker;
pub use source::{Due, HuntInfo, HuntSource, SourceError};
pub use stats::WorkerStats;
pub(crate) use store::STATEMENTS;

/// A decoder per agent kind.
pub type Decoders = HashMap<AgentKind, Arc<dyn Decode>>;

/// What a worker works with.
#[derive(Clone)]
pub struct Deps {
    /// Positions, manifest, progress.
    pub catalog: Catalog,
    /// Segments, payloads, bases.
    pub archive: Archive,
    /// Records.
    pub stream: Arc<dyn Stream>,
    /// Hints.
    pub bus: Arc<dyn Bus>,
    /// Time of objects and deadlines.
    pub clock: Arc<dyn Clock>,
    /// Hunts and agents.
    pub hunts: Arc<dyn HuntSource>,
    /// Reads the messages.
    pub decoders: Arc<Decoders>,
    /// Which version of each form to write.
    pub formats: Formats,
    /// Name of this incarnation of this instance, for object names.
    pub writer: String,
    /// Called between any two steps; an error ends the work there. For simulations.
    #[doc(hidden)]
    pub probe: Option<Probe>,
}

/// See [`Deps::probe`].
#[doc(hidden)]
pub type Probe = Arc<dyn Fn(&'static str) -> Result<(), Error> + Send + Sync>;

impl Deps {
    fn step(&self, name: &'static str) -> Result<(), Error> {
        self.probe.as_ref().map_or(Ok(()), |probe| probe(name))
    }
}

/// Why the worker forgets what it has in memory and starts again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog failed; a commit may or may not have happened.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] muster_archive::Error),
    /// The stream failed.
    #[error(transparent)]
    Read(#[from] muster_stream::ReadError),
    /// Hunts cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Somebody else moved or took a shard, one of those that were to be moved together.
    #[error("a shard of {first} to {last} has another holder or was moved")]
    Fenced {
        /// The first of them,
        first: Shard,
        /// and the last.
        last: Shard,
    },
    /// A stored state cannot be read.
    #[error("{0}")]
    State(String),
    /// A newer version of the program wrote what is to be read.
    #[error("{0}")]
    Newer(String),
    /// Rows could not be written as Parquet.
    #[error(transparent)]
    Segment(#[from] muster_results::Error),
    /// A step panicked or was stopped.
    #[error("a step of the worker did not finish: {0}")]
    Step(String),
}

impl Error {
    /// Trying again does not help: this program does not read what others write.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer(_) | Self::Read(ReadError::Newer(_)))
    }
}

impl From<crate::fold::StateError> for Error {
    fn from(error: crate::fold::StateError) -> Self {
        match error {
            crate::fold::StateError::Version(_) => Self::Newer(error.to_string()),
            _ => Self::State(error.to_string()),
        }
    }
}

/// Runs work of more than half a millisecond where it blocks nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Step(error.to_string()))
}
