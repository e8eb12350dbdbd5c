//! `muster node-key …`: the keys that sign what osquery agents show with every request.

use clap::Subcommand;
use serde_json::json;

use super::session::{Session, confirm};
use crate::client::CliError;

/// `muster node-key …`.
#[derive(Subcommand)]
pub enum NodeKey {
    /// List the keys.
    List,
    /// Add a key, which signs from now on. Agents keep the node keys they have.
    Rotate,
    /// Retire a key: within an hour every agent whose node key it signed enrols again.
    Retire {
        /// Its number.
        no: u8,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster node-key …`.
pub async fn run(session: &Session, command: NodeKey) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        NodeKey::List => {
            session.list("/v1/node-keys", &[], &["no", "created_at", "retired_at"]).await
        }
        NodeKey::Rotate => session.object(&client.post("/v1/node-keys", &json!({})).await?),
        NodeKey::Retire { no, yes } => {
            let question =
                format!("Retire node key {no}? Every agent that has one of it must enrol again.");
            confirm(&question, yes)?;
            client.delete(&format!("/v1/node-keys/{no}")).await?;
            session.say(&format!("node key {no} runs out over the next hour"));
            Ok(())
        }
    }
}
