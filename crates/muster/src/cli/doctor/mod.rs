//! `muster doctor`: names what is wrong with an installation, and what to do. Any finding is exit 1.
//!
//! - [`remote`]: through a server, as people use it: also the way there is looked at.
//! - [`beside`]: beside the stores, with the server's configuration and without a server.

mod beside;
mod certificate;
mod remote;

use clap::Args;
use muster_telemetry::doctor::Finding;

use super::beside_the_store::Beside;
use super::output::{Format, Printer};
use crate::client::{CliError, Exit};

/// Flags of `muster doctor`.
#[derive(Args)]
pub struct Doctor {
    /// Beside which stores to look; needs no server that runs.
    #[command(flatten)]
    stores: Beside,
}

/// Runs the checks and prints what they found.
pub async fn run(command: Doctor, context: Option<&str>, format: Format) -> Result<(), CliError> {
    let findings = match command.stores.wanted(context) {
        Some(stores) => beside::look(&stores).await?,
        None => remote::look(context).await?,
    };
    print(&findings, format)?;
    if findings.is_empty() {
        if format == Format::Table {
            eprintln!("nothing is wrong");
        }
        return Ok(());
    }
    Err(CliError::new(Exit::Refused, format!("{} finding(s)", findings.len())))
}

/// Paragraphs for people, rows for programs.
fn print(findings: &[Finding], format: Format) -> Result<(), CliError> {
    if format == Format::Table {
        findings.iter().for_each(paragraph);
        return Ok(());
    }
    let mut columns = &["id", "instance", "problem", "remedy"][..];
    if format != Format::Csv {
        columns = &[];
    }
    let mut printer = Printer::new(format, std::io::stdout().lock(), columns);
    for finding in findings {
        let row = serde_json::to_value(finding).map_err(anyhow::Error::from)?;
        printer.row(row.as_object().cloned().unwrap_or_default())?;
    }
    Ok(printer.finish()?)
}

fn paragraph(finding: &Finding) {
    let whose = finding.instance.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let line = format!("{}{whose}: {}\n    {}", finding.id, finding.problem, finding.remedy);
    println!("{}", line.lines().map(super::output::printable).collect::<Vec<_>>().join("\n"));
}
