//! `muster approval …`: what waits for a second person.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::session::Session;
use crate::client::CliError;

/// `muster approval …`.
#[derive(Subcommand)]
pub enum Approval {
    /// List what waits, oldest first.
    List {
        /// What was decided instead.
        #[arg(long, value_enum, default_value_t)]
        state: State,
    },
    /// Agree; what waited goes on. Nobody agrees to what they asked for themselves.
    Approve {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuse; what waited is stopped.
    Deny {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// How far a request is.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum State {
    /// It waits.
    #[default]
    Pending,
    /// Somebody agreed.
    Approved,
    /// Somebody refused.
    Denied,
}

/// Runs `muster approval …`.
pub async fn run(session: &Session, command: Approval) -> Result<(), CliError> {
    match command {
        Approval::List { state } => {
            let state = state.to_possible_value().expect("no state is skipped");
            let columns = match state.get_name() {
                "pending" => {
                    &["no", "operation", "subject", "requested_by", "requested_at", "reason"][..]
                }
                _ => &[
                    "no",
                    "operation",
                    "subject",
                    "requested_by",
                    "reason",
                    "decided_by",
                    "decided_at",
                    "decision_reason",
                ][..],
            };
            let query = [("state", state.get_name().to_owned())];
            session.list("/v1/approvals", &query, columns).await
        }
        Approval::Approve { no, reason } => {
            decide(session, no, "approve", &reason).await?;
            session.say(&format!("approval {no}: approved; what waited goes on"));
            Ok(())
        }
        Approval::Deny { no, reason } => {
            decide(session, no, "deny", &reason).await?;
            session.say(&format!("approval {no}: denied; what waited is stopped"));
            Ok(())
        }
    }
}

async fn decide(session: &Session, no: u64, word: &str, reason: &str) -> Result<(), CliError> {
    let path = format!("/v1/approvals/{no}/{word}");
    let _: Value = session.client.post(&path, &json!({"reason": reason})).await?;
    Ok(())
}
