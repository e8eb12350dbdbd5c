//! What can go wrong, in the terms a caller acts on.

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is taken. Names are never reused, so this is somebody else's object.
    #[error("object {0} exists")]
    AlreadyExists(String),
    /// There is no such object.
    #[error("object {0} does not exist")]
    NotFound(String),
    /// No name of ours.
    #[error("{0:?} is no object name")]
    BadName(String),
    /// More than is read at once.
    #[error("object {name} has {byte_count} bytes, more than are read at once")]
    TooLarge {
        /// The object.
        name: String,
        /// Its length.
        byte_count: u64,
    },
    /// No room left.
    #[error("the volume of the archive is full")]
    Full,
    /// The parts to be replaced are not what they were: somebody else was faster. Nothing was done.
    #[error("the manifest has changed meanwhile")]
    Stale,
    /// The store failed.
    #[error("archive: {0}")]
    Store(String),
    /// The store does not do what is needed.
    #[error("this store is no archive: {0}")]
    Unfit(String),
    /// A part cannot be read.
    #[error("part of {object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// Parts cannot be made one part: together they are too large, or what they hold is.
    #[error("parts of {} objects cannot be merged: {reason}", objects.len())]
    Unmergeable {
        /// The objects they are in.
        objects: Vec<String>,
        /// Why.
        reason: String,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}

impl Error {
    /// The same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full | Self::Stale | Self::Store(_) => true,
            Self::Catalog(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether it is what objects hold, so that trying again is of no use and others may fare better.
    pub(crate) fn is_of_objects(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::NotFound(_)
                | Self::TooLarge { .. }
                | Self::Unmergeable { .. }
        )
    }

    pub(crate) fn of(name: &str, error: &object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound(name.to_owned()),
            object_store::Error::AlreadyExists { .. } => Self::AlreadyExists(name.to_owned()),
            _ if is_full(error) => Self::Full,
            _ => Self::Store(chain(error)),
        }
    }
}

/// Whether the volume is full, by any cause down the chain.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn chain(error: &dyn std::error::Error) -> String {
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
