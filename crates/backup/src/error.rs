//! What can go wrong.

use std::path::{Path, PathBuf};

/// A copy that was not taken, or not put in place. The text says what to do where there is something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It must not be done as asked.
    #[error("{0}")]
    Refused(String),
    /// A file of a backup is not what it was.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What was copied is not what was read.
    #[error("table {table} is not the same after it was copied: {what}")]
    Differs {
        /// The table.
        table: String,
        /// How.
        what: String,
    },
    /// A file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] muster_archive::Error),
}

impl Error {
    #[expect(clippy::needless_pass_by_value, reason = "it is given errors as they come")]
    pub(crate) fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }
}

/// Names the file in an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
