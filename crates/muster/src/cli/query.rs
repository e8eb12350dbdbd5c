//! `muster query`: a SQL question to online endpoints, rows as they are answered.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::output::Format;
use super::plain::endpoint_number;
use super::results::question;
use super::scope::ScopeArgs;
use super::session::{Session, confirm};
use super::watch::{Watch, begin, follow};
use crate::client::{CliError, Exit};
use crate::config::Span;

/// Above this many endpoints a question is asked before it is sent.
pub const ASK_ABOVE: u64 = 100;

/// How long a question waits for the first endpoint to come online.
const RETURN_WAIT: Duration = Duration::from_secs(2);

/// `muster query`.
#[derive(Args)]
pub struct Query {
    /// SQL over the tables of endpoints; from standard input when missing.
    pub sql: Option<String>,
    /// Read the question from a file.
    #[arg(long, short = 'f', conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// Which endpoints.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// How long to wait for answers.
    #[arg(long, default_value = "60s")]
    pub timeout: Span,
    /// Say how many endpoints it would reach, and end.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, however many endpoints it reaches.
    #[arg(long)]
    pub yes: bool,
    /// Put the endpoint's name into each row, also when there is only one.
    #[arg(long)]
    pub with_endpoint: bool,
}

/// Endpoints given by number or name as numbers.
pub async fn numbers(session: &Session, given: &[String]) -> Result<Vec<u64>, CliError> {
    let mut numbers = Vec::new();
    for endpoint in given {
        numbers.push(endpoint_number(session, endpoint).await?);
    }
    Ok(numbers)
}

/// Runs `muster query`.
pub async fn run(session: &Session, args: Query) -> Result<(), CliError> {
    let sql = question(args.sql, args.file.as_ref())?;
    let endpoints = numbers(session, &args.scope.endpoints).await?;
    let mut body = json!({
        "query": sql,
        "scope": args.scope.to_json(&endpoints),
        "timeout_seconds": args.timeout.0.as_secs().max(1),
        "dry_run": true,
    });
    let reach = reach(session, &body).await?;
    let online = reach["online"].as_u64().unwrap_or_default();
    if args.dry_run {
        return print_reach(session, &reach);
    }
    if online == 0 {
        let message = format!("nobody to ask: {}", reach_sentence(&reach));
        return Err(CliError::new(Exit::Partial, message));
    }
    if online > ASK_ABOVE {
        confirm(&format!("This asks {online} endpoints. Go on?"), args.yes)?;
    }
    body["dry_run"] = false.into();
    let asked = begin(session, "/v1/queries", &body).await?;
    let Some(no) = asked["no"].as_u64() else {
        return Err(CliError::new(Exit::Refused, "the server started nothing"));
    };
    if asked["state"] == "awaiting_approval" {
        return waits(session, no, &asked);
    }
    let name_endpoints = args.with_endpoint || asked["online"].as_u64() != Some(1);
    follow(session, no, Watch { name_endpoints, stop_on_interrupt: true }).await
}

/// What was asked has not begun: nobody has answered.
pub fn waits(session: &Session, no: u64, asked: &Value) -> Result<(), CliError> {
    if session.format != super::output::Format::Table {
        session.object(asked)?;
    }
    let message = format!("{no} waits for a second person: muster hunt approve {no}");
    Err(CliError::new(Exit::Partial, message))
}

/// How many endpoints a question reaches. When some match and none is online the server may just have
/// started, and agents are on their way back: it is asked again for a moment.
async fn reach(session: &Session, body: &Value) -> Result<Value, CliError> {
    let deadline = tokio::time::Instant::now() + RETURN_WAIT;
    loop {
        let reach: Value = session.client.post("/v1/queries", body).await?;
        let nobody = reach["online"].as_u64() == Some(0) && reach["match"].as_u64() > Some(0);
        if !nobody || tokio::time::Instant::now() >= deadline {
            return Ok(reach);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What a question that is not asked would reach: the answer to `--dry-run`.
pub fn print_reach(session: &Session, reach: &Value) -> Result<(), CliError> {
    if session.format != Format::Table {
        return session.object(reach);
    }
    println!("{}", reach_sentence(reach));
    Ok(())
}

/// `2,000 match: 1,940 online, 60 offline`.
pub fn reach_sentence(reach: &Value) -> String {
    let number = |key: &str| grouped(reach[key].as_u64().unwrap_or_default());
    format!("{} match: {} online, {} offline", number("match"), number("online"), number("offline"))
}

/// A number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown: Vec<String> = [0, 999, 1000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
