//! `muster doctor`: names what is wrong with an installation, and what to do. Any finding is exit 1.
//!
//! - [`remote`]: through a server, as people use it: also the way there is looked at.
//! - [`beside`]: beside the stores, with the server's configuration and without a server.

mod beside;
mod certificate;
mod remote;

use std::path::PathBuf;

use clap::Args;
use muster_telemetry::doctor::Finding;

use super::output::Format;
use crate::client::{CliError, Exit};

/// Flags of `muster doctor`.
#[derive(Args)]
pub struct Doctor {
    /// Look beside the stores that this server's configuration names; needs no server that runs.
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the checks and prints what they found.
pub async fn run(command: Doctor, context: Option<&str>, format: Format) -> Result<(), CliError> {
    let findings = match command.config {
        Some(file) => beside::look(&file).await?,
        None => remote::look(context).await?,
    };
    for finding in &findings {
        match format {
            Format::Table | Format::Csv => print(finding),
            Format::Json | Format::Ndjson => {
                println!("{}", serde_json::to_string(finding).map_err(anyhow::Error::from)?);
            }
        }
    }
    if findings.is_empty() {
        if format == Format::Table {
            println!("nothing is wrong");
        }
        return Ok(());
    }
    Err(CliError::new(Exit::Refused, format!("{} finding(s)", findings.len())))
}

fn print(finding: &Finding) {
    let whose = finding.instance.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let line = format!("{}{whose}: {}\n    {}", finding.id, finding.problem, finding.remedy);
    println!("{}", line.lines().map(super::output::printable).collect::<Vec<_>>().join("\n"));
}
