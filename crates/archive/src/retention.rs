//! How long rows are kept, by class and by the day they were received.
//!
//! The rows of a hunt with `hold_until` in the future stay: parts that have others as well are
//! rewritten with a part for each held hunt, which is passed over from then on.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_catalog::{Catalog, Priority, Row, args};
use muster_results::{Dropped, RowClass};
use muster_types::{HuntNo, Timestamp};

use crate::manifest::{self, Part, number, part};
use crate::rewrite::{Job, Terms, held_still, rewrite};
use crate::statements as sql;
use crate::{Archive, Error};

/// How long rows are kept.
#[derive(Clone, Debug)]
pub struct RetainOptions {
    /// Who does it, for the names of objects.
    pub writer: String,
    /// Days for what somebody asked for, and for our own account of it.
    pub collected_days: u32,
    /// Days for what agents send by themselves.
    pub scheduled_days: u32,
    /// How long dropped objects stay for readers that have them in their plan.
    pub grace: Duration,
}

impl Default for RetainOptions {
    fn default() -> Self {
        Self {
            writer: "retain".to_owned(),
            collected_days: 365,
            scheduled_days: 30,
            grace: Duration::from_secs(30 * 60),
        }
    }
}

/// What one step of retention did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Parts taken out.
    pub parts: usize,
    /// Rows that went.
    pub rows: u64,
    /// Rows kept for a hold.
    pub held_rows: u64,
    /// Parts passed over before because their objects cannot be read: they stay whole.
    pub unreadable: usize,
}

/// Parts taken out in one transaction.
const PARTS_MAX: i64 = 256;
/// Parts looked at when those before cannot be read.
const LOOKED_AT_MAX: i64 = 16 * PARTS_MAX;

/// One step, if there is one: call again until there is none. Safe to drop at any await. An object that
/// is damaged or gone is passed over; parts of the current class have no age.
///
/// # Errors
/// [`Error::Stale`] when another process did it meanwhile.
pub async fn retain_once(
    catalog: &Catalog,
    archive: &Archive,
    options: &RetainOptions,
    now: Timestamp,
) -> Result<Option<Retained>, Error> {
    let mut unreadable = BTreeSet::new();
    for class in RowClass::ALL {
        let days = match class {
            RowClass::Scheduled => options.scheduled_days,
            RowClass::Collected | RowClass::System => options.collected_days,
            RowClass::Current => continue,
        };
        let first_kept = now.day() - i64::from(days);
        let mut limit = PARTS_MAX;
        loop {
            let values = args![class.as_str(), first_kept, now, limit];
            let rows = catalog.fetch_all(&sql::EXPIRED_PARTS, values).await?;
            let step = of_some(catalog, archive, options, &rows, &mut unreadable, now).await?;
            if let Some(done) = step {
                return Ok(Some(Retained { unreadable: unreadable.len(), ..done }));
            }
            if (rows.len() as i64) < limit || limit >= LOOKED_AT_MAX {
                break;
            }
            limit *= 4;
        }
    }
    Ok(None)
}

/// Takes out what can be of some expired parts; `None` when there is nothing to do, or nothing that can be read.
async fn of_some(
    catalog: &Catalog,
    archive: &Archive,
    options: &RetainOptions,
    rows: &[Row],
    unreadable: &mut BTreeSet<(String, u32)>,
    now: Timestamp,
) -> Result<Option<Retained>, Error> {
    let mut free = Vec::new();
    for row in rows {
        let part = part(row)?;
        let place = (part.object.clone(), part.part);
        let held = held(catalog, &part, now).await?;
        if held.is_empty() && free.len() < PARTS_MAX as usize {
            free.push(part);
        } else if free.is_empty() && !unreadable.contains(&place) {
            match keep(catalog, archive, options, part, &held, now).await {
                Err(error) if error.is_of_objects() => {
                    let object = &place.0;
                    tracing::error!(%error, object, "held rows of an object cannot be parted");
                    unreadable.insert(place);
                }
                done => return done.map(Some),
            }
        }
    }
    if free.is_empty() {
        return Ok(None);
    }
    drop_parts(catalog, &free, options, now).await.map(Some)
}

async fn held(catalog: &Catalog, part: &Part, now: Timestamp) -> Result<BTreeSet<HuntNo>, Error> {
    let (low, high) = (number(part.info.hunt_min.0), number(part.info.hunt_max.0));
    if high == 0 {
        return Ok(BTreeSet::new());
    }
    let rows = catalog.fetch_all(&sql::HELD_HUNTS, args![low, high, now]).await?;
    rows.iter().map(|row| Ok(HuntNo(row.get("no")?))).collect()
}

async fn drop_parts(
    catalog: &Catalog,
    parts: &[Part],
    options: &RetainOptions,
    now: Timestamp,
) -> Result<Retained, Error> {
    let mut tx = catalog.begin(Priority::Intake).await?;
    let not_before = now.plus(options.grace);
    let nobody = BTreeSet::new();
    let replaced = async {
        held_still(&mut tx, parts, &nobody, now).await?;
        manifest::replace(&mut tx, parts, None, not_before, "retention").await
    };
    match replaced.await {
        Ok(_) => tx.commit().await?,
        Err(error) => {
            tx.rollback().await;
            return Err(error);
        }
    }
    let rows = parts.iter().map(|part| part.info.row_count).sum();
    Ok(Retained { parts: parts.len(), rows, ..Retained::default() })
}

/// Rewrites a part with only the rows of held hunts, each in a part of its own.
async fn keep(
    catalog: &Catalog,
    archive: &Archive,
    options: &RetainOptions,
    part: Part,
    held: &BTreeSet<HuntNo>,
    now: Timestamp,
) -> Result<Retained, Error> {
    let job = |hunt: &HuntNo| Job {
        parts: vec![part.clone()],
        dropped: Dropped { all_but: Some(BTreeSet::from([*hunt])), ..Dropped::default() },
    };
    let jobs = held.iter().map(job).collect();
    let terms = Terms {
        level: part.level.max(1),
        writer: &options.writer,
        now,
        not_before: now.plus(options.grace),
        reason: "retention",
        only_to_drop: false,
        held: Some(held),
    };
    let done = rewrite(catalog, archive, &[part], jobs, terms).await?;
    let rows = done.rows_in.saturating_sub(done.rows_out);
    Ok(Retained { parts: 1, rows, held_rows: done.rows_out, unreadable: 0 })
}
