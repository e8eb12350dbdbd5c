//! What `muster agent …` calls.

use std::path::PathBuf;

use muster_types::AgentNo;
use tokio_util::sync::CancellationToken;

use crate::{AgentConfig, AgentOptions, ConfigError, Secret};

/// What the command line says; each item goes before the file's.
#[derive(Clone, Debug, Default)]
pub struct AgentArgs {
    /// The agent's YAML file.
    pub config: Option<PathBuf>,
    /// Servers.
    pub servers: Vec<String>,
    /// File with CAs.
    pub ca: Option<PathBuf>,
    /// Data folder.
    pub data: Option<PathBuf>,
    /// File with the enrolment secret.
    pub secret_file: Option<PathBuf>,
    /// The enrolment secret itself, from the environment or standard input: never an argument, which
    /// everybody on the machine can read.
    pub secret: Option<String>,
    /// HTTP proxy.
    pub proxy: Option<String>,
}

/// Why the agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something must be given.
    #[error("{0} is missing: give it as an argument or in the configuration file")]
    Missing(&'static str),
    /// The agent itself.
    #[error(transparent)]
    Agent(#[from] crate::Error),
}

impl AgentArgs {
    /// File and arguments together.
    ///
    /// # Errors
    /// [`CliError`].
    pub fn options(&self) -> Result<AgentOptions, CliError> {
        let mut config = match &self.config {
            Some(path) => AgentConfig::read(path)?,
            None => AgentConfig {
                servers: Vec::new(),
                ca: PathBuf::new(),
                data: "/var/lib/muster-agent".into(),
                secret_file: None,
                proxy: None,
                buffer_mib: 256,
            },
        };
        if !self.servers.is_empty() {
            config.servers.clone_from(&self.servers);
        }
        config.ca = self.ca.clone().unwrap_or(config.ca);
        config.data = self.data.clone().unwrap_or(config.data);
        config.secret_file = self.secret_file.clone().or(config.secret_file);
        config.proxy = self.proxy.clone().or(config.proxy);
        if config.servers.is_empty() {
            return Err(CliError::Missing("a server"));
        }
        if config.ca.as_os_str().is_empty() {
            return Err(CliError::Missing("the CA file"));
        }
        let mut options = config.options()?;
        if let Some(secret) = &self.secret {
            options.secret = Some(Secret::Text(secret.clone()));
        }
        Ok(options)
    }
}

/// `muster agent enrol`: enrols this machine once and gives its number.
///
/// # Errors
/// [`CliError`].
pub async fn enrol(args: &AgentArgs) -> Result<AgentNo, CliError> {
    Ok(crate::enrol(&args.options()?).await?)
}

/// `muster agent run`: the agent, until told to stop.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &AgentArgs, shutdown: CancellationToken) -> Result<(), CliError> {
    Ok(crate::run(args.options()?, shutdown).await?)
}
