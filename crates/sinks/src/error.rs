//! What can go wrong, in the terms a caller acts on.

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else works this sink now, or it is gone. Nothing was written.
    #[error("sink {0} is worked by a later holder")]
    Fenced(i64),
    /// A part cannot be read.
    #[error("a part of {object} cannot be read: {reason}")]
    Part {
        /// Its object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// What the catalog keeps of a sink cannot be read.
    #[error("sink in the catalog: {0}")]
    Damaged(String),
    /// The secret does not open.
    #[error("the secret of the sink does not open")]
    Secret(#[source] muster_cluster::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] muster_archive::Error),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}

/// Why a sink is not made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A value is not allowed; where it stands, as a JSON pointer, and why.
    #[error("{message}")]
    Invalid {
        /// Where.
        at: &'static str,
        /// Why, and what to write.
        message: String,
    },
    /// The name is taken.
    #[error("there is a sink {0:?} already; remove it first, or take another name")]
    Exists(String),
    /// There are as many as there may be.
    #[error("there are {0} sinks already, which is as many as there may be")]
    TooMany(usize),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}

impl Refusal {
    pub(crate) fn invalid(at: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { at, message: message.into() }
    }
}

/// An error with everything it came from.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
