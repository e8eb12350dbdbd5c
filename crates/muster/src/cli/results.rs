//! `muster sql` and `muster results`: rows that are kept.

use std::io::{Read, stdout};
use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use super::output::{Format, Printer};
use super::session::Session;
use crate::client::{CliError, Exit};
use crate::config::Span;

/// Longest line of an answer: one row.
const MAX_ROW_BYTES: usize = 64 << 20;

/// `muster results`.
#[derive(Args)]
pub struct Results {
    /// Number of the hunt, query or collection.
    pub no: u64,
    /// At most this many rows.
    #[arg(long)]
    pub limit: Option<u64>,
    /// In a table, also the columns the server adds to each row.
    #[arg(long)]
    pub all: bool,
}

/// `muster sql`.
#[derive(Args)]
pub struct Sql {
    /// The question; from standard input when missing.
    pub sql: Option<String>,
    /// Read the question from a file.
    #[arg(long, short = 'f', conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// At most this many rows, without a word about the others.
    #[arg(long)]
    pub limit: Option<u64>,
    /// At most so long: 30s, 2m; no longer than the server allows.
    #[arg(long)]
    pub timeout: Option<Span>,
}

/// The text of a question: argument, file, or standard input.
pub fn question(argument: Option<String>, file: Option<&PathBuf>) -> Result<String, CliError> {
    use std::io::IsTerminal;
    let text = match (argument, file) {
        (Some(text), _) if text != "-" => text,
        (_, Some(file)) if file.as_os_str() != "-" => super::plain::read_file(file)?,
        (None, None) if std::io::stdin().is_terminal() => {
            return Err(CliError::usage(
                "ask something: as an argument, with -f FILE, or on standard input",
            ));
        }
        _ => {
            let mut text = String::new();
            std::io::stdin().take(1 << 20).read_to_string(&mut text)?;
            text
        }
    };
    Ok(text.trim().trim_end_matches(';').to_owned())
}

/// Runs `muster sql`.
pub async fn sql(session: &Session, args: Sql) -> Result<(), CliError> {
    let sql = question(args.sql, args.file.as_ref())?;
    let mut body = json!({"sql": sql});
    if let Some(limit) = args.limit {
        body["rows"] = limit.into();
    }
    if let Some(Span(timeout)) = args.timeout {
        body["timeout_seconds"] = timeout.as_secs().max(1).into();
    }
    let request = session.client.request(Method::POST, "/v1/sql").json(&body);
    rows(session, request.query(&[("format", "ndjson")]), false).await
}

/// Runs `muster results`.
pub async fn results(session: &Session, args: Results) -> Result<(), CliError> {
    let mut request = session
        .client
        .request(Method::GET, &format!("/v1/hunts/{}/results", args.no))
        .query(&[("format", "ndjson")]);
    if let Some(limit) = args.limit {
        request = request.query(&[("limit", limit)]);
    }
    rows(session, request, session.format == Format::Table && !args.all).await
}

/// Prints rows as they come. Dropping the answer ends the query on the server, so Ctrl-C does.
pub async fn rows(session: &Session, request: RequestBuilder, plain: bool) -> Result<(), CliError> {
    let print = async {
        let response = session.client.checked(request).await?;
        // Where the server breaks off what is longer.
        let rows_max = response.headers().get("muster-rows-max");
        let rows_max: Option<u64> = rows_max.and_then(|rows| rows.to_str().ok()?.parse().ok());
        let mut count = 0;
        let mut body = response.bytes_stream();
        let mut printer = Printer::new(session.format, stdout().lock(), &[]);
        let mut buffer = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    printer.finish()?;
                    let message = broken_off(&error, count, rows_max);
                    return Err(CliError::new(Exit::Partial, message));
                }
            };
            buffer.extend_from_slice(&chunk);
            count += take_rows(&mut buffer, &mut printer, plain)?;
        }
        if !buffer.is_empty() {
            buffer.push(b'\n');
            take_rows(&mut buffer, &mut printer, plain)?;
        }
        Ok(printer.finish()?)
    };
    tokio::select! {
        done = print => done,
        _ = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Cancelled, "cancelled")),
    }
}

fn broken_off(error: &reqwest::Error, count: u64, rows_max: Option<u64>) -> String {
    match rows_max.filter(|most| count >= *most) {
        Some(most) => format!(
            "there are more than {most} rows, where this server cuts an answer (sql.rows); narrow the question, \
             or say how many you want: --limit"
        ),
        None => format!("the answer broke off: {error}; what came before is not all"),
    }
}

/// What the server adds to each row and people rarely want in a table; `--all` shows it.
const SYSTEM: [&str; 7] =
    ["endpoint", "agent", "agent_kind", "hunt", "attempt", "late", "endpoint_time"];

fn without_system(mut row: Map<String, Value>) -> Map<String, Value> {
    row.retain(|name, _| !SYSTEM.contains(&name.as_str()));
    row
}

fn take_rows<W: std::io::Write>(
    buffer: &mut Vec<u8>,
    printer: &mut Printer<W>,
    plain: bool,
) -> Result<u64, CliError> {
    let mut count = 0;
    let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for line in buffer[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            CliError::new(Exit::Refused, format!("the server's answer cannot be read: {error}"))
        })?;
        printer.row(if plain { without_system(row) } else { row })?;
        count += 1;
    }
    buffer.drain(..end);
    if buffer.len() > MAX_ROW_BYTES {
        return Err(CliError::new(Exit::Refused, "the server sent a row without end"));
    }
    Ok(count)
}
