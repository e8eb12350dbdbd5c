//! `muster agent …`: this machine as an endpoint.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_agent::cli::AgentArgs;
use tokio_util::sync::CancellationToken;

use crate::client::{CliError, Exit};
use crate::config::LogConfig;
use crate::server::logging;

/// `muster agent …`.
#[derive(Subcommand)]
pub enum AgentCommand {
    /// Run the agent until it is told to end; it enrols first when it has to.
    Run(AgentFlags),
    /// Enrol this machine and end.
    Enrol(AgentFlags),
    /// Run the agent of a server whose CA is known by its fingerprint only: the CA is fetched from
    /// the server, checked, and kept. Ends with exit 1 when the server cannot be reached or refuses.
    Join {
        /// SHA-256 of the server's CA certificate, as `muster up` prints it.
        #[arg(long, value_name = "FINGERPRINT")]
        ca_sha256: String,
        /// Everything else.
        #[command(flatten)]
        flags: AgentFlags,
    },
    /// Make this machine forget that it was enrolled: key, number, CAs, and what was not sent yet. It is a new
    /// agent when it enrols again.
    Leave(super::agent_leave::Leave),
}

/// Flags of the agent; each goes before the file's.
#[derive(Args, Clone)]
pub struct AgentFlags {
    /// The agent's file (YAML).
    #[arg(long, short = 'c')]
    pub config: Option<PathBuf>,
    /// A server, https://HOST:PORT of its agents' listener (repeatable).
    #[arg(long = "server")]
    pub servers: Vec<String>,
    /// File with the CAs to trust (PEM).
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Folder for the key, the number and the buffer.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// File with the enrolment secret. Without it MUSTER_ENROL_SECRET is used.
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// HTTP proxy, host:port.
    #[arg(long)]
    pub proxy: Option<String>,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

impl AgentFlags {
    fn args(&self) -> AgentArgs {
        AgentArgs {
            config: self.config.clone(),
            servers: self.servers.clone(),
            ca: self.ca.clone(),
            data: self.data.clone(),
            secret_file: self.secret_file.clone(),
            secret: std::env::var("MUSTER_ENROL_SECRET").ok(),
            proxy: self.proxy.clone(),
        }
    }
}

/// Runs `muster agent …`.
pub fn run(command: AgentCommand) -> Result<(), CliError> {
    let level = std::env::var("MUSTER_LOG__LEVEL").unwrap_or_else(|_| "info".into());
    logging::install(&LogConfig { level, ..LogConfig::default() })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Refused, error.to_string()))?;
    runtime.block_on(async {
        match command {
            AgentCommand::Enrol(flags) => {
                let number = muster_agent::cli::enrol(&flags.args()).await.map_err(failed)?;
                eprintln!("this machine is enrolled as agent {number}");
                Ok(())
            }
            AgentCommand::Run(flags) => serve(&flags).await,
            AgentCommand::Leave(leave) => super::agent_leave::run(&leave),
            AgentCommand::Join { ca_sha256, mut flags } => {
                super::join::pin_ca(&mut flags, &ca_sha256).await?;
                super::join::learn_servers(&mut flags).await;
                // Somebody is looking on: a wrong secret is told now, not tried for ever.
                let number = muster_agent::cli::enrol(&flags.args()).await.map_err(failed)?;
                eprintln!("this machine is enrolled as agent {number}");
                serve(&flags).await
            }
        }
    })
}

async fn serve(flags: &AgentFlags) -> Result<(), CliError> {
    if flags.with_parent {
        let signal = Some(rustix::process::Signal::TERM);
        rustix::process::set_parent_process_death_signal(signal)
            .map_err(|error| CliError::new(Exit::Refused, error.to_string()))?;
    }
    let shutdown = CancellationToken::new();
    let args = flags.args();
    let agent = muster_agent::cli::run(&args, shutdown.clone());
    tokio::pin!(agent);
    let never = CancellationToken::new();
    let mut signals = crate::server::Signals::listen()?;
    tokio::select! {
        ended = &mut agent => return ended.map_err(failed),
        () = signals.wait(&never, || {}) => shutdown.cancel(),
    }
    agent.await.map_err(failed)
}

fn failed(error: muster_agent::cli::CliError) -> CliError {
    CliError::from(anyhow::Error::from(error))
}
