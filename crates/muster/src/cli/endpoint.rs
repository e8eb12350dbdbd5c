//! `muster endpoint …`: one endpoint and what is known of it.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::output::Format;
use super::plain::endpoint_number;
use super::results::rows;
use super::session::{Session, confirm};
use crate::client::CliError;

/// `muster endpoint …`.
#[derive(Subcommand)]
pub enum Endpoint {
    /// Show one endpoint with its agents and vitals.
    Show {
        /// Its number or name.
        endpoint: String,
    },
    /// List its local accounts.
    Users {
        /// Its number or name.
        endpoint: String,
    },
    /// List its software, with first and last seen.
    Software {
        /// Its number or name.
        endpoint: String,
    },
    /// List what it answers to the policies that apply to it.
    Policies {
        /// Its number or name.
        endpoint: String,
    },
    /// Have it asked for everything with its next poll.
    Refetch {
        /// Its number or name.
        endpoint: String,
    },
    /// Remove an endpoint; its agents must enrol again.
    #[command(visible_alias = "remove")]
    Delete {
        /// Its number or name.
        endpoint: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster endpoint …`.
pub async fn run(session: &Session, command: Endpoint) -> Result<(), CliError> {
    match command {
        Endpoint::Show { endpoint } => show(session, &endpoint).await,
        Endpoint::Users { endpoint } => list(session, &endpoint, "users").await,
        Endpoint::Software { endpoint } => list(session, &endpoint, "software").await,
        Endpoint::Policies { endpoint } => list(session, &endpoint, "policies").await,
        Endpoint::Refetch { endpoint } => {
            let no = endpoint_number(session, &endpoint).await?;
            let path = format!("/v1/endpoints/{no}/refetch");
            let _: Value = session.client.post(&path, &json!({})).await?;
            session.say(&format!("endpoint {endpoint} is asked with its next poll"));
            Ok(())
        }
        Endpoint::Delete { endpoint, yes } => {
            let no = endpoint_number(session, &endpoint).await?;
            confirm(&format!("Remove endpoint {endpoint} (number {no})?"), yes)?;
            session.client.delete(&format!("/v1/endpoints/{no}")).await?;
            session.say(&format!("endpoint {endpoint} is removed"));
            Ok(())
        }
    }
}

async fn list(session: &Session, endpoint: &str, what: &str) -> Result<(), CliError> {
    let no = endpoint_number(session, endpoint).await?;
    let path = format!("/v1/endpoints/{no}/{what}");
    let request = session.client.request(Method::GET, &path).query(&[("format", "ndjson")]);
    rows(session, request, false).await
}

async fn show(session: &Session, endpoint: &str) -> Result<(), CliError> {
    let no = endpoint_number(session, endpoint).await?;
    let mut shown: Value = session.client.get(&format!("/v1/endpoints/{no}")).await?;
    let vitals = session.client.get::<Value>(&format!("/v1/endpoints/{no}/vitals")).await;
    match vitals {
        Ok(mut answer) => {
            let vitals = answer["rows"][0].take();
            if session.format == Format::Table {
                if let Some(object) = shown.as_object_mut() {
                    object.extend(for_people(&vitals));
                }
            } else {
                shown["vitals"] = vitals;
            }
        }
        // What the directory knows is worth showing all the same.
        Err(error) => eprintln!("muster: its vitals cannot be shown: {error}"),
    }
    session.object(&shown)
}

/// Details of one row as `os.name  Debian`; those of several as a line a row.
fn for_people(vitals: &Value) -> Map<String, Value> {
    let mut lines = Map::new();
    for (detail, rows) in vitals.as_object().into_iter().flatten() {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        match (detail.as_str(), rows) {
            (_, []) => {}
            ("interfaces" | "disk" | "flags", rows) => {
                let text: Vec<String> = rows.iter().map(line).collect();
                lines.insert(detail.clone(), text.join("\n").into());
            }
            (_, [row, ..]) => {
                for (name, value) in row.as_object().into_iter().flatten() {
                    let empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
                    if !empty && name != "last_seen" {
                        lines.insert(format!("{detail}.{name}"), value.clone());
                    }
                }
            }
        }
    }
    lines
}

fn line(row: &Value) -> String {
    let words = row.as_object().into_iter().flatten();
    let words = words.filter(|(name, value)| !value.is_null() && *name != "last_seen");
    let words: Vec<String> = words
        .map(|(_, value)| super::output::text(Some(value)))
        .filter(|w| !w.is_empty())
        .collect();
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vitals_are_lines_for_people() {
        let vitals = json!({
            "os": [{"name": "Debian", "codename": "", "major": 12, "last_seen": "2026-01-01"}],
            "interfaces": [
                {"interface": "eth0", "address": "10.0.0.7", "mask": null},
                {"interface": "eth1", "address": "10.1.0.7"},
            ],
            "disk": null,
        });
        let lines = Value::Object(for_people(&vitals));
        let expected = json!({
            "os.name": "Debian",
            "os.major": 12,
            "interfaces": "eth0  10.0.0.7\neth1  10.1.0.7",
        });
        assert_eq!(lines, expected);
    }
}
