//! Why there is no certificate.

/// What went wrong with a CA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog failed, or what is sealed in it does not open.
    #[error(transparent)]
    Secret(#[from] muster_cluster::Error),
    /// A certificate or a key cannot be made or read.
    #[error("{doing}: {reason}")]
    Certificate {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// There is no CA of this number.
    #[error("there is no CA {0}")]
    Unknown(u32),
    /// It signs the servers' certificates.
    #[error("CA {0} signs the servers' certificates; let another sign first")]
    Signs(u32),
    /// There are as many as may be.
    #[error("there are {0} CAs already; retire one first")]
    Full(usize),
}

impl From<muster_catalog::Error> for Error {
    fn from(error: muster_catalog::Error) -> Self {
        Self::Secret(error.into())
    }
}

pub(crate) fn failed<E: ToString>(doing: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Certificate { doing, reason: error.to_string() }
}
