//! `muster osquery-config …`: what osquery agents are configured with, besides schedules.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::results::question;
use super::session::{Session, confirm};
use crate::client::CliError;

/// `muster osquery-config …`.
#[derive(Subcommand)]
pub enum OsqueryConfig {
    /// List the parts it is made of.
    List,
    /// Show one part.
    Show {
        /// Its name.
        name: String,
    },
    /// Store a part; an earlier one of that name is replaced.
    Set(Set),
    /// Remove a part.
    #[command(visible_alias = "delete")]
    Remove {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Print the whole document that an agent is given now.
    Document {
        /// Number of the agent (see `muster agents`).
        agent: u32,
    },
}

/// A part to be stored.
#[derive(Args)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// File with sections of osquery's configuration as JSON, as osquery reads it; standard input
    /// when missing.
    #[arg(long, short = 'f')]
    pub file: Option<PathBuf>,
    /// Only for endpoints with this label.
    #[arg(long, short = 'l')]
    pub label: Option<String>,
    /// Only on these systems, divided by commas: darwin, linux, windows, posix.
    #[arg(long)]
    pub platform: Option<String>,
    /// Of two parts that say different things the one with the higher number wins.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub precedence: i64,
}

/// Runs `muster osquery-config …`.
pub async fn run(session: &Session, command: OsqueryConfig) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        OsqueryConfig::List => {
            let columns = ["name", "label", "platforms", "precedence", "config"];
            session.list("/v1/osquery/config", &[], &columns).await
        }
        OsqueryConfig::Show { name } => {
            session.object(&client.get(&format!("/v1/osquery/config/{name}")).await?)
        }
        OsqueryConfig::Set(set) => {
            let text = question(None, set.file.as_ref())?;
            let config = muster_schedules::import::json::parse(&text)
                .map_err(|(line, problem)| CliError::usage(format!("line {line}: {problem}")))?;
            let body = json!({
                "config": config.plain(),
                "label": set.label.unwrap_or_default(),
                "platforms": set.platform.unwrap_or_default(),
                "precedence": set.precedence,
            });
            let path = format!("/v1/osquery/config/{}", set.name);
            let _: Value = client.send(Method::PUT, &path, &body).await?;
            session.say(&format!("{} is stored; agents have it with their next refresh", set.name));
            Ok(())
        }
        OsqueryConfig::Remove { name, yes } => {
            confirm(&format!("Remove {name} from the configuration of agents?"), yes)?;
            client.delete(&format!("/v1/osquery/config/{name}")).await?;
            session
                .say(&format!("{name} is removed; agents are without it with their next refresh"));
            Ok(())
        }
        OsqueryConfig::Document { agent } => {
            let document: Value = client.get(&format!("/v1/osquery/document/{agent}")).await?;
            println!("{document:#}");
            Ok(())
        }
    }
}
