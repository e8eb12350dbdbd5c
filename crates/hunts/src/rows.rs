//! From rows of the catalog to values.

use std::sync::Arc;

use muster_artifact::RowClass;
use muster_catalog::{Error, Row};
use muster_results::TableSpec;
use serde::de::DeserializeOwned;

use crate::{Definition, HuntDef, ShardProgress};

muster_catalog::statements! {
    pub(crate) NEWEST = "SELECT topic, seq FROM feed WHERE topic IN ('hunt', 'progress', 'wave')";
    pub(crate) HUNTS_SINCE = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at
        FROM hunt
        WHERE change > $1";
    /// Live ones, and those ended after `$1`, whose tasks may have to be cancelled or given up still.
    pub(crate) LIVE_HUNTS = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at
        FROM hunt
        WHERE state IN ('awaiting_approval', 'running', 'paused', 'stopped', 'expired', 'finished')
          AND (ended_at IS NULL OR ended_at > $1)";
    pub(crate) ONE_HUNT = "SELECT no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
            started_at, expires_at, ended_at, pause_reason, deleted_at
        FROM hunt
        WHERE no = $1";
    pub(crate) WAVES_SINCE = "SELECT hunt_no, wave, agents, committed_at
        FROM hunt_wave
        WHERE change > $1
        ORDER BY change";
    pub(crate) WAVES_OF = "SELECT hunt_no, wave, agents, committed_at
        FROM hunt_wave
        WHERE hunt_no = $1
        ORDER BY wave";
    pub(crate) PROGRESS_SINCE = "SELECT hunt_no, shard, progress
        FROM hunt_shard
        WHERE change > $1";
    pub(crate) PROGRESS_OF = "SELECT hunt_no, shard, progress
        FROM hunt_shard
        WHERE hunt_no = $1";
}

/// A hunt, and whether it is deleted.
pub(crate) fn hunt(row: &Row) -> Result<(HuntDef, bool), Error> {
    let definition: Definition = read(row, "definition")?;
    let class = match definition.class {
        RowClass::Collected => muster_results::RowClass::Collected,
        RowClass::Scheduled => muster_results::RowClass::Scheduled,
    };
    let table = TableSpec {
        name: row.get("table_name")?,
        class,
        open: definition.columns.is_empty(),
        columns: definition.columns,
    };
    let def = HuntDef {
        no: row.get("no")?,
        org: row.get("org")?,
        kind: word(row, "kind")?,
        title: row.get("title")?,
        artifact: row.get("artifact")?,
        sources: definition.sources,
        parameters: definition.parameters,
        table: Arc::new(table),
        scope: read(row, "scope")?,
        limits: read(row, "limits")?,
        caller_scope: read(row, "caller_scope")?,
        requested_by: row.get("requested_by")?,
        reason: row.get("reason")?,
        incident: row.get("incident")?,
        created_at: row.get("created_at")?,
        state: word(row, "state")?,
        pause_reason: row.get("pause_reason")?,
        approved_by: row.get("approved_by")?,
        hold_until: row.get("hold_until")?,
        started_at: row.get("started_at")?,
        expires_at: row.get("expires_at")?,
        ended_at: row.get("ended_at")?,
    };
    Ok((def, row.get::<Option<i64>>("deleted_at")?.is_some()))
}

pub(crate) fn progress(row: &Row) -> Result<ShardProgress, Error> {
    let bytes: Vec<u8> = row.get("progress")?;
    ShardProgress::decode(&bytes).map_err(|error| Error::Other(error.to_string()))
}

/// A column that holds JSON.
pub(crate) fn read<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| Error::Other(format!("column {column}: {error}")))
}

/// A column that holds one of some words.
pub(crate) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row,
    column: &str,
) -> Result<T, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::Other(format!("column {column}: {error}")))
}
