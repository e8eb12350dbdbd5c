//! Debug archives: what every instance knows of itself, in one `.tar.gz`.
//!
//! Instances do not call each other. A request is a row of the catalog; each instance that it names
//! gathers its part, puts it into the archive as an object and says so in a row; whoever answers the
//! asker reads the parts from the archive. A part is one gzip member that holds the middle of a tar
//! file, so that an archive is its parts one after the other, with a first and a last member around.

mod assemble;
mod bundle;
mod collect;
mod process;
mod service;
mod store;

use std::time::Duration;

pub use assemble::{Assembled, assemble};
pub use bundle::{Bundle, FILE_BYTES_MAX, PART_BYTES_MAX};
pub use collect::{Section, Sources};
pub use service::{Service, Tidy};
pub use store::{NewRequest, Part, Request, STATEMENTS, create, get, parts};

/// Longest profile of the processor.
pub const SECONDS_MAX: u32 = 120;
/// How long an instance may take for its part besides the profile.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long requests and their parts are kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Why something with debug archives failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] muster_archive::Error),
    /// A part could not be written.
    #[error("write the debug archive: {0}")]
    Io(#[from] std::io::Error),
    /// A row cannot be read.
    #[error("the request in the catalog is damaged: {0}")]
    Damaged(String),
}
