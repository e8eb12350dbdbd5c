//! From rows of the catalog to values.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use muster_artifact::RowClass;
use muster_catalog::{Error, Row};
use muster_results::TableSpec;
use muster_types::{AgentSet, HuntNo, OrgId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::news::Wave;
use crate::{Definition, HuntDef, ShardProgress};

muster_catalog::statements! {
    pub(crate) NEWEST = "SELECT topic, seq FROM feed WHERE topic IN ('hunt', 'progress', 'wave')";
    pub(crate) HUNTS_SINCE = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at, change
        FROM hunt
        WHERE change > $1";
    /// Live ones, and those ended after `$1`, whose tasks may have to be cancelled or given up still.
    pub(crate) LIVE_HUNTS = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at, change
        FROM hunt
        WHERE state IN ('awaiting_approval', 'running', 'paused', 'stopped', 'expired', 'finished')
          AND (ended_at IS NULL OR ended_at > $1)";
    pub(crate) ONE_HUNT = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at, change
        FROM hunt
        WHERE no = $1";
    pub(crate) WAVES_SINCE = "SELECT hunt_no, wave, agents, committed_at, change
        FROM hunt_wave
        WHERE change > $1
        ORDER BY change";
    pub(crate) WAVES_OF = "SELECT hunt_no, wave, agents, committed_at
        FROM hunt_wave
        WHERE hunt_no = $1
        ORDER BY wave";
    pub(crate) INSERT_WAVE = "INSERT INTO hunt_wave
            (hunt_no, wave, agents, agent_count, committed_at, change)
        VALUES ($1, $2, $3, $4, $5, $6)";
    pub(crate) PROGRESS_SINCE = "SELECT hunt_no, shard, progress, change
        FROM hunt_shard
        WHERE change > $1";
    pub(crate) PROGRESS_OF = "SELECT hunt_no, shard, progress
        FROM hunt_shard
        WHERE hunt_no = $1";
}

/// The row of a hunt, as hints carry it. Columns of words and JSON are kept as they are, so that what a
/// newer version writes is passed on as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HuntRow {
    pub(crate) no: HuntNo,
    pub(crate) org: OrgId,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) title: String,
    pub(crate) artifact: String,
    pub(crate) definition: String,
    pub(crate) table_name: String,
    pub(crate) scope: String,
    pub(crate) limits: String,
    pub(crate) caller_scope: String,
    pub(crate) requested_by: String,
    pub(crate) approved_by: Option<String>,
    pub(crate) reason: String,
    pub(crate) incident: Option<String>,
    pub(crate) hold_until: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) pause_reason: Option<String>,
    pub(crate) deleted_at: Option<Timestamp>,
    pub(crate) change: i64,
}

impl HuntRow {
    pub(crate) fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            no: row.get("no")?,
            org: row.get("org")?,
            kind: row.get("kind")?,
            state: row.get("state")?,
            title: row.get("title")?,
            artifact: row.get("artifact")?,
            definition: row.get("definition")?,
            table_name: row.get("table_name")?,
            scope: row.get("scope")?,
            limits: row.get("limits")?,
            caller_scope: row.get("caller_scope")?,
            requested_by: row.get("requested_by")?,
            approved_by: row.get("approved_by")?,
            reason: row.get("reason")?,
            incident: row.get("incident")?,
            hold_until: row.get("hold_until")?,
            created_at: row.get("created_at")?,
            started_at: row.get("started_at")?,
            expires_at: row.get("expires_at")?,
            ended_at: row.get("ended_at")?,
            pause_reason: row.get("pause_reason")?,
            deleted_at: row.get("deleted_at")?,
            change: row.get("change")?,
        })
    }

    /// The hunt, and whether it is deleted.
    pub(crate) fn hunt(self) -> Result<(HuntDef, bool), Error> {
        let definition: Definition = of_json("definition", &self.definition)?;
        let class = match definition.class {
            RowClass::Collected => muster_results::RowClass::Collected,
            RowClass::Scheduled => muster_results::RowClass::Scheduled,
        };
        let table = TableSpec {
            name: self.table_name,
            class,
            open: definition.columns.is_empty(),
            columns: definition.columns,
        };
        let def = HuntDef {
            no: self.no,
            org: self.org,
            kind: of_word("kind", &self.kind)?,
            title: self.title,
            artifact: self.artifact,
            sources: definition.sources,
            parameters: definition.parameters,
            table: Arc::new(table),
            scope: of_json("scope", &self.scope)?,
            limits: of_json("limits", &self.limits)?,
            caller_scope: of_json("caller_scope", &self.caller_scope)?,
            requested_by: self.requested_by,
            reason: self.reason,
            incident: self.incident,
            created_at: self.created_at,
            state: of_word("state", &self.state)?,
            pause_reason: self.pause_reason,
            approved_by: self.approved_by,
            hold_until: self.hold_until,
            started_at: self.started_at,
            expires_at: self.expires_at,
            ended_at: self.ended_at,
        };
        Ok((def, self.deleted_at.is_some()))
    }
}

pub(crate) fn wave(row: &Row, hunt: HuntNo, seq: i64) -> Result<Wave, Error> {
    let bytes: Vec<u8> = row.get("agents")?;
    let agents = AgentSet::from_bytes(&bytes)
        .map_err(|error| Error::Other(format!("agents of a wave: {error}")))?;
    let (wave, committed_at) = (row.get("wave")?, row.get("committed_at")?);
    Ok(Wave { seq, hunt, wave, committed_at, agents })
}

pub(crate) fn progress(row: &Row) -> Result<ShardProgress, Error> {
    let bytes: Vec<u8> = row.get("progress")?;
    ShardProgress::decode(&bytes).map_err(|error| Error::Other(error.to_string()))
}

/// A column that holds JSON.
pub(crate) fn read<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    of_json(column, &row.get::<String>(column)?)
}

/// A column that holds one of some words.
pub(crate) fn word<T: FromStr<Err: Display>>(row: &Row, column: &str) -> Result<T, Error> {
    of_word(column, &row.get::<String>(column)?)
}

fn of_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Other(format!("column {column}: {error}")))
}

fn of_word<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| Error::Other(format!("column {column}: {error}")))
}
