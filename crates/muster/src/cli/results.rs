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
    let request = session.client.request(Method::POST, "/v1/sql").json(&json!({"sql": sql}));
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
        let mut body = response.bytes_stream();
        let mut printer = Printer::new(session.format, stdout().lock(), &[]);
        let mut buffer = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the answer broke off: {error}; what came before is not all");
                CliError::new(Exit::Partial, message)
            })?;
            buffer.extend_from_slice(&chunk);
            take_rows(&mut buffer, &mut printer, plain)?;
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
) -> Result<(), CliError> {
    let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for line in buffer[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            CliError::new(Exit::Refused, format!("the server's answer cannot be read: {error}"))
        })?;
        printer.row(if plain { without_system(row) } else { row })?;
    }
    buffer.drain(..end);
    if buffer.len() > MAX_ROW_BYTES {
        return Err(CliError::new(Exit::Refused, "the server sent a row without end"));
    }
    Ok(())
}
