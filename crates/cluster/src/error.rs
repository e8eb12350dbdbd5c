//! What can go wrong in the cluster.

use crate::Clash;

/// Why an instance cannot take part, or a secret cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
    /// Another process has started with this instance's data folder; this one must stop.
    #[error("another process has started as this instance; give every process its own data folder")]
    Superseded,
    /// This instance cannot be beside one that lives.
    #[error(transparent)]
    Clash(#[from] Clash),
    /// The key file is not one.
    #[error("{path}: {reason}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sealed secret does not open with this key.
    #[error("secret {name} does not open: it was sealed with another key, or is damaged")]
    Sealed {
        /// Which one.
        name: String,
    },
}

impl Error {
    /// This process must stop; any other error is worth another try.
    #[must_use]
    pub fn is_final(&self) -> bool {
        use muster_catalog::Error as Catalog;
        matches!(self, Self::Superseded | Self::Clash(_) | Self::Catalog(Catalog::Refused(_)))
    }
}
