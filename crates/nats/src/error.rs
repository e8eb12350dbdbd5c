//! Why there is no connection.

use std::path::PathBuf;

/// Why a connection cannot be made: something that waiting does not mend.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL names no servers.
    #[error("{url:?} is no address of NATS ({what}); write nats://host:4222,host:4222 or tls://…")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the configuration cannot be used.
    #[error("cannot use {}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Two settings do not go together.
    #[error("{0}")]
    Settings(String),
    /// A server is there and refuses us, or we refuse it.
    #[error("NATS at {url} does not take this connection: {what}")]
    Refused {
        /// The servers.
        url: String,
        /// What was said.
        what: String,
    },
}
