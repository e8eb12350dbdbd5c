//! Schedules as the API shows and takes them.

use std::collections::BTreeMap;
use std::str::FromStr;

use muster_schedules::{self as schedules, Edit, NewSchedule, What};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Problem, Result};
use crate::time::Time;

/// How often a query runs that says nothing about it, as in osquery.
const INTERVAL_S: u32 = 3_600;

/// An artifact that agents run by themselves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its number.
    pub no: i64,
    /// The name agents report it under: `pack/{pack}/{name}` for one in a pack.
    #[schema(example = "pack/it/usb_devices")]
    pub name: String,
    /// The pack it belongs to; missing for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pack: String,
    /// The artifact it runs.
    pub artifact: String,
    /// The SQL, when it was given as such; the artifact was made for it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The table its rows are in, in SQL.
    pub table: String,
    /// Values of the artifact's parameters.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// What it is for.
    pub description: String,
    /// Seconds between runs.
    pub interval_s: u32,
    /// What agents send of it: `snapshot`, `differential` or `added_only`.
    pub mode: String,
    /// Systems, divided by commas; empty: all.
    pub platforms: String,
    /// Lowest version of the agent; empty: any.
    pub min_version: String,
    /// The share of hosts that take part.
    pub shard_percent: u8,
    /// SQL that must all give a row for its pack to run.
    pub discovery: Vec<String>,
    /// Whether an agent that dies while it runs sets it aside for a day.
    pub denylist: bool,
    /// Order of the first runs; 0: none.
    pub priority: i64,
    /// Only on endpoints with one of these labels; empty: on all.
    pub labels_in: Vec<String>,
    /// Not on endpoints with one of these.
    pub labels_out: Vec<String>,
    /// Whether it is in agents' configuration.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
}

impl Schedule {
    pub(crate) fn of(schedule: schedules::Schedule, query: Option<String>) -> Self {
        Self {
            no: schedule.no,
            name: schedule.name,
            pack: schedule.pack,
            table: muster_artifact::table_name(&schedule.artifact),
            artifact: schedule.artifact,
            query,
            parameters: schedule.parameters,
            description: schedule.description,
            interval_s: schedule.interval_s,
            mode: schedule.mode.to_string(),
            platforms: schedule.platforms.to_string(),
            min_version: schedule.min_version,
            shard_percent: schedule.shard_percent,
            discovery: schedule.discovery,
            denylist: schedule.denylist,
            priority: schedule.priority,
            labels_in: schedule.labels_in,
            labels_out: schedule.labels_out,
            enabled: schedule.enabled,
            created_at: schedule.created_at.into(),
            created_by: schedule.created_by,
        }
    }
}

/// An artifact, or SQL, at an interval. What is left out takes its default in a new schedule, and stays
/// in one that is changed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleBody {
    /// Its name, in its pack if it has one. It never changes.
    #[schema(example = "usb_devices")]
    name: Option<String>,
    /// The pack it belongs to. It never changes.
    pack: Option<String>,
    /// An artifact that has a source for osquery.
    artifact: Option<String>,
    /// Values of its parameters.
    #[schema(value_type = Option<Object>)]
    parameters: Option<BTreeMap<String, serde_json::Value>>,
    /// Instead of an artifact: SQL.
    #[schema(example = "SELECT vendor, model, serial FROM usb_devices")]
    query: Option<String>,
    /// What it is for.
    description: Option<String>,
    /// Seconds between runs, 1 to 604800; 3600 when a new one has none.
    #[schema(minimum = 1, maximum = 604800)]
    interval_s: Option<u32>,
    /// `snapshot`, `differential` (default) or `added_only`.
    mode: Option<String>,
    /// Systems, divided by commas: `darwin`, `linux`, `windows`, `posix`.
    platforms: Option<String>,
    /// Lowest version of the agent, for example `5.8.0`.
    min_version: Option<String>,
    /// The share of hosts that take part, 1 to 100.
    shard_percent: Option<u8>,
    /// SQL that must all give a row for the pack to run; it goes for all schedules of the pack.
    discovery: Option<Vec<String>>,
    /// Whether an agent that dies while it runs may set it aside for a day.
    denylist: Option<bool>,
    /// Order of the first runs after a start (agents from 5.17 on).
    priority: Option<i64>,
    /// Only on endpoints with one of these labels.
    labels_in: Option<Vec<String>>,
    /// Not on endpoints with one of these.
    labels_out: Option<Vec<String>>,
    /// Whether it is in agents' configuration.
    enabled: Option<bool>,
}

impl ScheduleBody {
    /// A new schedule.
    pub(crate) fn new_schedule(mut self) -> Result<NewSchedule> {
        let Some(name) = self.name.take() else {
            return Err(Problem::invalid("/name", "name: give one"));
        };
        let pack = self.pack.take().unwrap_or_default();
        let edit = self.edit()?;
        let Some(what) = edit.what else {
            return Err(Problem::invalid("/artifact", "name an artifact, or give a query"));
        };
        let defaults = NewSchedule::of_query(&name, "", INTERVAL_S);
        Ok(NewSchedule {
            pack,
            what,
            description: edit.description.unwrap_or_default(),
            interval_s: edit.interval_s.unwrap_or(defaults.interval_s),
            mode: edit.mode.unwrap_or_default(),
            platforms: edit.platforms.unwrap_or_default(),
            min_version: edit.min_version.unwrap_or_default(),
            shard_percent: edit.shard_percent.unwrap_or(defaults.shard_percent),
            discovery: edit.discovery,
            denylist: edit.denylist.unwrap_or(defaults.denylist),
            priority: edit.priority.unwrap_or_default(),
            labels_in: edit.labels_in.unwrap_or_default(),
            labels_out: edit.labels_out.unwrap_or_default(),
            enabled: edit.enabled.unwrap_or(defaults.enabled),
            ..defaults
        })
    }

    /// A change of one that exists.
    pub(crate) fn edit(self) -> Result<Edit> {
        if self.name.is_some() || self.pack.is_some() {
            let detail = "a schedule's name and pack stay, since agents hold results under them; \
                          make another one";
            return Err(Problem::invalid("/name", detail));
        }
        let what = match (self.artifact, self.query) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("/query", "give an artifact or a query, not both"));
            }
            (Some(name), None) => {
                Some(What::Artifact { name, parameters: self.parameters.unwrap_or_default() })
            }
            (None, Some(_)) if self.parameters.is_some() => {
                return Err(Problem::invalid("/parameters", "are for artifacts, not for queries"));
            }
            (None, Some(sql)) => Some(What::Query(sql)),
            (None, None) if self.parameters.is_some() => {
                return Err(Problem::invalid("/parameters", "name the artifact with them"));
            }
            (None, None) => None,
        };
        Ok(Edit {
            what,
            description: self.description,
            interval_s: self.interval_s,
            mode: word("/mode", self.mode)?,
            platforms: word("/platforms", self.platforms)?,
            min_version: self.min_version,
            shard_percent: self.shard_percent,
            discovery: self.discovery,
            denylist: self.denylist,
            priority: self.priority,
            labels_in: self.labels_in,
            labels_out: self.labels_out,
            enabled: self.enabled,
        })
    }
}

/// Reads a word that may be missing.
pub(crate) fn word<T: FromStr<Err = String>>(at: &str, text: Option<String>) -> Result<Option<T>> {
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|message| Problem::invalid(at, message))
}
