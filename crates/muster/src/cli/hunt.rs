//! `muster hunt …` and `muster collect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::query::{ASK_ABOVE, numbers, print_reach, reach_sentence, waits};
use super::results::question;
use super::scope::ScopeArgs;
use super::session::{Session, confirm};
use super::watch::{Watch, begin, follow};
use crate::client::{CliError, Exit};
use crate::config::{Size, Span};

/// A hold without an end, as far as a calendar goes.
const FOREVER: &str = "9999-12-31T00:00:00Z";

/// `muster hunt …`.
#[derive(Subcommand)]
pub enum Hunt {
    /// Start a hunt: every endpoint in the scope, now or when it comes back.
    Start(Box<Start>),
    /// List hunts, queries and collections, newest first.
    List {
        /// Only in this state, for example running.
        #[arg(long)]
        state: Option<String>,
    },
    /// Show one hunt.
    Show {
        /// Its number.
        no: u64,
    },
    /// How many endpoints have answered, by outcome.
    Coverage {
        /// Its number.
        no: u64,
    },
    /// The outcome of each endpoint.
    Outcomes {
        /// Its number.
        no: u64,
        /// Only with this outcome, for example failed.
        #[arg(long)]
        outcome: Option<String>,
    },
    /// Recruit nobody more for now.
    Pause {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on recruiting.
    Resume {
        /// Its number.
        no: u64,
    },
    /// End it; what runs is cancelled, what has come stays.
    Stop {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let it live longer.
    Extend {
        /// Its number.
        no: u64,
        /// From now, for example 7days.
        by: Span,
    },
    /// Keep its rows, and uploads, whatever the retention says, also when it or an endpoint is deleted.
    Hold {
        /// Its number.
        no: u64,
        /// Until this time (RFC 3339), for example 2027-01-31T00:00:00Z.
        #[arg(long, required_unless_present = "forever", conflicts_with = "forever")]
        until: Option<String>,
        /// Until it is released.
        #[arg(long)]
        forever: bool,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End a hold: the retention counts again.
    Release {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a hunt of somebody else begin that waits for a second person.
    Approve {
        /// Its number.
        no: u64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Delete it with its rows: hidden at once, gone after compaction.
    #[command(visible_alias = "remove")]
    Delete {
        /// Its number.
        no: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// What a hunt runs and how fast.
#[derive(Args)]
pub struct Start {
    /// Name of an artifact (see `muster artifact list`).
    pub artifact: Option<String>,
    /// A value of the artifact, NAME=VALUE (repeatable).
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// A SQL question instead of an artifact.
    #[arg(long, visible_alias = "query", conflicts_with = "artifact")]
    pub sql: Option<String>,
    /// A SQL question from a file.
    #[arg(long, short = 'f', conflicts_with_all = ["artifact", "sql"])]
    pub file: Option<PathBuf>,
    /// Which endpoints.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// A few words for lists.
    #[arg(long, default_value = "")]
    pub title: String,
    /// Why it is run.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// The incident it belongs to.
    #[arg(long)]
    pub incident: Option<String>,
    /// How long it lives.
    #[arg(long)]
    pub expires: Option<Span>,
    /// Endpoints recruited per second, up to 20,000.
    #[arg(long)]
    pub rate: Option<u32>,
    /// Endpoints recruited first, before the rest.
    #[arg(long)]
    pub canary: Option<u32>,
    /// Most endpoints it recruits.
    #[arg(long)]
    pub endpoints_max: Option<u32>,
    /// Time of one endpoint's task.
    #[arg(long)]
    pub task_timeout: Option<Span>,
    /// Pause when all rows together are above this, for example "10 GiB".
    #[arg(long)]
    pub pause_total: Option<Size>,
    /// Say how many endpoints it would reach, and create nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, however many endpoints it reaches.
    #[arg(long)]
    pub yes: bool,
    /// Follow its rows until the hunt is over (it expires, or `hunt stop`); Ctrl-C leaves it running.
    #[arg(long)]
    pub follow: bool,
}

/// `muster collect`.
#[derive(Args)]
pub struct Collect {
    /// Name of an artifact.
    pub artifact: String,
    /// Endpoints, by number or name.
    #[arg(required = true)]
    pub endpoints: Vec<String>,
    /// A value of the artifact, NAME=VALUE (repeatable).
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// Why it is run.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// How long to wait for the endpoints to come online and answer.
    #[arg(long)]
    pub expires: Option<Span>,
    /// Do not wait for the rows.
    #[arg(long)]
    pub no_wait: bool,
}

pub(super) fn parameters(given: &[String]) -> Result<Map<String, Value>, CliError> {
    let pair = |text: &String| {
        text.split_once('=')
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .ok_or_else(|| CliError::usage(format!("{text:?} is no NAME=VALUE")))
    };
    given.iter().map(pair).collect()
}

impl Start {
    fn limits(&self) -> Value {
        let mut limits = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                limits.insert(name.into(), value);
            }
        };
        set("rate_per_second", self.rate.map(Value::from));
        set("canary", self.canary.map(Value::from));
        set("endpoints_max", self.endpoints_max.map(Value::from));
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        set("task_timeout_ms", self.task_timeout.map(|span| millis(span).into()));
        set("pause_total_bytes", self.pause_total.map(|size| size.0.into()));
        Value::Object(limits)
    }
}

async fn start(session: &Session, args: Start) -> Result<(), CliError> {
    let endpoints = numbers(session, &args.scope.endpoints).await?;
    let mut body = json!({
        "scope": args.scope.to_json(&endpoints),
        "title": args.title,
        "reason": args.reason,
        "dry_run": true,
    });
    match &args.artifact {
        Some(artifact) => {
            body["artifact"] = artifact.as_str().into();
            body["parameters"] = parameters(&args.params)?.into();
        }
        None => body["query"] = question(args.sql.clone(), args.file.as_ref())?.into(),
    }
    let limits = args.limits();
    if limits.as_object().is_some_and(|limits| !limits.is_empty()) {
        body["limits"] = limits;
    }
    if let Some(incident) = &args.incident {
        body["incident"] = incident.as_str().into();
    }
    if let Some(expires) = args.expires {
        body["expires_in_seconds"] = expires.0.as_secs().into();
    }
    let reach: Value = session.client.post("/v1/hunts", &body).await?;
    if args.dry_run {
        return print_reach(session, &reach);
    }
    if reach["match"].as_u64().unwrap_or_default() > ASK_ABOVE {
        confirm(&format!("{}. Start the hunt?", reach_sentence(&reach)), args.yes)?;
    }
    body["dry_run"] = false.into();
    let asked: Value = session.client.post("/v1/hunts", &body).await?;
    let no = asked["no"].as_u64().unwrap_or_default();
    if asked["state"] == "awaiting_approval" {
        return waits(session, no, &asked);
    }
    if args.follow {
        return follow(session, no, Watch { name_endpoints: true, stop_on_interrupt: false }).await;
    }
    if session.format != super::output::Format::Table {
        return session.object(&asked);
    }
    session.say(&format!("hunt {no} has begun: {}", reach_sentence(&asked)));
    session.say(&format!("  muster hunt coverage {no}\n  muster results {no}"));
    Ok(())
}

/// Runs `muster collect`.
pub async fn collect(session: &Session, args: Collect) -> Result<(), CliError> {
    let endpoints = numbers(session, &args.endpoints).await?;
    let mut body = json!({
        "artifact": args.artifact,
        "parameters": parameters(&args.params)?,
        "endpoints": endpoints,
        "reason": args.reason,
    });
    if let Some(expires) = args.expires {
        body["expires_in_seconds"] = expires.0.as_secs().into();
    }
    let asked = begin(session, "/v1/collections", &body).await?;
    let no = asked["no"].as_u64().unwrap_or_default();
    if asked["state"] == "awaiting_approval" {
        return waits(session, no, &asked);
    }
    if args.no_wait {
        return session.object(&asked);
    }
    let name_endpoints = endpoints.len() != 1;
    follow(session, no, Watch { name_endpoints, stop_on_interrupt: true }).await
}

/// Runs `muster hunt …`.
pub async fn run(session: &Session, command: Hunt) -> Result<(), CliError> {
    let client = &session.client;
    let act = |no: u64, action: &'static str, body: Value| async move {
        let _: Value = client.post(&format!("/v1/hunts/{no}/{action}"), &body).await?;
        session.say(&match action {
            "pause" => format!("hunt {no} recruits nobody until: muster hunt resume {no}"),
            "resume" => format!("hunt {no} goes on"),
            "stop" => format!("hunt {no} has ended; what has come stays: muster results {no}"),
            "extend" => format!("hunt {no} lives longer"),
            "approve" => format!("hunt {no} is approved and begins"),
            "hold" => match body["until"].as_str() {
                Some(until) => format!("the rows of hunt {no} are kept until {until} at least"),
                None => format!("the hold on hunt {no} has ended"),
            },
            other => format!("hunt {no}: {other} is done"),
        });
        Ok(())
    };
    match command {
        Hunt::Start(args) => start(session, *args).await,
        Hunt::List { state } => {
            let query: Vec<_> = state.map(|state| ("state", state)).into_iter().collect();
            let columns =
                ["no", "kind", "state", "title", "artifact", "requested_by", "created_at"];
            session.list("/v1/hunts", &query, &columns).await
        }
        Hunt::Show { no } => session.object(&client.get(&format!("/v1/hunts/{no}")).await?),
        Hunt::Coverage { no } => {
            let coverage: Value = client.get(&format!("/v1/hunts/{no}/coverage")).await?;
            session.object(&coverage)?;
            if coverage["failed"].as_u64() > Some(0) {
                session.say(&format!(
                    "what failed says why: muster sql \"SELECT message, count(*) FROM collections \
                     WHERE hunt = {no} AND outcome = 'failed' GROUP BY message\""
                ));
            }
            let open = ["waiting", "running"].map(|key| coverage[key].as_u64().unwrap_or_default());
            if open == [0, 0] {
                return Ok(());
            }
            Err(CliError::new(Exit::Partial, coverage["sentence"].as_str().unwrap_or_default()))
        }
        Hunt::Outcomes { no, outcome } => {
            let query: Vec<_> = outcome.map(|outcome| ("outcome", outcome)).into_iter().collect();
            let columns = ["endpoint", "name", "agent", "outcome", "note"];
            session.list(&format!("/v1/hunts/{no}/outcomes"), &query, &columns).await
        }
        Hunt::Pause { no, reason } => act(no, "pause", json!({"reason": reason})).await,
        Hunt::Resume { no } => act(no, "resume", json!({})).await,
        Hunt::Stop { no, reason } => act(no, "stop", json!({"reason": reason})).await,
        Hunt::Extend { no, by } => {
            act(no, "extend", json!({"expires_in_seconds": by.0.as_secs()})).await
        }
        Hunt::Hold { no, until, forever: _, reason } => {
            let until = until.unwrap_or_else(|| FOREVER.to_owned());
            act(no, "hold", json!({"until": until, "reason": reason})).await
        }
        Hunt::Release { no, reason } => {
            act(no, "hold", json!({"until": null, "reason": reason})).await
        }
        Hunt::Approve { no, reason } => act(no, "approve", json!({"reason": reason})).await,
        Hunt::Delete { no, yes } => {
            confirm(&format!("Delete hunt {no} with all its rows?"), yes)?;
            client.delete(&format!("/v1/hunts/{no}")).await?;
            session.say(&format!("hunt {no} is deleted"));
            Ok(())
        }
    }
}
