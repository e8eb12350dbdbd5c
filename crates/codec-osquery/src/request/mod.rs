//! What agents post.

mod carve;
mod enrol;
mod key;
mod log;
mod scan;
mod write;

pub use carve::{CarveBegin, CarveBlock};
pub use enrol::{EnrolRequest, HostDetails, Platform};
pub use key::KeyOnly;
pub use log::{LINES_MAX, LogRequest, LogType};
pub use write::{QUERIES_MAX, QueryAnswer, QueryUsed, WriteRequest};

/// Why a body is no such request. Worded as `{"error":…}`, so that the agent comes again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not an object, or a member is of another type.
    #[error("body is not the JSON expected: {0}")]
    Json(String),
    /// A member is missing, or makes no sense.
    #[error("body has no valid {0}")]
    Member(&'static str),
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// The bytes of `whole` that `part`, which must be a part of it, stands in; shared.
fn share(whole: &bytes::Bytes, part: &str) -> bytes::Bytes {
    whole.slice_ref(part.as_bytes())
}

/// `text` as UTF-8, which [`crate::body::lossy`] has made sure of.
fn utf8(text: &bytes::Bytes) -> Result<&str, Error> {
    std::str::from_utf8(text).map_err(|error| Error::Json(error.to_string()))
}
