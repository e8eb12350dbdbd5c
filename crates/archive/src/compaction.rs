//! Many small parts into few large ones, per organisation, table, class and day.
//!
//! Level 0 is what a flush wrote; level 1 gathers flushes (several tables in one object, so that
//! small tables do not make small objects); level 2 is a day that is over, merged once more. Small
//! parts of level 1 are merged among themselves before that when there are many. Parts of the current
//! class have buckets in the place of days, and their own reasons to reach level 2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_catalog::{Catalog, Row, args};
use muster_results::{Dropped, RowClass};
use muster_types::Timestamp;

use crate::current;
use crate::manifest::{Part, number, part};
use crate::rewrite::{Job, Rewritten, Terms, rewrite};
use crate::statements as sql;
use crate::{Archive, Error};

/// What a compaction did.
pub type Compacted = Rewritten;

/// How compaction works.
#[derive(Clone, Debug)]
pub struct CompactOptions {
    /// Who compacts, for the names of objects.
    pub writer: String,
    /// Flushes younger than this are left alone.
    pub min_age: Duration,
    /// A group of flushes is merged when it has this many parts,
    pub min_parts: u32,
    /// or when one of them is this old.
    pub max_age: Duration,
    /// Bytes that one task reads for level 1, and so the size of its object.
    pub level1_bytes: u64,
    /// The same for level 2.
    pub level2_bytes: u64,
    /// How long replaced objects stay for readers that have them in their plan.
    pub grace: Duration,
    /// Rows that are left out: what was deleted.
    pub dropped: Dropped,
    /// Objects that could not be read or merged, kept between tasks.
    pub passed_over: PassedOver,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            writer: "compact".to_owned(),
            min_age: Duration::from_secs(5 * 60),
            min_parts: 8,
            max_age: Duration::from_secs(60 * 60),
            level1_bytes: 96 << 20,
            level2_bytes: 256 << 20,
            grace: Duration::from_secs(30 * 60),
            dropped: Dropped::default(),
            passed_over: PassedOver::default(),
        }
    }
}

/// Groups merged into one object, parts read for one group, days looked back.
const GROUPS_MAX: i64 = 64;
const PARTS_MAX: i64 = 1024;
const DAYS_BACK: i64 = 14;

/// Objects that compaction leaves alone for a while; shared by those who clone it.
#[derive(Clone, Debug, Default)]
pub struct PassedOver(Arc<Mutex<BTreeMap<String, Timestamp>>>);

/// How long they are left alone.
const PASSED_OVER_FOR: Duration = Duration::from_secs(60 * 60);
/// How many may be.
const PASSED_OVER_MAX: usize = 4096;
/// How often one task goes on to others.
const PASSED_OVER_AT_ONCE: usize = 16;

impl PassedOver {
    fn at(&self, now: Timestamp) -> BTreeSet<String> {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > now);
        until.keys().cloned().collect()
    }

    /// Whether there is room for them; where there is none nothing is added.
    fn add(&self, objects: Vec<String>, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + objects.len() > PASSED_OVER_MAX {
            return false;
        }
        let until = now.plus(PASSED_OVER_FOR);
        known.extend(objects.into_iter().map(|object| (object, until)));
        true
    }
}

struct Group {
    org: i64,
    table: String,
    class: String,
    day: i64,
}

impl Group {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            org: row.get("org")?,
            table: row.get("table_name")?,
            class: row.get("class")?,
            day: row.get("day")?,
        })
    }
}

/// One task, if there is one: call again until there is none.
///
/// Safe to drop at any await. Memory: what it reads, what it writes and some rows of each part.
///
/// # Errors
/// [`Error::Stale`] when another process did it meanwhile; try again later.
pub async fn compact_once(
    catalog: &Catalog,
    archive: &Archive,
    options: &CompactOptions,
    now: Timestamp,
) -> Result<Option<Compacted>, Error> {
    for _ in 0..PASSED_OVER_AT_ONCE {
        let unreadable = options.passed_over.at(now);
        let done = attempt(catalog, archive, options, &unreadable, now).await;
        // What cannot be read or merged must not keep all else from being compacted.
        let (objects, error) = match done {
            Err(ref error @ Error::Damaged { ref object, .. }) => (vec![object.clone()], error),
            Err(ref error @ Error::NotFound(ref object)) => (vec![object.clone()], error),
            Err(ref error @ Error::TooLarge { ref name, .. }) => (vec![name.clone()], error),
            Err(ref error @ Error::Unmergeable { ref objects, .. }) => (objects.clone(), error),
            done => return done,
        };
        let (count, first) = (objects.len(), objects.first());
        tracing::error!(%error, count, first, "compaction leaves objects alone for an hour");
        if !options.passed_over.add(objects, now) {
            return done;
        }
    }
    Ok(None)
}

async fn attempt(
    catalog: &Catalog,
    archive: &Archive,
    options: &CompactOptions,
    unreadable: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Option<Compacted>, Error> {
    let (level, groups) = match fresh(catalog, options, unreadable, now).await? {
        groups if !groups.is_empty() => (1, groups),
        _ => match current::ripe(catalog, options, unreadable).await? {
            groups if !groups.is_empty() => (2, groups),
            _ => match settled(catalog, options, unreadable, now).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        },
    };
    let old: Vec<Part> = groups.iter().flatten().cloned().collect();
    let dropped = &options.dropped;
    let jobs = groups.into_iter().map(|parts| Job { parts, dropped: dropped.clone() }).collect();
    let terms = Terms {
        level,
        writer: &options.writer,
        now,
        not_before: now.plus(options.grace),
        reason: "compacted",
        only_to_drop: false,
        held: None,
    };
    rewrite(catalog, archive, &old, jobs, terms).await.map(Some)
}

/// Groups of flushes, as many as one object takes.
async fn fresh(
    catalog: &Catalog,
    options: &CompactOptions,
    unreadable: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Vec<Vec<Part>>, Error> {
    let (old, ripe) = (now.minus(options.min_age), now.minus(options.max_age));
    let values = args![old, options.min_parts, ripe, GROUPS_MAX];
    let rows = catalog.fetch_all(&sql::FRESH_GROUPS, values).await?;
    let mut groups = Vec::new();
    let mut room = options.level1_bytes;
    for row in &rows {
        let group = Group::of(row)?;
        let Group { org, table, class, day } = &group;
        let values = args![old, *org, table, class, *day, PARTS_MAX];
        let rows = catalog.fetch_all(&sql::FRESH_PARTS, values).await?;
        let (mut parts, mut most) = (readable(&rows, unreadable)?, room);
        if class == RowClass::Current.as_str() {
            (parts, most) = (current::bounded(parts), most.min(current::FRESH_BYTES));
        }
        let parts = within(parts, most, groups.is_empty());
        let taken = parts.iter().map(|part| part.info.byte_count).sum();
        room = room.saturating_sub(taken);
        if !parts.is_empty() {
            groups.push(parts);
        }
    }
    Ok(groups)
}

/// A group of settled parts that is worth merging, and the level it makes.
async fn settled(
    catalog: &Catalog,
    options: &CompactOptions,
    unreadable: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Option<(u8, Vec<Vec<Part>>)>, Error> {
    // A day is over an hour after its end: then its last flushes are at level 1.
    let today = now.minus(Duration::from_secs(60 * 60)).day();
    let past = (today - DAYS_BACK, today - 1);
    let recent = (today - 1, now.day());
    let steps = [
        (1, recent, (1, 1), options.level1_bytes, options.min_parts),
        (2, past, (1, 2), options.level2_bytes, 2),
    ];
    for (made, days, levels, bytes, least) in steps {
        for class in RowClass::ALL.into_iter().filter(|class| *class != RowClass::Current) {
            let small = number(bytes / 2);
            let values =
                args![class.as_str(), days.0, days.1, levels.0, levels.1, small, least, 1_i64];
            let rows = catalog.fetch_all(&sql::SMALL_GROUPS, values).await?;
            let Some(row) = rows.first() else { continue };
            let Group { org, table, class, day } = Group::of(row)?;
            let values = args![org, table, class, day, levels.0, levels.1, small, PARTS_MAX];
            let rows = catalog.fetch_all(&sql::SMALL_PARTS, values).await?;
            let parts = within(readable(&rows, unreadable)?, bytes, true);
            // Two at least: merging one with nothing would go on for ever.
            if parts.len() >= 2 {
                return Ok(Some((made, vec![parts])));
            }
        }
    }
    Ok(None)
}

/// The parts whose objects are not known to be unreadable.
fn readable(rows: &[Row], unreadable: &BTreeSet<String>) -> Result<Vec<Part>, Error> {
    let parts: Result<Vec<Part>, Error> = rows.iter().map(part).collect();
    let mut parts = parts?;
    parts.retain(|part| !unreadable.contains(&part.object));
    Ok(parts)
}

/// The first parts that fit into `room`, but at least one when `first`.
fn within(mut parts: Vec<Part>, mut room: u64, first: bool) -> Vec<Part> {
    let fits = |(at, part): (usize, &Part)| {
        let fits = part.info.byte_count <= room || (first && at == 0);
        room = room.saturating_sub(part.info.byte_count);
        fits
    };
    let taken = parts.iter().enumerate().map(fits).take_while(|fits| *fits).count();
    parts.truncate(taken);
    parts
}
