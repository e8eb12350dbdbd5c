//! `muster sink …`: where rows are sent besides the archive.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::session::{Session, confirm};
use super::sink_add::{Add, body};
use crate::client::{CliError, Exit};

/// `muster sink …`.
#[derive(Subcommand)]
pub enum Sink {
    /// Make a sink; it begins with the rows that come from now on.
    #[command(subcommand, visible_alias = "create")]
    Add(Box<Add>),
    /// List sinks with how they fare.
    List,
    /// Show one sink: where to, which rows, how far, what went wrong last.
    Show {
        /// Its name.
        name: String,
        /// The rows that its destination refused for ever instead.
        #[arg(long)]
        refused: bool,
    },
    /// Stop a sink; it goes on from there when it is resumed.
    Pause {
        /// Its name.
        name: String,
    },
    /// Let a sink go on.
    Resume {
        /// Its name.
        name: String,
    },
    /// Remove a sink; what it sent stays where it is.
    #[command(visible_alias = "delete")]
    Remove {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Send one event that tells of nothing, and say what the destination answers.
    Test {
        /// Its name.
        name: String,
    },
}

/// Runs `muster sink …`.
pub async fn run(session: &Session, command: Sink) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        Sink::Add(add) => {
            let body = body(*add)?;
            let made: Value = client.post("/v1/sinks", &body).await?;
            let name = made["name"].as_str().unwrap_or_default().to_owned();
            session.object(&for_people(session, made))?;
            eprintln!("`muster sink test {name}` tells whether its destination takes events");
            Ok(())
        }
        Sink::List => {
            let columns = [
                "name",
                "kind",
                "state",
                "lag_rows",
                "delivered_rows",
                "refused_rows",
                "gone_rows",
                "delivered_at",
                "error",
            ];
            session.list_with("/v1/sinks", &[], &columns, shown).await
        }
        Sink::Show { name, refused: true } => {
            let path = format!("/v1/sinks/{name}/refused");
            session.list(&path, &[], &["at", "id", "reason"]).await
        }
        Sink::Show { name, .. } => {
            let sink: Value = client.get(&format!("/v1/sinks/{name}")).await?;
            session.object(&for_people(session, sink))
        }
        Sink::Pause { name } => {
            let _: Value = client.post(&format!("/v1/sinks/{name}/pause"), &json!({})).await?;
            session.say(&format!("sink {name} is paused"));
            Ok(())
        }
        Sink::Resume { name } => {
            let _: Value = client.post(&format!("/v1/sinks/{name}/resume"), &json!({})).await?;
            session.say(&format!("sink {name} goes on"));
            Ok(())
        }
        Sink::Remove { name, yes } => {
            confirm(&format!("Remove sink {name}? Rows that wait for it are not sent."), yes)?;
            client.delete(&format!("/v1/sinks/{name}")).await?;
            session.say(&format!("sink {name} is removed"));
            Ok(())
        }
        Sink::Test { name } => {
            let answer: Value = client.post(&format!("/v1/sinks/{name}/test"), &json!({})).await?;
            if answer["taken"] == true {
                session.say(&format!("the destination of sink {name} takes events"));
                return Ok(());
            }
            let why = answer["error"].as_str().unwrap_or("it does not say why");
            let why = super::output::printable(why);
            Err(CliError::new(Exit::Refused, format!("sink {name} takes no events: {why}")))
        }
    }
}

/// A sink as a row of a list.
fn shown(mut row: Map<String, Value>) -> Map<String, Value> {
    let kind = row.get("destination").map(|to| to["kind"].clone()).unwrap_or_default();
    row.insert("kind".to_owned(), kind);
    row
}

/// The parts of an object on lines of their own.
fn for_people(session: &Session, sink: Value) -> Value {
    if session.format != super::output::Format::Table {
        return sink;
    }
    let mut out = Map::new();
    for (name, value) in sink.as_object().cloned().unwrap_or_default() {
        match value {
            Value::Object(members) => {
                out.extend(members.into_iter().map(|(m, value)| (format!("{name}.{m}"), value)));
            }
            other => _ = out.insert(name, other),
        }
    }
    Value::Object(out)
}
