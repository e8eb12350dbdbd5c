//! `muster agent leave`: this machine is nobody's agent any more.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use muster_agent::AgentConfig;

use super::session::confirm;
use crate::client::{CliError, Exit};

/// Flags of `muster agent leave`.
#[derive(Args)]
pub struct Leave {
    /// The agent's file (YAML), which says where the data folder is.
    #[arg(long, short = 'c')]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Asks, and removes.
pub fn run(args: &Leave) -> Result<(), CliError> {
    let file = args.config.as_deref().map(AgentConfig::read).transpose();
    let file = file.map_err(anyhow::Error::from)?;
    // The file with CAs that a configuration names was not put there by joining.
    let keep = file.as_ref().map(|file| file.ca.clone());
    let data = args.data.clone().or_else(|| file.map(|file| file.data));
    let data = data.unwrap_or_else(|| PathBuf::from("/var/lib/muster-agent"));
    let folder = data.display();
    let failed = || format!("leave with the data folder {folder}");
    let question = match muster_agent::agent_no(&data).with_context(failed)? {
        Some(no) => format!("Remove agent {no} from this machine, with what it has not sent yet?"),
        None if data.is_dir() => {
            format!("{folder} holds no number. Remove what else is an agent's?")
        }
        None => {
            return Err(CliError::new(Exit::Refused, format!("there is no agent in {folder}")));
        }
    };
    confirm(&question, args.yes)?;
    let left = muster_agent::leave(&data, keep.as_deref()).with_context(failed)?;
    for path in &left.removed {
        println!("{}", path.display());
    }
    match left.agent_no {
        Some(no) => eprintln!(
            "this machine is agent {no} no more; the server lists it until: muster endpoint delete"
        ),
        None => eprintln!("this machine is no agent"),
    }
    Ok(())
}
