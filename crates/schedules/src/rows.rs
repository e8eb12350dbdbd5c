//! Reading schedules and fragments from the catalog.

use muster_catalog::{Catalog, Error, Row, Tx, args};
use muster_types::{OrgId, Timestamp};
use serde::de::DeserializeOwned;

use crate::{Fragment, Schedule};

muster_catalog::statements! {
    /// Where the feeds stand.
    pub(crate) NEWEST = "SELECT topic, seq FROM feed WHERE topic IN ('artifact', 'schedule')";
    /// All that agents may know of, of every organisation; people make some hundreds.
    pub(crate) small ALL_SCHEDULES = "SELECT no, org, name, pack, artifact, own_artifact, parameters,
            description, interval_s, mode, platforms, min_version, shard_percent, discovery, denylist,
            priority, labels_in, labels_out, enabled, created_at, created_by, deleted_at
        FROM schedule
        WHERE deleted_at IS NULL OR deleted_at > $1
        ORDER BY no";
    /// Fragments are made by people: tens of them.
    pub(crate) small ALL_FRAGMENTS = "SELECT no, org, name, label, platforms, precedence, sections,
            created_at, created_by
        FROM osquery_config
        ORDER BY no";
    /// The artifacts that schedules run, as far as people wrote them.
    pub(crate) small ARTIFACTS = "SELECT artifact.org AS org, artifact.name AS name, artifact.yaml AS yaml
        FROM artifact
        WHERE artifact.deleted_at IS NULL
          AND EXISTS (
            SELECT 1 FROM schedule
            WHERE schedule.org = artifact.org
              AND schedule.artifact = artifact.name
              AND (schedule.deleted_at IS NULL OR schedule.deleted_at > $1))";
    small LIST = "SELECT no, org, name, pack, artifact, own_artifact, parameters,
            description, interval_s, mode, platforms, min_version, shard_percent, discovery, denylist,
            priority, labels_in, labels_out, enabled, created_at, created_by, deleted_at
        FROM schedule
        WHERE org = $1 AND deleted_at IS NULL
        ORDER BY name";
    GET = "SELECT no, org, name, pack, artifact, own_artifact, parameters,
            description, interval_s, mode, platforms, min_version, shard_percent, discovery, denylist,
            priority, labels_in, labels_out, enabled, created_at, created_by, deleted_at
        FROM schedule
        WHERE no = $2 AND org = $1 AND deleted_at IS NULL";
    small FRAGMENTS = "SELECT no, org, name, label, platforms, precedence, sections, created_at, created_by
        FROM osquery_config
        WHERE org = $1
        ORDER BY name";
}

/// The schedules of an organisation, by name.
///
/// # Errors
/// When the catalog fails.
pub async fn schedules(catalog: &Catalog, org: OrgId) -> Result<Vec<Schedule>, Error> {
    catalog.fetch_all(&LIST, args![org]).await?.iter().map(read_schedule).collect()
}

/// One schedule that is not deleted.
///
/// # Errors
/// When the catalog fails.
pub async fn schedule(catalog: &Catalog, org: OrgId, no: i64) -> Result<Option<Schedule>, Error> {
    catalog.fetch_optional(&GET, args![org, no]).await?.as_ref().map(read_schedule).transpose()
}

pub(crate) async fn schedule_in(
    tx: &mut Tx,
    org: OrgId,
    no: i64,
) -> Result<Option<Schedule>, Error> {
    tx.fetch_optional(&GET, args![org, no]).await?.as_ref().map(read_schedule).transpose()
}

/// The fragments of an organisation, by name.
///
/// # Errors
/// When the catalog fails.
pub async fn fragments(catalog: &Catalog, org: OrgId) -> Result<Vec<Fragment>, Error> {
    catalog.fetch_all(&FRAGMENTS, args![org]).await?.iter().map(read_fragment).collect()
}

/// Where the feeds of schedules and of artifacts stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) schedule: i64,
    pub(crate) artifact: i64,
}

pub(crate) async fn newest(catalog: &Catalog) -> Result<Cursor, Error> {
    let mut cursor = Cursor::default();
    for row in catalog.fetch_all(&NEWEST, args![]).await? {
        match row.get::<String>("topic")?.as_str() {
            "schedule" => cursor.schedule = row.get("seq")?,
            _ => cursor.artifact = row.get("seq")?,
        }
    }
    Ok(cursor)
}

pub(crate) fn read_schedule(row: &Row) -> Result<Schedule, Error> {
    Ok(Schedule {
        no: row.get("no")?,
        org: row.get("org")?,
        name: row.get("name")?,
        pack: row.get("pack")?,
        artifact: row.get("artifact")?,
        own_artifact: row.get("own_artifact")?,
        parameters: json(row, "parameters")?,
        description: row.get("description")?,
        interval_s: row.get("interval_s")?,
        mode: word(row, "mode")?,
        platforms: word(row, "platforms")?,
        min_version: row.get("min_version")?,
        shard_percent: row.get("shard_percent")?,
        discovery: json(row, "discovery")?,
        denylist: row.get("denylist")?,
        priority: row.get("priority")?,
        labels_in: json(row, "labels_in")?,
        labels_out: json(row, "labels_out")?,
        enabled: row.get("enabled")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        deleted_at: row.get::<Option<Timestamp>>("deleted_at")?,
    })
}

pub(crate) fn read_fragment(row: &Row) -> Result<Fragment, Error> {
    Ok(Fragment {
        no: row.get("no")?,
        org: row.get("org")?,
        name: row.get("name")?,
        label: row.get("label")?,
        platforms: word(row, "platforms")?,
        precedence: row.get("precedence")?,
        sections: json(row, "sections")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
    })
}

fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    serde_json::from_str(&row.get::<String>(column)?)
        .map_err(|error| Error::Other(format!("column {column}: {error}")))
}

fn word<T: std::str::FromStr<Err = String>>(row: &Row, column: &str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::Other(format!("column {column}: {error}")))
}
