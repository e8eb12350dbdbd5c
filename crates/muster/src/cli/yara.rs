//! `muster yara …`: YARA rules that osquery agents fetch by name.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::results::question;
use super::session::{Session, confirm};
use crate::client::CliError;

/// `muster yara …`.
#[derive(Subcommand)]
pub enum Yara {
    /// List the files.
    List,
    /// Print the rules of one.
    Show {
        /// Its name.
        name: String,
    },
    /// Store a file of rules; an earlier one of that name is replaced.
    Set {
        /// Its name: agents fetch it from /api/osquery/yara/NAME.
        name: String,
        /// The file; standard input when missing.
        #[arg(long, short = 'f')]
        file: Option<PathBuf>,
    },
    /// Remove one.
    #[command(visible_alias = "delete")]
    Remove {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster yara …`.
pub async fn run(session: &Session, command: Yara) -> Result<(), CliError> {
    let client = &session.client;
    let path = |name: &str| format!("/v1/osquery/yara/{name}");
    match command {
        Yara::List => {
            let columns = ["name", "byte_count", "created_at", "created_by"];
            session.list("/v1/osquery/yara", &[], &columns).await
        }
        Yara::Show { name } => {
            let rules: Value = client.get(&path(&name)).await?;
            print!("{}", rules["text"].as_str().unwrap_or_default());
            Ok(())
        }
        Yara::Set { name, file } => {
            let text = question(None, file.as_ref())?;
            let _: Value = client.send(Method::PUT, &path(&name), &json!({ "text": text })).await?;
            session.say(&format!(
                "{name} is stored; agents fetch it when a yara query names its URL, which \
                 yara.signature_urls of their configuration must allow"
            ));
            Ok(())
        }
        Yara::Remove { name, yes } => {
            confirm(&format!("Remove the YARA rules {name}?"), yes)?;
            client.delete(&path(&name)).await?;
            session.say(&format!("{name} is removed; agents cannot fetch it any more"));
            Ok(())
        }
    }
}
