//! Making, changing and deleting schedules and fragments, in the caller's transaction.
//!
//! Every change raises the feed `schedule` first, so changes follow one another and what is looked at
//! here cannot change before the commit.

use muster_artifact::{Artifact, find_builtin, parse};
use muster_catalog::{Error, Tx, args};
use muster_types::{OrgId, Timestamp};
use serde::Serialize;

use crate::check::{
    FRAGMENTS_MAX, SCHEDULES_MAX, check_artifact, check_fragment, check_schedule, check_sections,
    check_sql, invalid,
};
use crate::model::reported_name;
use crate::own_artifact::{free_name, own_artifact};
use crate::{Edit, NewFragment, NewSchedule, Schedule, ScheduleError, What, rows};

muster_catalog::statements! {
    small COUNT = "SELECT COUNT(*) AS n FROM schedule WHERE org = $1 AND deleted_at IS NULL";
    FIND = "SELECT no FROM schedule WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    /// The discovery queries of a pack, which all its schedules share.
    small DISCOVERY = "SELECT discovery FROM schedule
        WHERE org = $1 AND pack = $2 AND deleted_at IS NULL
        ORDER BY no
        LIMIT 1";
    INSERT = "INSERT INTO schedule
            (no, org, name, pack, artifact, own_artifact, parameters, description, interval_s, mode,
            platforms, min_version, shard_percent, discovery, denylist, priority, labels_in,
            labels_out, enabled, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, $21, NULL, $22)";
    UPDATE = "UPDATE schedule
        SET artifact = $2,
            own_artifact = $3,
            parameters = $4,
            description = $5,
            interval_s = $6,
            mode = $7,
            platforms = $8,
            min_version = $9,
            shard_percent = $10,
            discovery = $11,
            denylist = $12,
            priority = $13,
            labels_in = $14,
            labels_out = $15,
            enabled = $16,
            change = $17
        WHERE no = $1";
    small SHARE_DISCOVERY = "UPDATE schedule
        SET discovery = $3, change = $4
        WHERE org = $1 AND pack = $2 AND deleted_at IS NULL AND discovery <> $3";
    DELETE = "UPDATE schedule SET deleted_at = $2, change = $3 WHERE no = $1";
    GET_ARTIFACT = "SELECT yaml FROM artifact WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    PUT_ARTIFACT = "INSERT INTO artifact (org, name, yaml, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, NULL, $6)
        ON CONFLICT (org, name) DO UPDATE
        SET yaml = excluded.yaml,
            created_at = excluded.created_at,
            created_by = excluded.created_by,
            deleted_at = NULL,
            change = excluded.change";
    DELETE_ARTIFACT = "UPDATE artifact SET deleted_at = $3, change = $4
        WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    small COUNT_FRAGMENTS = "SELECT COUNT(*) AS n FROM osquery_config WHERE org = $1";
    PUT_FRAGMENT = "INSERT INTO osquery_config
            (no, org, name, label, platforms, precedence, sections, created_at, created_by, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (org, name) DO UPDATE
        SET label = excluded.label,
            platforms = excluded.platforms,
            precedence = excluded.precedence,
            sections = excluded.sections,
            created_at = excluded.created_at,
            created_by = excluded.created_by,
            change = excluded.change";
    DELETE_FRAGMENT = "DELETE FROM osquery_config WHERE org = $1 AND name = $2";
}

/// Makes a schedule.
///
/// # Errors
/// [`ScheduleError`].
pub async fn create_schedule_in(
    tx: &mut Tx,
    org: OrgId,
    new: &NewSchedule,
    by: &str,
    now: Timestamp,
) -> Result<Schedule, ScheduleError> {
    check_schedule(new)?;
    let artifact_change = tx.bump("artifact").await?;
    let no = tx.bump("number/schedule").await?;
    let change = tx.bump("schedule").await?;
    let name = reported_name(&new.pack, &new.name);
    if tx.fetch_optional(&FIND, args![org, &name]).await?.is_some() {
        return Err(ScheduleError::Exists(name));
    }
    if tx.fetch_one(&COUNT, args![org]).await?.get::<i64>("n")? >= SCHEDULES_MAX {
        return Err(ScheduleError::TooMany(SCHEDULES_MAX));
    }
    let mut schedule = Schedule {
        no,
        org,
        name,
        pack: new.pack.clone(),
        artifact: String::new(),
        own_artifact: false,
        parameters: Default::default(),
        description: new.description.trim().to_owned(),
        interval_s: new.interval_s,
        mode: new.mode,
        platforms: new.platforms,
        min_version: new.min_version.clone(),
        shard_percent: new.shard_percent,
        discovery: match &new.discovery {
            Some(given) => given.clone(),
            None => discovery_of(tx, org, &new.pack).await?,
        },
        denylist: new.denylist,
        priority: new.priority,
        labels_in: new.labels_in.clone(),
        labels_out: new.labels_out.clone(),
        enabled: new.enabled,
        created_at: now,
        created_by: by.to_owned(),
        deleted_at: None,
    };
    runs(tx, &mut schedule, &new.what, (by, now, artifact_change)).await?;
    let s = &schedule;
    let args = args![
        no,
        org,
        &s.name,
        &s.pack,
        &s.artifact,
        s.own_artifact,
        json(&s.parameters),
        &s.description,
        s.interval_s,
        s.mode.as_str(),
        s.platforms.to_string(),
        &s.min_version,
        s.shard_percent,
        json(&s.discovery),
        s.denylist,
        s.priority,
        json(&s.labels_in),
        json(&s.labels_out),
        s.enabled,
        now,
        by,
        change,
    ];
    tx.execute(&INSERT, args).await?;
    share_discovery(tx, &schedule, change).await?;
    Ok(schedule)
}

/// Changes a schedule.
///
/// # Errors
/// [`ScheduleError`].
pub async fn change_schedule_in(
    tx: &mut Tx,
    org: OrgId,
    no: i64,
    edit: &Edit,
    by: &str,
    now: Timestamp,
) -> Result<Schedule, ScheduleError> {
    let artifact_change = tx.bump("artifact").await?;
    let change = tx.bump("schedule").await?;
    let mut schedule = known(tx, org, no).await?;
    edit.apply(&mut schedule);
    check_schedule(&as_new(&schedule))?;
    if let Some(what) = &edit.what {
        let before = (schedule.own_artifact, schedule.artifact.clone());
        runs(tx, &mut schedule, what, (by, now, artifact_change)).await?;
        if before.0 && before.1 != schedule.artifact {
            tx.execute(&DELETE_ARTIFACT, args![org, before.1, now, artifact_change]).await?;
        }
    }
    let s = &schedule;
    let args = args![
        no,
        &s.artifact,
        s.own_artifact,
        json(&s.parameters),
        &s.description,
        s.interval_s,
        s.mode.as_str(),
        s.platforms.to_string(),
        &s.min_version,
        s.shard_percent,
        json(&s.discovery),
        s.denylist,
        s.priority,
        json(&s.labels_in),
        json(&s.labels_out),
        s.enabled,
        change,
    ];
    tx.execute(&UPDATE, args).await?;
    share_discovery(tx, &schedule, change).await?;
    Ok(schedule)
}

/// Deletes a schedule, and the artifact that was made for it. What it collected stays; rows that agents
/// still hold under its name are taken for another 30 days.
///
/// # Errors
/// [`ScheduleError`].
pub async fn delete_schedule_in(
    tx: &mut Tx,
    org: OrgId,
    no: i64,
    now: Timestamp,
) -> Result<Schedule, ScheduleError> {
    let artifact_change = tx.bump("artifact").await?;
    let change = tx.bump("schedule").await?;
    let schedule = known(tx, org, no).await?;
    tx.execute(&DELETE, args![no, now, change]).await?;
    if schedule.own_artifact {
        tx.execute(&DELETE_ARTIFACT, args![org, &schedule.artifact, now, artifact_change]).await?;
    }
    Ok(schedule)
}

/// Stores a fragment; an earlier one of that name is replaced.
///
/// # Errors
/// [`ScheduleError`].
pub async fn put_fragment_in(
    tx: &mut Tx,
    org: OrgId,
    new: &NewFragment,
    by: &str,
    now: Timestamp,
) -> Result<(), ScheduleError> {
    check_fragment(&new.name, new.platforms)?;
    check_sections(&new.sections)?;
    let no = tx.bump("number/osquery_config").await?;
    let change = tx.bump("schedule").await?;
    if tx.fetch_one(&COUNT_FRAGMENTS, args![org]).await?.get::<i64>("n")? >= FRAGMENTS_MAX {
        return Err(ScheduleError::TooMany(FRAGMENTS_MAX));
    }
    let args = args![
        no,
        org,
        &new.name,
        &new.label,
        new.platforms.to_string(),
        new.precedence,
        json(&new.sections),
        now,
        by,
        change,
    ];
    tx.execute(&PUT_FRAGMENT, args).await?;
    Ok(())
}

/// Deletes a fragment. Whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn delete_fragment_in(tx: &mut Tx, org: OrgId, name: &str) -> Result<bool, Error> {
    tx.bump("schedule").await?;
    Ok(tx.execute(&DELETE_FRAGMENT, args![org, name]).await? == 1)
}

/// Sets what a schedule runs, storing its own artifact when it is SQL.
async fn runs(
    tx: &mut Tx,
    schedule: &mut Schedule,
    what: &What,
    (by, now, change): (&str, Timestamp, i64),
) -> Result<(), ScheduleError> {
    match what {
        What::Artifact { name, parameters } => {
            let artifact = artifact(tx, schedule.org, name).await?;
            check_artifact(&artifact)?;
            artifact.bind(parameters)?;
            schedule.artifact.clone_from(name);
            schedule.own_artifact = false;
            schedule.parameters.clone_from(parameters);
        }
        What::Query(sql) => {
            check_sql("query", sql)?;
            if !schedule.own_artifact {
                schedule.artifact = free_name(tx, schedule).await?;
                schedule.own_artifact = true;
            }
            schedule.parameters.clear();
            let yaml = own_artifact(schedule, sql)?;
            let args = args![schedule.org, &schedule.artifact, yaml, now, by, change];
            tx.execute(&PUT_ARTIFACT, args).await?;
        }
    }
    Ok(())
}

async fn artifact(tx: &mut Tx, org: OrgId, name: &str) -> Result<Artifact, ScheduleError> {
    if let Some(row) = tx.fetch_optional(&GET_ARTIFACT, args![org, name]).await? {
        let read = parse(&row.get::<String>("yaml")?);
        return read.map_err(|error| invalid("artifact", format!("{name}: {error}")));
    }
    let found = find_builtin(name).cloned();
    found.ok_or_else(|| invalid("artifact", format!("there is no artifact {name:?}")))
}

/// Whether people have an artifact of this name, or it comes with the program.
pub(crate) async fn artifact_exists(tx: &mut Tx, org: OrgId, name: &str) -> Result<bool, Error> {
    let own = tx.fetch_optional(&GET_ARTIFACT, args![org, name]).await?;
    Ok(own.is_some() || find_builtin(name).is_some())
}

async fn known(tx: &mut Tx, org: OrgId, no: i64) -> Result<Schedule, ScheduleError> {
    let found = rows::schedule_in(tx, org, no).await?;
    found.ok_or_else(|| ScheduleError::Unknown(format!("schedule {no}")))
}

async fn discovery_of(tx: &mut Tx, org: OrgId, pack: &str) -> Result<Vec<String>, Error> {
    if pack.is_empty() {
        return Ok(Vec::new());
    }
    let Some(row) = tx.fetch_optional(&DISCOVERY, args![org, pack]).await? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&row.get::<String>("discovery")?)
        .map_err(|error| Error::Other(format!("column discovery: {error}")))
}

async fn share_discovery(tx: &mut Tx, schedule: &Schedule, change: i64) -> Result<(), Error> {
    if !schedule.pack.is_empty() {
        let args = args![schedule.org, &schedule.pack, json(&schedule.discovery), change];
        tx.execute(&SHARE_DISCOVERY, args).await?;
    }
    Ok(())
}

/// The schedule as if it were to be made now, to be checked by the same rules.
fn as_new(schedule: &Schedule) -> NewSchedule {
    NewSchedule {
        name: schedule.short_name().to_owned(),
        pack: schedule.pack.clone(),
        what: What::Query(String::new()),
        description: schedule.description.clone(),
        interval_s: schedule.interval_s,
        mode: schedule.mode,
        platforms: schedule.platforms,
        min_version: schedule.min_version.clone(),
        shard_percent: schedule.shard_percent,
        discovery: Some(schedule.discovery.clone()),
        denylist: schedule.denylist,
        priority: schedule.priority,
        labels_in: schedule.labels_in.clone(),
        labels_out: schedule.labels_out.clone(),
        enabled: schedule.enabled,
    }
}

impl Edit {
    /// Changes everything but what it runs.
    fn apply(&self, schedule: &mut Schedule) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        set(&mut schedule.description, self.description.as_ref());
        set(&mut schedule.interval_s, self.interval_s.as_ref());
        set(&mut schedule.mode, self.mode.as_ref());
        set(&mut schedule.platforms, self.platforms.as_ref());
        set(&mut schedule.min_version, self.min_version.as_ref());
        set(&mut schedule.shard_percent, self.shard_percent.as_ref());
        set(&mut schedule.discovery, self.discovery.as_ref());
        set(&mut schedule.denylist, self.denylist.as_ref());
        set(&mut schedule.priority, self.priority.as_ref());
        set(&mut schedule.labels_in, self.labels_in.as_ref());
        set(&mut schedule.labels_out, self.labels_out.as_ref());
        set(&mut schedule.enabled, self.enabled.as_ref());
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain values become JSON")
}
