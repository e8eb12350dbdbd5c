//! The agent's file: YAML.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::transport::{BadUrl, ServerUrl};
use crate::{AgentOptions, Secret};

/// What stands in `agent.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Servers: `https://NAME:PORT`.
    pub servers: Vec<String>,
    /// File with the CAs that sign their certificates.
    pub ca: PathBuf,
    /// Folder for the key, the number and the buffer.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// File with the enrolment secret; may be removed once enrolled.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// HTTP proxy; without it `https_proxy` and `no_proxy` of the environment decide.
    #[serde(default)]
    pub proxy: Option<String>,
    /// MiB of results that may wait for the server.
    #[serde(default = "default_buffer")]
    pub buffer_mib: u64,
}

fn default_data() -> PathBuf {
    "/var/lib/muster-agent".into()
}

fn default_buffer() -> u64 {
    256
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not as it should be.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// A server's address.
    #[error(transparent)]
    Url(#[from] BadUrl),
}

impl AgentConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        serde_norway::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Reads what it points at.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn options(&self) -> Result<AgentOptions, ConfigError> {
        let servers: Vec<ServerUrl> =
            self.servers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let mut options = AgentOptions::new(servers, read(&self.ca)?, self.data.clone());
        options.secret = self.secret_file.clone().map(Secret::File);
        options.proxy.clone_from(&self.proxy);
        options.buffer.quota_bytes = self.buffer_mib.saturating_mul(1 << 20);
        Ok(options)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_unknown_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, "PEM").unwrap();
        let text = format!("servers: [\"https://a:1\", b]\nca: {}\nproxy: p:3128\n", ca.display());
        std::fs::write(&path, text).unwrap();
        let options = AgentConfig::read(&path).unwrap().options().unwrap();
        assert_eq!(options.servers[1].to_string(), "https://b:443");
        assert_eq!(options.ca_pem, "PEM");
        assert_eq!(options.proxy.as_deref(), Some("p:3128"));
        std::fs::write(&path, "servers: []\nca: x\nserver: y\n").unwrap();
        let error = AgentConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("unknown field `server`"), "{error}");
    }
}
