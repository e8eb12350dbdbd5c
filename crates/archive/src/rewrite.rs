//! Parts into one new segment in their place: what compaction and retention share.
//!
//! Read, merge, put under a fresh name, then one transaction that takes the old parts out only if
//! all of them are still there; if not, the object is deleted. Cut short anywhere, it leaves at most an
//! object nobody names, in the folder of the day it was put.

use std::collections::BTreeSet;

use muster_catalog::{Catalog, Priority, Tx, args};
use muster_results::{
    Dropped, MergedPart, RowClass, SegmentWriter, Source, merge_current, merge_parts,
};
use muster_types::{HuntNo, Timestamp};

use crate::manifest::{self, NewSegment, Part, number};
use crate::statements as sql;
use crate::{Archive, Error, segment_name};

/// One part to come, or one per bucket: its sources, all of one table, class and day, and what is left out.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub parts: Vec<Part>,
    pub dropped: Dropped,
}

/// How a rewrite is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub level: u8,
    pub writer: &'a str,
    pub now: Timestamp,
    pub not_before: Timestamp,
    pub reason: &'a str,
    /// Whether to leave everything as it is when no row goes.
    pub only_to_drop: bool,
    /// The only hunts that are held of those in the parts, for which rows are left out: when others are by the
    /// time it is committed, nothing is changed.
    pub held: Option<&'a BTreeSet<HuntNo>>,
}

/// What a rewrite did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The new object; none when no row was left.
    pub object: Option<String>,
    /// How many parts it replaced.
    pub parts_in: usize,
    /// How many parts it has.
    pub parts_out: usize,
    /// Rows read.
    pub rows_in: u64,
    /// Rows kept.
    pub rows_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Objects without parts left, retired.
    pub retired: Vec<String>,
}

/// Puts the outcome of `jobs` in the place of the parts of `old`, which are all their sources.
pub(crate) async fn rewrite(
    catalog: &Catalog,
    archive: &Archive,
    old: &[Part],
    jobs: Vec<Job>,
    terms: Terms<'_>,
) -> Result<Rewritten, Error> {
    let mut out = SegmentWriter::new();
    let mut done = Rewritten { parts_in: old.len(), ..Rewritten::default() };
    done.rows_in = old.iter().map(|part| part.info.row_count).sum();
    done.bytes_in = old.iter().map(|part| part.info.byte_count).sum();
    for job in jobs {
        for MergedPart { info, file } in merge(archive, job).await? {
            done.rows_out += info.row_count;
            done.parts_out += 1;
            out.push(info, &file);
        }
    }
    if terms.only_to_drop && done.rows_out == done.rows_in {
        return Ok(Rewritten { parts_in: 0, parts_out: 0, ..done });
    }
    // In today's folder whatever day its rows are of: an orphan is looked for where it was put.
    let object = (!out.is_empty()).then(|| segment_name(terms.now.day(), terms.writer));
    let (bytes, parts) = out.finish();
    let byte_count = bytes.len() as u64;
    if let Some(object) = &object {
        archive.put_new(object, bytes).await.map_err(|error| match error {
            Error::TooLarge { .. } => unmergeable(old.iter(), &error),
            error => error,
        })?;
        done.bytes_out = byte_count;
    }
    let new = object.as_deref().map(|object| NewSegment {
        object,
        level: terms.level,
        writer: terms.writer,
        at: terms.now,
        byte_count,
        parts: &parts,
    });
    let mut tx = catalog.begin(Priority::Intake).await?;
    let replaced = async {
        if let Some(held) = terms.held {
            held_still(&mut tx, old, held, terms.now).await?;
        }
        manifest::replace(&mut tx, old, new, terms.not_before, terms.reason).await
    };
    let replaced = replaced.await;
    done.retired = match replaced {
        Ok(retired) => {
            tx.commit().await?;
            retired
        }
        Err(error) => {
            tx.rollback().await;
            // Somebody was faster, and nothing will ever refer to what was put. Left over, it is an orphan.
            if let (Error::Stale, Some(object)) = (&error, &object)
                && let Err(error) = archive.delete(object).await
            {
                tracing::debug!(%error, object, "an object that came too late is left for the sweeper");
            }
            return Err(error);
        }
    };
    done.object = object;
    Ok(done)
}

/// The least and the greatest number of the hunts in these parts.
fn hunts_of(parts: &[Part]) -> (i64, i64) {
    let with_hunts = || parts.iter().filter(|part| part.info.hunt_max.0 > 0);
    let low = with_hunts().map(|part| part.info.hunt_min.0).min().unwrap_or(1);
    let high = with_hunts().map(|part| part.info.hunt_max.0).max().unwrap_or(0);
    (number(low), number(high))
}

/// Sees to it that no other hunts of these parts are held than these until the transaction ends.
///
/// # Errors
/// [`Error::Stale`] when others are.
pub(crate) async fn held_still(
    tx: &mut Tx,
    parts: &[Part],
    held: &BTreeSet<HuntNo>,
    now: Timestamp,
) -> Result<(), Error> {
    let (low, high) = hunts_of(parts);
    if high == 0 {
        return Ok(());
    }
    // Who holds a hunt counts its feed up: it has committed, or waits until this has.
    tx.bump("hunt").await?;
    for row in tx.fetch_all(&sql::HELD_HUNTS, args![low, high, now]).await? {
        let no = HuntNo(row.get("no")?);
        let may_have = |part: &Part| (part.info.hunt_min..=part.info.hunt_max).contains(&no);
        if !held.contains(&no) && parts.iter().any(may_have) {
            return Err(Error::Stale);
        }
    }
    Ok(())
}

async fn merge(archive: &Archive, job: Job) -> Result<Vec<MergedPart>, Error> {
    let Some(first) = job.parts.first() else { return Ok(Vec::new()) };
    let (org, class, day) = (first.info.org, first.info.class, first.info.day);
    let table = first.info.table.clone();
    let mut sources = Vec::with_capacity(job.parts.len());
    for part in &job.parts {
        let range = part.info.byte_offset..part.info.byte_offset + part.info.byte_count;
        sources.push(Source { file: archive.get_range(&part.object, range).await? });
    }
    let parts = job.parts;
    // CPU for seconds: off the runtime. A caller that is dropped lets it end in vain.
    let merged = tokio::task::spawn_blocking(move || match class {
        RowClass::Current => merge_current(org, &table, &sources, &job.dropped),
        _ => {
            let merged = merge_parts(org, &table, class, day, &sources, &job.dropped);
            merged.map(|part| part.into_iter().collect())
        }
    });
    // One that panics does so again.
    let merged = merged.await.map_err(|error| unmergeable(parts.iter(), &error))?;
    merged.map_err(|error| match error {
        muster_results::MergeError::Damaged { index, reason } => {
            Error::Damaged { object: parts[index].object.clone(), reason }
        }
        muster_results::MergeError::Write(error) => unmergeable(parts.iter(), &error),
    })
}

fn unmergeable<'a>(parts: impl Iterator<Item = &'a Part>, why: &dyn std::error::Error) -> Error {
    let objects: std::collections::BTreeSet<&String> = parts.map(|part| &part.object).collect();
    let mut reason = why.to_string();
    if let Some(cause) = why.source() {
        reason = format!("{reason}: {cause}");
    }
    Error::Unmergeable { objects: objects.into_iter().cloned().collect(), reason }
}
