//! What can go wrong.

use muster_types::UploadNo;

use crate::State;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] muster_archive::Error),
    /// The secrets of the installation failed.
    #[error(transparent)]
    Secrets(#[from] muster_cluster::Error),
    /// More than is taken.
    #[error("upload has {byte_count} bytes, and {most} are the most that is taken")]
    TooLarge {
        /// Its length.
        byte_count: u64,
        /// The bound.
        most: u64,
    },
    /// Too many at once.
    #[error("agent has {0} uploads open")]
    TooMany(u32),
    /// It was begun, and failed since.
    #[error("upload {0} has failed; it takes a new carve")]
    Over(UploadNo),
    /// It is not there to be read.
    #[error("upload is {0}, not stored")]
    NotStored(State),
    /// Its blocks are not all there, or are no blocks.
    #[error("blocks cannot be put together: {0}")]
    Blocks(String),
}
