//! Commands that are one call: lists and single objects.

use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

use super::label_rule::{self, LabelRule};
use super::query::numbers;
use super::scope::ScopeArgs;
use super::session::{Session, confirm};
use crate::client::{CliError, Exit};
use crate::config::Span;
use muster_types::{Clock, SystemClock};

/// Flags of `muster endpoints`.
#[derive(clap::Args)]
pub struct Endpoints {
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only those that are online now.
    #[arg(long)]
    pub online: bool,
    /// Only those whose name holds this.
    pub search: Option<String>,
}

/// `muster endpoints`.
pub async fn endpoints(session: &Session, args: Endpoints) -> Result<(), CliError> {
    let mut query = Vec::new();
    let mut list = |name, words: &[String]| {
        query.extend((!words.is_empty()).then(|| (name, words.join(","))));
    };
    let endpoints = numbers(session, &args.scope.endpoints).await?;
    let endpoints: Vec<String> = endpoints.iter().map(u64::to_string).collect();
    list("endpoint", &endpoints);
    list("label", &args.scope.labels);
    list("exclude_label", &args.scope.exclude_labels);
    query.extend(args.scope.condition.map(|condition| ("condition", condition)));
    if args.online {
        query.push(("online", "true".to_owned()));
    }
    query.extend(args.search.map(|word| ("search", word)));
    let columns =
        ["no", "name", "online", "platform", "os_name", "os_version", "labels", "last_seen"];
    session.list("/v1/endpoints", &query, &columns).await
}

/// The number of an endpoint that was given by number or by name.
pub async fn endpoint_number(session: &Session, given: &str) -> Result<u64, CliError> {
    if let Ok(number) = given.parse() {
        return Ok(number);
    }
    let query = [("name", given.to_owned())];
    let page: Value = session.client.get_with("/v1/endpoints", &query).await?;
    let exact = page["items"].as_array().cloned().unwrap_or_default();
    match &exact[..] {
        [one] => Ok(one["no"].as_u64().unwrap_or_default()),
        [] => Err(CliError::new(Exit::Refused, format!("no endpoint is named {given:?}"))),
        _ => {
            let numbers: Vec<String> = exact.iter().map(|item| item["no"].to_string()).collect();
            let message =
                format!("{given:?} names endpoints {}; give the number", numbers.join(", "));
            Err(CliError::usage(message))
        }
    }
}

/// Flags of `muster agents`.
#[derive(clap::Args)]
pub struct Agents {
    /// Only those of this kind.
    #[arg(long, value_parser = ["native", "osquery", "velociraptor", "fleetspeak"])]
    pub kind: Option<String>,
    /// Only clones: those that came with a copied identity.
    #[arg(long)]
    pub clones: bool,
}

/// `muster agents`.
pub async fn agents(session: &Session, args: Agents) -> Result<(), CliError> {
    let mut query = Vec::new();
    query.extend(args.kind.map(|kind| ("kind", kind)));
    query.extend(args.clones.then(|| ("clones", "true".to_owned())));
    let columns = [
        "no",
        "endpoint",
        "kind",
        "hostname",
        "state",
        "online",
        "version",
        "clone_of",
        "last_seen",
        "last_address",
    ];
    session.list("/v1/agents", &query, &columns).await
}

/// `muster label …`.
#[derive(Subcommand)]
pub enum Label {
    /// List labels.
    List,
    /// Make a label.
    Create {
        /// Its name.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Delete a label; the endpoints stay.
    Delete {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Put a label on endpoints.
    Add {
        /// The label.
        label: String,
        /// Numbers or names.
        #[arg(required = true)]
        endpoints: Vec<String>,
    },
    /// Take a label off endpoints.
    Remove {
        /// The label.
        label: String,
        /// Numbers or names.
        #[arg(required = true)]
        endpoints: Vec<String>,
    },
    /// Labels that follow a query.
    #[command(subcommand)]
    Rule(LabelRule),
}

/// Runs `muster label …`.
pub async fn label(session: &Session, command: Label) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        Label::List => {
            session.list("/v1/labels", &[], &["name", "endpoint_count", "description"]).await
        }
        Label::Create { name, description } => {
            let body = json!({"name": name, "description": description});
            session.object(&client.post("/v1/labels", &body).await?)
        }
        Label::Delete { name, yes } => {
            confirm(
                &format!("Delete label {name}? What is limited to it reaches nobody any more."),
                yes,
            )?;
            client.delete(&format!("/v1/labels/{name}")).await?;
            session.say(&format!("label {name} is deleted; its endpoints stay"));
            Ok(())
        }
        Label::Add { label, endpoints } => members(session, &label, "add", &endpoints).await,
        Label::Remove { label, endpoints } => members(session, &label, "remove", &endpoints).await,
        Label::Rule(command) => label_rule::run(session, command).await,
    }
}

async fn members(
    session: &Session,
    label: &str,
    change: &str,
    endpoints: &[String],
) -> Result<(), CliError> {
    let mut numbers = Vec::new();
    for endpoint in endpoints {
        numbers.push(endpoint_number(session, endpoint).await?);
    }
    let path = format!("/v1/labels/{label}/endpoints");
    let body = json!({change: numbers});
    let _: Value = session.client.post(&path, &body).await?;
    Ok(())
}

/// `muster enrolment …`: secrets that let agents enrol.
#[derive(Subcommand)]
pub enum Enrolment {
    /// List enrolment secrets.
    List,
    /// Make a secret; prints it once.
    #[command(visible_alias = "add")]
    Create {
        /// What it is for.
        name: String,
        /// Put this label on what enrols with it (repeatable).
        #[arg(long = "label")]
        labels: Vec<String>,
        /// Ends by itself after this long, for example 7days.
        #[arg(long)]
        expires: Option<Span>,
        /// Good only on a connection with a client certificate (osquery agents).
        #[arg(long)]
        client_certificate: bool,
    },
    /// End a secret; what has enrolled with it stays.
    Revoke {
        /// Its number.
        no: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster enrolment …`.
pub async fn enrolment(session: &Session, command: Enrolment) -> Result<(), CliError> {
    match command {
        Enrolment::List => {
            let columns =
                ["no", "name", "labels", "uses", "created_at", "expires_at", "revoked_at"];
            session.list("/v1/enrol-secrets", &[], &columns).await
        }
        Enrolment::Create { name, labels, expires, client_certificate } => {
            let mut body = json!({"name": name, "labels": labels,
                "client_certificate": client_certificate});
            if let Some(expires) = expires {
                body["expires_in_seconds"] = expires.0.as_secs().into();
            }
            session.object(&session.client.post("/v1/enrol-secrets", &body).await?)
        }
        Enrolment::Revoke { no, yes } => {
            confirm(&format!("End enrolment secret {no}? Nothing enrols with it any more."), yes)?;
            session.client.delete(&format!("/v1/enrol-secrets/{no}")).await?;
            session.say(&format!("enrolment secret {no} has ended; what enrolled with it stays"));
            Ok(())
        }
    }
}

/// `muster artifact …`.
#[derive(Subcommand)]
pub enum ArtifactCommand {
    /// List artifacts.
    List {
        /// Part of a name, title or description.
        word: Option<String>,
        /// Those meant for linux, darwin (macOS) or windows.
        #[arg(long)]
        platform: Option<String>,
    },
    /// Show one: parameters, columns, sources.
    Show {
        /// Its name.
        name: String,
    },
    /// Check a file without sending it anywhere.
    Check {
        /// YAML.
        file: PathBuf,
    },
    /// Add or replace an artifact of your own.
    #[command(visible_alias = "create")]
    Add {
        /// YAML.
        file: PathBuf,
    },
    /// Delete an artifact of your own; its results stay.
    #[command(visible_alias = "remove")]
    Delete {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster artifact …` (except `check`, which needs no server).
pub async fn artifact(session: &Session, command: ArtifactCommand) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        ArtifactCommand::List { word, platform } => {
            let query: Vec<_> = [("search", word), ("platform", platform)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let columns = ["name", "title", "built_in", "agent_kinds"];
            session.list("/v1/artifacts", &query, &columns).await
        }
        ArtifactCommand::Show { name } => {
            session.object(&client.get(&format!("/v1/artifacts/{name}")).await?)
        }
        ArtifactCommand::Check { file } => artifact_check(&file),
        ArtifactCommand::Add { file } => {
            let yaml = read_file(&file)?;
            session.object(&client.post("/v1/artifacts", &json!({"yaml": yaml})).await?)
        }
        ArtifactCommand::Delete { name, yes } => {
            confirm(&format!("Delete artifact {name}?"), yes)?;
            client.delete(&format!("/v1/artifacts/{name}")).await?;
            session.say(&format!("artifact {name} is deleted; its results stay"));
            Ok(())
        }
    }
}

/// `muster artifact check FILE`.
pub fn artifact_check(file: &std::path::Path) -> Result<(), CliError> {
    let artifact = muster_artifact::parse(&read_file(file)?)
        .and_then(|artifact| muster_artifact::check_new(&artifact).map(|()| artifact))
        .map_err(|error| CliError::new(Exit::Refused, format!("{}: {error}", file.display())))?;
    let kinds: Vec<&str> = artifact.sources.keys().map(|kind| kind.as_str()).collect();
    eprintln!(
        "{} is fine: table {}, for {}",
        artifact.name,
        artifact.table_name(),
        kinds.join(", ")
    );
    Ok(())
}

/// A file's text, with the path in the error.
pub fn read_file(path: &std::path::Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

/// Flags of `muster history`.
#[derive(clap::Args)]
pub struct History {
    /// Only what holds this word.
    pub search: Option<String>,
    /// Everybody's, not only your own.
    #[arg(long)]
    pub all: bool,
}

/// `muster history`.
pub async fn history(session: &Session, args: History) -> Result<(), CliError> {
    let mut query = vec![("all", args.all.to_string())];
    query.extend(args.search.map(|word| ("search", word)));
    let columns = ["no", "kind", "title", "requested_by", "created_at", "state"];
    session.list("/v1/history", &query, &columns).await
}

/// `muster audit …`.
#[derive(Subcommand)]
pub enum Audit {
    /// List records, newest first.
    List {
        /// Only of this person.
        #[arg(long)]
        principal: Option<String>,
        /// Only of this operation, for example `hunts.create`.
        #[arg(long)]
        operation: Option<String>,
        /// Not older than this, for example 90days.
        #[arg(long)]
        since: Option<Span>,
    },
    /// Check the hash chain; exit 1 and the number of the first record that does not fit.
    Verify,
}

/// Runs `muster audit …`.
pub async fn audit(session: &Session, command: Audit) -> Result<(), CliError> {
    match command {
        Audit::List { principal, operation, since } => {
            let mut query = Vec::new();
            query.extend(principal.map(|name| ("principal", name)));
            query.extend(operation.map(|name| ("operation", name)));
            query.extend(since.map(|since| ("since", before_now(since))));
            let columns =
                ["at", "principal", "address", "operation", "subject", "outcome", "details"];
            session.list("/v1/audit", &query, &columns).await
        }
        Audit::Verify => {
            let answer: Value = session.client.get("/v1/audit/verify").await?;
            session.object(&answer)?;
            if answer["intact"].as_bool() == Some(true) {
                return Ok(());
            }
            Err(CliError::new(Exit::Refused, "the audit log was changed"))
        }
    }
}

/// The time that long ago, in RFC 3339.
fn before_now(span: Span) -> String {
    let ago = SystemClock.now().minus(span.0);
    jiff::Timestamp::from_microsecond(ago.0).unwrap_or_default().to_string()
}

/// `muster storage`.
pub async fn storage(session: &Session) -> Result<(), CliError> {
    session.object(&session.client.get("/v1/storage").await?)
}
