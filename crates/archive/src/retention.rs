//! How long rows are kept, by class and by the day they were received.
//!
//! The rows of a hunt with `hold_until` in the future stay: parts that have others as well are
//! rewritten with a part for each held hunt, which is passed over from then on.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_catalog::{Catalog, Priority, args};
use muster_results::{Dropped, RowClass};
use muster_types::{HuntNo, Timestamp};

use crate::manifest::{self, Part, number, part};
use crate::rewrite::{Job, Terms, rewrite};
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
}

/// Parts taken out in one transaction.
const PARTS_MAX: i64 = 256;

/// One step, if there is one: call again until there is none. Safe to drop at any await.
///
/// # Errors
/// [`Error::Stale`] when another process did it meanwhile.
pub async fn retain_once(
    catalog: &Catalog,
    archive: &Archive,
    options: &RetainOptions,
    now: Timestamp,
) -> Result<Option<Retained>, Error> {
    for class in RowClass::ALL {
        let days = match class {
            RowClass::Scheduled => options.scheduled_days,
            RowClass::Collected | RowClass::System => options.collected_days,
        };
        let first_kept = now.day() - i64::from(days);
        let values = args![class.as_str(), first_kept, now, PARTS_MAX];
        let rows = catalog.fetch_all(&sql::EXPIRED_PARTS, values).await?;
        let mut free = Vec::new();
        for row in &rows {
            let part = part(row)?;
            let held = held(catalog, &part, now).await?;
            if held.is_empty() {
                free.push(part);
            } else if free.is_empty() {
                return keep(catalog, archive, options, part, &held, now).await.map(Some);
            }
        }
        if !free.is_empty() {
            return drop_parts(catalog, &free, options, now).await.map(Some);
        }
    }
    Ok(None)
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
    match manifest::replace(&mut tx, parts, None, not_before, "retention").await {
        Ok(_) => tx.commit().await?,
        Err(error) => {
            tx.rollback().await;
            return Err(error);
        }
    }
    let rows = parts.iter().map(|part| part.info.row_count).sum();
    Ok(Retained { parts: parts.len(), rows, held_rows: 0 })
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
    };
    let done = rewrite(catalog, archive, &[part], jobs, terms).await?;
    let rows = done.rows_in.saturating_sub(done.rows_out);
    Ok(Retained { parts: 1, rows, held_rows: done.rows_out })
}
