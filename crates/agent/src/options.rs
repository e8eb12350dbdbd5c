//! What an agent is started with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use muster_types::{Clock, SystemClock};

use crate::Backoff;
use crate::transport::ServerUrl;
use crate::{buffer, query};

/// The enrolment secret, and where it is.
#[derive(Clone)]
pub enum Secret {
    /// Itself.
    Text(String),
    /// A file, read when it is needed.
    File(PathBuf),
}

impl Secret {
    /// The secret without the white space around it.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn read(&self) -> std::io::Result<String> {
        match self {
            Self::Text(text) => Ok(text.trim().to_owned()),
            Self::File(path) => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Secret(…)"),
            Self::File(path) => f.debug_tuple("Secret").field(path).finish(),
        }
    }
}

/// Everything [`crate::run`] needs.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Servers, of which any one will do.
    pub servers: Vec<ServerUrl>,
    /// CAs to trust until the server names others, as PEM.
    pub ca_pem: String,
    /// Folder for the key, the number and the buffer.
    pub data_dir: PathBuf,
    /// For enrolment; not needed once enrolled.
    pub secret: Option<Secret>,
    /// An HTTP proxy; without one the environment decides.
    pub proxy: Option<String>,
    /// How queries are run.
    pub query: query::Command,
    /// What any query may use at most.
    pub limits: query::Limits,
    /// Queries at a time.
    pub concurrent_queries: usize,
    /// Bounds of the buffer.
    pub buffer: buffer::Options,
    /// Between attempts to connect.
    pub backoff: Backoff,
    /// Instead of the machine's identity.
    pub machine_id: Option<String>,
    /// Instead of the machine's name.
    pub hostname: Option<String>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl AgentOptions {
    /// With everything else by default.
    #[must_use]
    pub fn new(servers: Vec<ServerUrl>, ca_pem: String, data_dir: PathBuf) -> Self {
        Self {
            servers,
            ca_pem,
            data_dir,
            secret: None,
            proxy: None,
            query: query::Command::default(),
            limits: query::Limits::default(),
            concurrent_queries: 2,
            buffer: buffer::Options::default(),
            backoff: Backoff::default(),
            machine_id: None,
            hostname: None,
            clock: Arc::new(SystemClock),
        }
    }
}
