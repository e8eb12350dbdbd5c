//! `muster label rule …`: labels that follow a SELECT.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::results::question;
use super::session::{Session, confirm};
use crate::client::CliError;

/// `muster label rule …`.
#[derive(Subcommand)]
pub enum LabelRule {
    /// Show the rule of a label and when it was last asked.
    Show {
        /// The label.
        label: String,
    },
    /// Make a label follow a rule: its members are what the query answers, as you, every minute.
    Set {
        /// The label.
        label: String,
        /// The rule.
        #[command(flatten)]
        text: Text,
    },
    /// Ask a rule once and change nothing.
    Preview {
        /// See who would come to this label and go.
        #[arg(long)]
        label: Option<String>,
        /// The rule.
        #[command(flatten)]
        text: Text,
    },
    /// End a rule; the label keeps its members.
    #[command(visible_alias = "delete")]
    Remove {
        /// The label.
        label: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// What a rule changed, newest first.
    History {
        /// The label.
        label: String,
    },
}

/// The text of a rule.
#[derive(Args)]
pub struct Text {
    /// One SELECT with a column `endpoint`; from standard input when missing.
    pub query: Option<String>,
    /// Read it from a file.
    #[arg(long, short = 'f', conflicts_with = "query")]
    pub file: Option<PathBuf>,
}

/// Runs `muster label rule …`.
pub async fn run(session: &Session, command: LabelRule) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        LabelRule::Show { label } => {
            session.object(&client.get(&format!("/v1/labels/{label}/rule")).await?)
        }
        LabelRule::Set { label, text } => {
            let query = question(text.query, text.file.as_ref())?;
            let path = format!("/v1/labels/{label}/rule");
            session
                .object(&client.send(reqwest::Method::PUT, &path, &json!({"query": query})).await?)
        }
        LabelRule::Preview { label, text } => {
            let query = question(text.query, text.file.as_ref())?;
            let body = json!({"query": query, "label": label});
            let mut answer: Value = client.post("/v1/label-rules/preview", &body).await?;
            let named = |one: &Value| one["name"].clone();
            let examples = answer["examples"].as_array().into_iter().flatten().map(named);
            let examples: Vec<Value> = examples.collect();
            if session.format == super::output::Format::Table {
                answer["examples"] = examples.into();
            }
            session.object(&answer)
        }
        LabelRule::Remove { label, yes } => {
            confirm(&format!("End the rule of label {label}?"), yes)?;
            client.delete(&format!("/v1/labels/{label}/rule")).await?;
            session.say(&format!("label {label} follows no rule any more; its members stay"));
            Ok(())
        }
        LabelRule::History { label } => {
            let columns = ["at", "added_count", "removed_count", "member_count"];
            session.list(&format!("/v1/labels/{label}/rule/history"), &[], &columns).await
        }
    }
}
