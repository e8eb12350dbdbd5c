//! Following a hunt, query or collection: its rows as they come, its progress, its end.

use std::io::{IsTerminal, stdout};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::output::Printer;
use super::session::Session;
use crate::client::{CliError, Event, Exit};

/// How a watch treats what it sees.
#[derive(Clone, Copy)]
pub struct Watch {
    /// Put the endpoint's name into each row.
    pub name_endpoints: bool,
    /// Ctrl-C stops it on the server too.
    pub stop_on_interrupt: bool,
}

/// Follows a live query to its end and prints its rows.
///
/// # Errors
/// Partial, with the coverage printed, when not every endpoint answered well.
pub async fn follow(session: &Session, no: u64, watch: Watch) -> Result<(), CliError> {
    tokio::select! {
        done = events(session, no, watch) => done,
        _ = tokio::signal::ctrl_c() => {
            if watch.stop_on_interrupt {
                stop(session, no).await?;
            }
            Err(CliError::new(Exit::Cancelled, format!("cancelled; what has come stays: muster results {no}")))
        }
    }
}

/// Sends what begins a query or collection. Ctrl-C meanwhile stops on the server what it began.
///
/// # Errors
/// Those of the request, or cancelled.
pub async fn begin(session: &Session, path: &str, body: &Value) -> Result<Value, CliError> {
    let mut asked = pin!(session.client.post::<Value, Value>(path, body));
    tokio::select! {
        asked = &mut asked => asked,
        _ = tokio::signal::ctrl_c() => {
            // It may be there already: its number comes with the answer.
            if let Some(no) = asked.await?["no"].as_u64() {
                stop(session, no).await?;
            }
            Err(CliError::new(Exit::Cancelled, "cancelled"))
        }
    }
}

async fn stop(session: &Session, no: u64) -> Result<(), CliError> {
    let path = format!("/v1/hunts/{no}/stop");
    let reason = json!({"reason": "interrupted by who asked"});
    let _: Value = session.client.post(&path, &reason).await?;
    Ok(())
}

async fn events(session: &Session, no: u64, watch: Watch) -> Result<(), CliError> {
    let path = format!("/v1/hunts/{no}/live");
    let events = session.client.events(&path).await;
    let mut events = events.map_err(|error| {
        let message = format!("{}; it runs: muster results {no}", error.message);
        CliError::new(error.exit, message)
    })?;
    let mut printer = Printer::new(session.format, stdout().lock(), &[]);
    // What ends by itself soon is gathered for its columns; a hunt is followed for days, and interrupted.
    if watch.stop_on_interrupt {
        printer = printer.varied();
    }
    let (bar, polls) = progress_bar();
    let mut coverage = Value::Null;
    let mut ended = false;
    let mut missing: Option<String> = None;
    let mut errors: Vec<String> = Vec::new();
    while let Some(Event { name, data }) = events.next().await? {
        let data: Value = serde_json::from_str(&data).map_err(|error| {
            CliError::new(Exit::Refused, format!("the server's event cannot be read: {error}"))
        })?;
        match name.as_str() {
            "rows" => {
                let endpoint = if watch.name_endpoints { Some(endpoint_name(&data)) } else { None };
                for row in data["rows"].as_array().into_iter().flatten() {
                    printer.row(with_endpoint(endpoint.as_deref(), row))?;
                }
            }
            "outcome" => {
                let message = data["message"].as_str().unwrap_or_default();
                if !matches!(data["outcome"].as_str(), Some("rows" | "empty")) {
                    let outcome = data["outcome"].as_str().unwrap_or_default();
                    let endpoint = endpoint_name(&data);
                    errors.push(format!("{endpoint}: {outcome}: {message}"));
                }
            }
            "progress" => {
                bar.set_length(data["total"].as_u64().unwrap_or_default());
                bar.set_position(data["ended"].as_u64().unwrap_or_default());
                let next = data["next_poll_seconds"].as_u64();
                *polls.lock() = next.map(|left| Instant::now() + Duration::from_secs(left));
                coverage = data;
            }
            "end" => {
                coverage = data["coverage"].clone();
                missing = data["missing"].as_str().map(str::to_owned);
                ended = true;
                break;
            }
            "error" => {
                bar.finish_and_clear();
                printer.finish()?;
                let detail = data["detail"].as_str().unwrap_or("the server says no more");
                let message = format!("following hunt {no} broke off: {detail}");
                return Err(CliError::new(Exit::Partial, message));
            }
            _ => {}
        }
    }
    bar.finish_and_clear();
    printer.finish()?;
    if !ended {
        let message = format!("the server ended the stream early; see: muster hunt coverage {no}");
        return Err(CliError::new(Exit::Partial, message));
    }
    for error in errors.iter().take(20) {
        eprintln!("{}", super::output::printable(error));
    }
    if errors.len() > 20 {
        eprintln!(
            "… and {} more; see: muster sql \"SELECT * FROM collections WHERE hunt = {no}\"",
            errors.len() - 20
        );
    }
    if let Some(missing) = missing {
        let message = format!("not all rows came: {missing}; all of them: muster results {no}");
        return Err(CliError::new(Exit::Partial, message));
    }
    verdict(&coverage, no)
}

/// Exit 0 when all answered; else the coverage, and exit 4 (or 1 when nobody answered well).
fn verdict(coverage: &Value, no: u64) -> Result<(), CliError> {
    let count = |key: &str| coverage[key].as_u64().unwrap_or_default();
    let (total, good) = (count("total"), count("rows") + count("empty"));
    if total > 0 && good == total {
        return Ok(());
    }
    let sentence = coverage["sentence"].as_str().unwrap_or("nobody was asked");
    let exit = if good == 0 && count("failed") == total && total > 0 {
        Exit::Refused
    } else {
        Exit::Partial
    };
    Err(CliError::new(exit, format!("{sentence} (hunt {no})")))
}

fn endpoint_name(data: &Value) -> String {
    let number = || data["endpoint"].to_string();
    data["name"].as_str().map_or_else(number, str::to_owned)
}

fn with_endpoint(endpoint: Option<&str>, row: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(endpoint) = endpoint {
        out.insert("endpoint".into(), endpoint.into());
    }
    out.extend(row.as_object().cloned().unwrap_or_default());
    out
}

/// A bar, and when the last agent that is waited for polls, which it counts down to.
fn progress_bar() -> (ProgressBar, Arc<Mutex<Option<Instant>>>) {
    let polls = Arc::<Mutex<Option<Instant>>>::default();
    if !std::io::stderr().is_terminal() {
        return (ProgressBar::hidden(), polls);
    }
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {pos} of {len} endpoints, {elapsed}{poll}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let next = Arc::clone(&polls);
        let poll = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let Some(next) = *next.lock() else { return };
            let left = next.saturating_duration_since(Instant::now());
            let _ = write!(out, ", waiting for poll, {} s at most", left.as_secs());
        };
        bar.set_style(style.with_key("poll", poll));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    (bar, polls)
}
