//! Deleting objects: those that were retired, once their time has come, and those that nobody ever
//! named.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use muster_catalog::{Catalog, Priority, args};
use muster_types::Timestamp;

use crate::name::{payload_folder, segment_folder};
use crate::statements as sql;
use crate::{Archive, Error};

/// Objects looked at in one step, and deleted side by side.
const OBJECTS_MAX: usize = 256;
const DELETED_AT_ONCE: usize = 8;

/// Deletes retired objects whose time has come and that no hold names; how many. Call again while
/// it deletes some. `now` is the catalog's: holds and retirements end by it. Safe to drop at any await: what was deleted but not forgotten is deleted again.
///
/// # Errors
/// When the archive or the catalog fails.
pub async fn sweep_once(
    catalog: &Catalog,
    archive: &Archive,
    now: Timestamp,
) -> Result<usize, Error> {
    catalog.execute(Priority::Presence, &sql::FORGET_HOLDS, args![now]).await?;
    let rows = catalog.fetch_all(&sql::DUE, args![now, OBJECTS_MAX]).await?;
    let due: Result<Vec<String>, _> = rows.iter().map(|row| row.get("object")).collect();
    let due = due?;
    for some in due.chunks(DELETED_AT_ONCE) {
        let deleting: Vec<_> = some.iter().map(|object| archive.delete(object)).collect();
        try_join_all(deleting).await?;
    }
    if !due.is_empty() {
        let names = serde_json::Value::from(due.as_slice()).to_string();
        catalog.execute(Priority::Presence, &sql::FORGET, args![names]).await?;
    }
    Ok(due.len())
}

/// Whether a copy of the archive is being taken ([`crate::Pause`]): nothing may be deleted meanwhile.
///
/// # Errors
/// When the catalog fails.
pub async fn is_paused(catalog: &Catalog, now: Timestamp) -> Result<bool, Error> {
    Ok(catalog.fetch_optional(&sql::HELD_ALL, args![now]).await?.is_some())
}

/// When an object that nobody names is one that nobody will name.
#[derive(Clone, Copy, Debug)]
pub struct OrphanOptions {
    /// For segments: their transaction follows the object within seconds.
    pub segment_age: Duration,
    /// For payloads: until their record is folded, only the stream names them. `None` leaves them.
    pub payload_age: Option<Duration>,
    /// How many days of folders are looked at, back from that age.
    pub days: u16,
}

impl Default for OrphanOptions {
    fn default() -> Self {
        Self {
            segment_age: Duration::from_secs(24 * 60 * 60),
            payload_age: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            days: 8,
        }
    }
}

/// Deletes objects that are old and neither in the manifest nor retired; how many. Ages are told by the
/// store's clock: `now` is that or the catalog's, whichever is earlier. Safe to drop at any await.
///
/// # Errors
/// When the archive or the catalog fails.
pub async fn orphans_once(
    catalog: &Catalog,
    archive: &Archive,
    options: &OrphanOptions,
    now: Timestamp,
) -> Result<usize, Error> {
    if is_paused(catalog, now).await? {
        return Ok(0);
    }
    let mut deleted = 0;
    let ages = [Some(options.segment_age), options.payload_age];
    for (kind, age) in ages.into_iter().enumerate() {
        let Some(age) = age else { continue };
        let before = now.minus(age);
        for back in 0..=i64::from(options.days) {
            let day = before.day() - back;
            let folder = if kind == 0 { segment_folder(day) } else { payload_folder(day) };
            let listed = archive.list(&folder).await?;
            let old = listed.into_iter().filter(|object| object.modified < before);
            let old: Vec<String> = old.map(|object| object.name).collect();
            for some in old.chunks(OBJECTS_MAX) {
                deleted += delete_unknown(catalog, archive, some).await?;
            }
        }
    }
    Ok(deleted)
}

async fn delete_unknown(
    catalog: &Catalog,
    archive: &Archive,
    objects: &[String],
) -> Result<usize, Error> {
    let names = serde_json::Value::from(objects).to_string();
    let rows = catalog.fetch_all(&sql::KNOWN, args![names]).await?;
    let known: Result<BTreeSet<String>, _> = rows.iter().map(|row| row.get("object")).collect();
    let known = known?;
    let mut deleted = 0;
    for object in objects.iter().filter(|object| !known.contains(*object)) {
        archive.delete(object).await?;
        tracing::info!(object, "deleted an object that nothing refers to");
        deleted += 1;
    }
    Ok(deleted)
}
