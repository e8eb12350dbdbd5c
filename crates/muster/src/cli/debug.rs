//! `muster debug …`: what instances know of themselves, for whoever has to find a fault.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::session::Session;
use crate::client::{CliError, Exit};

/// Between looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `muster debug …`.
#[derive(Subcommand)]
pub enum Debug {
    /// Profiles, metrics, logs, configuration and statistics of instances, in one .tar.gz.
    Archive(Archive),
}

/// Flags of `muster debug archive`.
#[derive(clap::Args)]
pub struct Archive {
    /// Only this instance, by name or id (repeatable). Default: all that live.
    #[arg(long, conflicts_with = "all")]
    instance: Vec<String>,
    /// All that live.
    #[arg(long)]
    all: bool,
    /// How long the processor is watched; 0: not at all.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=120))]
    seconds: u32,
    /// The file, which must not exist. Default: muster-debug-NUMBER.tar.gz.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Runs `muster debug …`.
pub async fn run(session: &Session, command: Debug) -> Result<(), CliError> {
    let Debug::Archive(args) = command;
    let wanted = json!({"instances": args.instance, "seconds": args.seconds});
    let mut archive: Value = session.client.post("/v1/debug-archives", &wanted).await?;
    let no = archive["no"].as_i64().unwrap_or_default();
    let path = format!("/v1/debug-archives/{no}");
    eprintln!("debug archive {no}: instances gather for {} s", args.seconds);
    // The server says when nobody is waited for any longer.
    while archive["complete"].as_bool() == Some(false) {
        tokio::time::sleep(LOOK_EVERY).await;
        archive = session.client.get(&path).await?;
    }
    let to = args.to.unwrap_or_else(|| format!("muster-debug-{no}.tar.gz").into());
    fetch(session, &format!("{path}/content"), &to).await?;
    let mut silent = Vec::new();
    for part in archive["instances"].as_array().into_iter().flatten() {
        let name = part["name"].as_str().unwrap_or_default();
        match part["state"].as_str() {
            Some("ready") => {}
            Some("failed") => {
                eprintln!("{name}: failed: {}", part["problem"].as_str().unwrap_or_default());
                silent.push(name);
            }
            _ => {
                eprintln!("{name}: did not answer in time");
                silent.push(name);
            }
        }
    }
    println!("{}", to.display());
    if silent.is_empty() {
        return Ok(());
    }
    let message = format!("{} instance(s) are missing in it: {}", silent.len(), silent.join(", "));
    Err(CliError::new(Exit::Partial, message))
}

async fn fetch(session: &Session, path: &str, to: &Path) -> Result<(), CliError> {
    let response = session.client.checked(session.client.request(Method::GET, path)).await?;
    let failed = |error| CliError::new(Exit::Refused, format!("{}: {error}", to.display()));
    // Never over a file that is there; not for others to read.
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut file = file.open(to).map_err(failed)?;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let written = match chunk {
            Ok(chunk) => file.write_all(&chunk),
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = written {
            let _ = std::fs::remove_file(to);
            return Err(CliError::new(Exit::Partial, format!("the archive broke off: {error}")));
        }
    }
    Ok(())
}
