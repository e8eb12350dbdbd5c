//! `muster policy …`: what is checked on every endpoint.

use std::collections::HashMap;
use std::io::stdout;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::output::Printer;
use super::results::{question, rows};
use super::schedule::list as list_of;
use super::session::{Session, confirm, flat};
use crate::client::{CliError, Exit};

/// `muster policy …`.
#[derive(Subcommand)]
pub enum Policy {
    /// List policies with how many endpoints pass and fail.
    List,
    /// Show one.
    Show {
        /// Its number or name.
        policy: String,
    },
    /// Make a policy: a question that passes with one row or more.
    #[command(visible_alias = "create")]
    Add {
        /// Its name.
        name: String,
        /// Its parts.
        #[command(flatten)]
        parts: Parts,
    },
    /// Change parts of a policy. Another query makes its former answers void.
    Edit {
        /// Its number or name.
        policy: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// Its parts.
        #[command(flatten)]
        parts: Parts,
    },
    /// Ask a policy again that was switched off.
    Enable {
        /// Its number or name.
        policy: String,
    },
    /// Do not ask a policy any more; it stays.
    Disable {
        /// Its number or name.
        policy: String,
    },
    /// Delete a policy.
    #[command(visible_alias = "delete")]
    Remove {
        /// Its number or name.
        policy: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// List the endpoints that fail, the longest first.
    Failing {
        /// Its number or name.
        policy: String,
    },
    /// List endpoints with what they answered.
    Endpoints {
        /// Its number or name.
        policy: String,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// How often endpoints went from pass to fail or back.
    Flips {
        /// Its number or name.
        policy: String,
    },
}

/// What an endpoint answers to a policy.
#[derive(Clone, Copy, ValueEnum)]
pub enum State {
    /// One row or more.
    Pass,
    /// No row.
    Fail,
    /// It could not be asked.
    Unknown,
}

/// What a policy is made of.
#[derive(Args)]
pub struct Parts {
    /// osquery's SQL.
    #[arg(long, visible_alias = "sql")]
    query: Option<String>,
    /// Read the SQL from a file.
    #[arg(long, short = 'f', conflicts_with = "query")]
    file: Option<PathBuf>,
    /// What it checks and why.
    #[arg(long)]
    description: Option<String>,
    /// What to do where it fails.
    #[arg(long)]
    resolution: Option<String>,
    /// Whether a failure is urgent.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    critical: Option<bool>,
    /// Only this platform: linux, darwin or windows (repeatable); empty for all.
    #[arg(long = "platform")]
    platforms: Vec<String>,
    /// Only endpoints with this label (repeatable); empty for all.
    #[arg(long = "label")]
    labels: Vec<String>,
    /// No endpoint with this label (repeatable); empty for none.
    #[arg(long = "exclude-label")]
    exclude_labels: Vec<String>,
}

impl Parts {
    /// The parts that are given.
    fn body(self) -> Result<Map<String, Value>, CliError> {
        let query = match (&self.query, &self.file) {
            (None, None) => None,
            (query, file) => Some(question(query.clone(), file.as_ref())?),
        };
        let mut body = Map::new();
        let texts =
            [("query", query), ("description", self.description), ("resolution", self.resolution)];
        body.extend(
            texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into()))),
        );
        body.extend(self.critical.map(|critical| ("critical".to_owned(), critical.into())));
        let lists = [
            ("platforms", self.platforms),
            ("labels", self.labels),
            ("exclude_labels", self.exclude_labels),
        ];
        body.extend(
            lists.into_iter().filter_map(|(key, words)| Some((key.to_owned(), list_of(&words)?))),
        );
        Ok(body)
    }
}

/// Runs `muster policy …`.
pub async fn run(session: &Session, command: Policy) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        Policy::List => list(session).await,
        Policy::Show { policy } => session.object(&find(session, &policy).await?),
        Policy::Add { name, parts } => {
            let mut body = parts.body()?;
            if !body.contains_key("query") {
                return Err(CliError::usage("say what to ask, with --query SQL or -f FILE"));
            }
            body.insert("name".into(), name.into());
            session.object(&client.post("/v1/policies", &Value::Object(body)).await?)
        }
        Policy::Edit { policy, name, parts } => {
            let mut body = parts.body()?;
            body.extend(name.map(|name| ("name".to_owned(), name.into())));
            edit(session, &policy, body).await
        }
        Policy::Enable { policy } => {
            edit(session, &policy, [("enabled".to_owned(), json!(true))].into_iter().collect())
                .await
        }
        Policy::Disable { policy } => {
            edit(session, &policy, [("enabled".to_owned(), json!(false))].into_iter().collect())
                .await
        }
        Policy::Remove { policy, yes } => {
            let no = number(session, &policy).await?;
            confirm(&format!("Delete policy {policy} (number {no})?"), yes)?;
            client.delete(&format!("/v1/policies/{no}")).await?;
            session.say(&format!("policy {policy} is deleted"));
            Ok(())
        }
        Policy::Failing { policy } => endpoints(session, &policy, Some("fail")).await,
        Policy::Endpoints { policy, state } => {
            let word = state.map(|state| match state {
                State::Pass => "pass",
                State::Fail => "fail",
                State::Unknown => "unknown",
            });
            endpoints(session, &policy, word).await
        }
        Policy::Flips { policy } => {
            let path = format!("/v1/policies/{}/flips", number(session, &policy).await?);
            let request = client.request(Method::GET, &path).query(&[("format", "ndjson")]);
            rows(session, request, false).await
        }
    }
}

async fn endpoints(session: &Session, policy: &str, state: Option<&str>) -> Result<(), CliError> {
    let path = format!("/v1/policies/{}/endpoints", number(session, policy).await?);
    let request = session.client.request(Method::GET, &path).query(&[("format", "ndjson")]);
    let request = match state {
        Some(state) => request.query(&[("state", state)]),
        None => request,
    };
    rows(session, request, false).await
}

/// The parts that may be written.
const PARTS: [&str; 9] = [
    "name",
    "query",
    "description",
    "resolution",
    "critical",
    "platforms",
    "labels",
    "exclude_labels",
    "enabled",
];

async fn edit(session: &Session, policy: &str, parts: Map<String, Value>) -> Result<(), CliError> {
    if parts.is_empty() {
        return Err(CliError::usage("say what to change, for example --query SQL"));
    }
    let known = find(session, policy).await?;
    let mut body: Map<String, Value> =
        PARTS.iter().map(|part| ((*part).to_owned(), known[*part].clone())).collect();
    body.extend(parts);
    let path = format!("/v1/policies/{}", known["no"]);
    session.object(&session.client.send(Method::PUT, &path, &Value::Object(body)).await?)
}

async fn all(session: &Session) -> Result<Vec<Value>, CliError> {
    let query = [("limit", "1000".to_owned())];
    let page: Value = session.client.get_with("/v1/policies", &query).await?;
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

async fn find(session: &Session, given: &str) -> Result<Value, CliError> {
    let known = all(session).await?;
    let found = known.into_iter().find(|policy| {
        policy["name"] == given || given.parse::<u64>().is_ok_and(|no| policy["no"] == no)
    });
    found.ok_or_else(|| CliError::new(Exit::Refused, format!("there is no policy {given:?}")))
}

async fn number(session: &Session, given: &str) -> Result<u64, CliError> {
    Ok(find(session, given).await?["no"].as_u64().unwrap_or_default())
}

const COUNTS: [&str; 4] = ["pass", "fail", "unknown", "pending"];

async fn list(session: &Session) -> Result<(), CliError> {
    let query = [("format", "json".to_owned())];
    let counts: Value = session.client.get_with("/v1/policies/counts", &query).await?;
    let counted = counts["rows"].as_array().into_iter().flatten();
    let counted: HashMap<u64, &Value> =
        counted.filter_map(|row| Some((row["policy"].as_u64()?, row))).collect();
    let columns =
        ["no", "name", "critical", "enabled", "platforms", "pass", "fail", "unknown", "pending"];
    let mut printer = Printer::new(session.format, stdout().lock(), session.shown(&columns));
    for policy in all(session).await? {
        let mut row = flat(&policy);
        let counts = policy["no"].as_u64().and_then(|no| counted.get(&no));
        for name in COUNTS {
            row.insert(name.into(), counts.map(|counts| counts[name].clone()).unwrap_or_default());
        }
        printer.row(row)?;
    }
    Ok(printer.finish()?)
}
