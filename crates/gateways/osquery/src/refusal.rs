//! Refusals in the agents' terms.
//!
//! An agent looks at the body alone: `error` makes it keep what it has and come again, `node_invalid`
//! makes it throw its key away, and an empty body is success. Status codes are for proxies and people.

use std::time::Duration;

use bytes::Bytes;
use muster_codec_osquery::answer;
use muster_endpoints::node_key::Rejected;
use muster_gateway::http::Answer;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The key is known to be bad.
    #[error("{}", Rejected::Invalid)]
    Invalid,
    /// Blocked by a person.
    #[error("{}", Rejected::Blocked)]
    Blocked,
    /// The key is good only with a client certificate, and the connection has none.
    #[error("this agent enrolled with a client certificate and comes without one")]
    Certificate,
    /// No key in header or body.
    #[error("the request has no node key")]
    NoKey,
    /// Not with this secret, or not here.
    #[error("{0}")]
    NotAllowed(String),
    /// Not a request of this protocol.
    #[error("{0}")]
    Malformed(String),
    /// Too many, too much, or a store that does not answer.
    #[error("{reason}")]
    Later {
        /// Why.
        reason: String,
        /// When to come again.
        retry_after: Duration,
    },
}

impl Refusal {
    /// Not now.
    pub(crate) fn later(reason: impl Into<String>, retry_after: Duration) -> Self {
        Self::Later { reason: reason.into(), retry_after }
    }

    /// The answer.
    pub(crate) fn answer(&self) -> Answer {
        let error = || answer::error(&self.to_string());
        match self {
            Self::Invalid => Answer::new(401, answer::node_invalid(&self.to_string())),
            Self::NoKey => Answer::new(401, error()),
            Self::Blocked | Self::Certificate | Self::NotAllowed(_) => Answer::new(403, error()),
            Self::Malformed(_) => Answer::new(400, error()),
            Self::Later { retry_after, .. } => {
                Answer { retry_after: Some(*retry_after), ..Answer::new(503, error()) }
            }
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Invalid => Self::Invalid,
            Rejected::Blocked => Self::Blocked,
            Rejected::Unsure => Self::later(rejected.to_string(), Duration::from_secs(10)),
        }
    }
}

impl From<muster_codec_osquery::Error> for Refusal {
    fn from(error: muster_codec_osquery::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<muster_gateway::Refused> for Refusal {
    fn from(refused: muster_gateway::Refused) -> Self {
        let retry_after = refused.retry_after();
        Self::later(refused.to_string(), retry_after)
    }
}

/// Success without more.
pub(crate) fn taken() -> Answer {
    Answer::ok(answer::OK)
}

/// Success with this body.
pub(crate) fn with(body: Bytes) -> Answer {
    Answer::ok(body)
}
