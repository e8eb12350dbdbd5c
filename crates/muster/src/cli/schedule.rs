//! `muster schedule …`: what osquery agents run by themselves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::hunt::parameters;
use super::plain::read_file;
use super::session::{Session, confirm};
use crate::client::{CliError, Exit};
use crate::config::Span;

/// `muster schedule …`.
#[derive(Subcommand)]
pub enum Schedule {
    /// List schedules.
    List,
    /// Show one.
    Show {
        /// Its number or name.
        schedule: String,
    },
    /// Let osquery agents run an artifact, or SQL, at an interval.
    #[command(visible_alias = "create")]
    Add(Box<Add>),
    /// Change one; what no flag names stays.
    Edit {
        /// Its number or name.
        schedule: String,
        /// What shall be different.
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Put it into agents' configuration again.
    Enable {
        /// Its number or name.
        schedule: String,
    },
    /// Take it out of agents' configuration; it can be enabled again.
    Disable {
        /// Its number or name.
        schedule: String,
    },
    /// Remove one; what it collected stays.
    #[command(visible_alias = "delete")]
    Remove {
        /// Its number or name.
        schedule: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A schedule to be made.
#[derive(Args)]
pub struct Add {
    /// Its name; agents report it, in a pack as pack/PACK/NAME.
    pub name: String,
    /// The pack it belongs to.
    #[arg(long)]
    pub pack: Option<String>,
    /// Do not put it into agents' configuration yet.
    #[arg(long)]
    pub disabled: bool,
    /// What it is.
    #[command(flatten)]
    pub flags: Flags,
}

/// What a schedule is.
#[derive(Args)]
pub struct Flags {
    /// An artifact that has a source for osquery.
    #[arg(long)]
    pub artifact: Option<String>,
    /// A value of the artifact, NAME=VALUE (repeatable).
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", requires = "artifact")]
    pub params: Vec<String>,
    /// SQL instead of an artifact.
    #[arg(long, visible_alias = "query", conflicts_with = "artifact")]
    pub sql: Option<String>,
    /// SQL from a file.
    #[arg(long, short = 'f', conflicts_with_all = ["artifact", "sql"])]
    pub file: Option<PathBuf>,
    /// Time between runs, up to 7days; an hour when a new one has none.
    #[arg(long)]
    pub interval: Option<Span>,
    /// What agents send: snapshot, differential (the default of a new one) or added_only.
    #[arg(long)]
    pub mode: Option<String>,
    /// Systems, divided by commas: darwin, linux, windows, posix; all when empty.
    #[arg(long)]
    pub platform: Option<String>,
    /// Lowest version of osquery, for example 5.8.0.
    #[arg(long)]
    pub min_version: Option<String>,
    /// The share of hosts that take part, 1 to 100.
    #[arg(long, value_name = "PERCENT")]
    pub shard: Option<u8>,
    /// SQL that must give a row for the pack to run (repeatable; for all schedules of the pack).
    #[arg(long, value_name = "SQL")]
    pub discovery: Vec<String>,
    /// Whether an agent that dies while it runs sets it aside for a day.
    #[arg(long)]
    pub denylist: Option<bool>,
    /// Order of the first runs after a start (osquery from 5.17 on).
    #[arg(long)]
    pub priority: Option<i64>,
    /// Only on endpoints with one of these labels (repeatable); empty for all.
    #[arg(long = "label", short = 'l')]
    pub labels: Vec<String>,
    /// Not on endpoints with one of these labels (repeatable).
    #[arg(long = "exclude-label")]
    pub exclude_labels: Vec<String>,
    /// What it is for.
    #[arg(long)]
    pub description: Option<String>,
}

impl Flags {
    fn body(&self) -> Result<Map<String, Value>, CliError> {
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        put("artifact", self.artifact.as_deref().map(Value::from));
        if !self.params.is_empty() {
            put("parameters", Some(parameters(&self.params)?.into()));
        }
        let sql = match &self.file {
            Some(file) => Some(read_file(file)?),
            None => self.sql.clone(),
        };
        put("query", sql.map(|sql| sql.trim().into()));
        if let Some(interval) = self.interval {
            let seconds = u32::try_from(interval.0.as_secs()).unwrap_or(u32::MAX);
            put("interval_s", Some(seconds.into()));
        }
        put("mode", self.mode.as_deref().map(Value::from));
        put("platforms", self.platform.as_deref().map(Value::from));
        put("min_version", self.min_version.as_deref().map(Value::from));
        put("shard_percent", self.shard.map(Value::from));
        put("discovery", list(&self.discovery));
        put("denylist", self.denylist.map(Value::from));
        put("priority", self.priority.map(Value::from));
        put("labels_in", list(&self.labels));
        put("labels_out", list(&self.exclude_labels));
        put("description", self.description.as_deref().map(Value::from));
        Ok(body)
    }
}

/// A list that was given; one empty word empties it.
pub(super) fn list(given: &[String]) -> Option<Value> {
    let words: Vec<&String> = given.iter().filter(|word| !word.is_empty()).collect();
    (!given.is_empty()).then(|| json!(words))
}

/// Runs `muster schedule …`.
pub async fn run(session: &Session, command: Schedule) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        Schedule::List => {
            let columns =
                ["no", "name", "enabled", "interval_s", "mode", "platforms", "labels_in", "table"];
            session.list("/v1/schedules", &[], &columns).await
        }
        Schedule::Show { schedule } => {
            let no = number(session, &schedule).await?;
            session.object(&client.get(&format!("/v1/schedules/{no}")).await?)
        }
        Schedule::Add(add) => {
            let mut body = add.flags.body()?;
            body.insert("name".into(), add.name.into());
            body.insert("enabled".into(), (!add.disabled).into());
            if let Some(pack) = add.pack {
                body.insert("pack".into(), pack.into());
            }
            session.object(&client.post("/v1/schedules", &body).await?)
        }
        Schedule::Edit { schedule, flags } => {
            change(session, &schedule, &flags.body()?.into()).await
        }
        Schedule::Enable { schedule } => {
            change(session, &schedule, &json!({"enabled": true})).await
        }
        Schedule::Disable { schedule } => {
            change(session, &schedule, &json!({"enabled": false})).await
        }
        Schedule::Remove { schedule, yes } => {
            let no = number(session, &schedule).await?;
            confirm(&format!("Remove the schedule {schedule} (number {no})?"), yes)?;
            client.delete(&format!("/v1/schedules/{no}")).await?;
            session.say(&format!("{schedule} is removed"));
            Ok(())
        }
    }
}

async fn change(session: &Session, schedule: &str, body: &Value) -> Result<(), CliError> {
    let no = number(session, schedule).await?;
    let path = format!("/v1/schedules/{no}");
    session.object(&session.client.send(Method::PATCH, &path, body).await?)
}

/// The number of a schedule that was given by number or name.
async fn number(session: &Session, given: &str) -> Result<i64, CliError> {
    if let Ok(number) = given.parse() {
        return Ok(number);
    }
    let all = session.client.all("/v1/schedules").await?;
    let found = named(&all, given)?;
    found["no"].as_i64().ok_or_else(|| CliError::new(Exit::Refused, "a schedule without a number"))
}

/// The one of that name, or of that name in a pack when there is only one.
fn named<'a>(all: &'a [Value], given: &str) -> Result<&'a Value, CliError> {
    let name = |schedule: &'a Value| schedule["name"].as_str().unwrap_or_default();
    if let Some(found) = all.iter().find(|schedule| name(schedule) == given) {
        return Ok(found);
    }
    let in_pack = |schedule: &&Value| {
        let pack = schedule["pack"].as_str().filter(|pack| !pack.is_empty());
        pack.is_some_and(|pack| schedule["name"] == format!("pack/{pack}/{given}"))
    };
    let found: Vec<&Value> = all.iter().filter(in_pack).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let message = format!(
                "no schedule is named {given:?}; one in a pack is named pack/PACK/NAME, see \
                 `muster schedule list`"
            );
            Err(CliError::new(Exit::Refused, message))
        }
        _ => {
            let names: Vec<&str> = found.into_iter().map(name).collect();
            let message = format!("{given:?} is in several packs; say {}", names.join(" or "));
            Err(CliError::usage(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_of_a_pack_is_found_by_its_bare_name_when_there_is_one() {
        let all = [
            json!({"no": 1, "name": "users", "pack": ""}),
            json!({"no": 2, "name": "pack/it/users", "pack": "it"}),
            json!({"no": 3, "name": "pack/it/usb/a", "pack": "it"}),
            json!({"no": 4, "name": "pack/it/disks", "pack": "it"}),
            json!({"no": 5, "name": "pack/lab/disks", "pack": "lab"}),
        ];
        for (given, no) in [("users", 1), ("pack/it/users", 2), ("usb/a", 3)] {
            assert_eq!(named(&all, given).unwrap()["no"], no, "{given}");
        }
        let several = named(&all, "disks").unwrap_err().message;
        assert!(several.contains("pack/it/disks or pack/lab/disks"), "{several}");
        assert!(named(&all, "a").unwrap_err().message.contains("pack/PACK/NAME"));
    }
}
