//! Taking deleted agents' and hunts' rows out of parts that no compaction would touch again.
//!
//! A deletion hides rows at once; compaction leaves them out of what it writes. This walks over
//! all settled parts once for each batch of deletions and rewrites those that have such rows.

use muster_catalog::{Catalog, args};
use muster_results::Dropped;
use muster_types::{HuntNo, Timestamp};

use crate::compaction::CompactOptions;
use crate::manifest::{Part, part};
use crate::rewrite::{Job, Terms, rewrite};
use crate::statements as sql;
use crate::{Archive, Error};

/// How far a walk has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    object: String,
    part: i64,
}

/// One step of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Where the next step goes on.
    pub next: Place,
    /// Rows that went.
    pub rows: u64,
    /// Parts passed over because their objects cannot be read: they keep their rows.
    pub unreadable: u32,
}

/// Parts looked at in one step.
const PARTS_MAX: i64 = 256;

/// Goes on from `place` to the next part that may have rows of `options.dropped`, and rewrites it.
/// `None` at the end of the walk; what was compacted meanwhile had the same options. A walk that
/// was cut short may begin again. An object that is damaged or gone is passed over: it must not keep
/// the rows of all others here.
///
/// # Errors
/// [`Error::Stale`] when the part was compacted meanwhile: the step can be repeated.
pub async fn purge_next(
    catalog: &Catalog,
    archive: &Archive,
    options: &CompactOptions,
    place: &Place,
    now: Timestamp,
) -> Result<Option<Purged>, Error> {
    let values = args![place.object.as_str(), place.part, PARTS_MAX];
    let rows = catalog.fetch_all(&sql::SETTLED_AFTER, values).await?;
    let mut next = None;
    let mut unreadable = 0;
    for row in &rows {
        let part = part(row)?;
        next = Some(Place { object: part.object.clone(), part: i64::from(part.part) });
        if !concerns(&options.dropped, &part) {
            continue;
        }
        let terms = Terms {
            level: part.level,
            writer: &options.writer,
            now,
            not_before: now.plus(options.grace),
            reason: "purged",
            only_to_drop: true,
            held: None,
        };
        let job = Job { parts: vec![part.clone()], dropped: options.dropped.clone() };
        let done = match rewrite(catalog, archive, &[part], vec![job], terms).await {
            Err(error) if error.is_of_objects() => {
                let object = next.as_ref().map(|place| place.object.as_str());
                tracing::error!(%error, object, "object cannot be rewritten; deleted rows stay in it");
                unreadable += 1;
                continue;
            }
            done => done?,
        };
        let rows = done.rows_in.saturating_sub(done.rows_out);
        return Ok(next.map(|next| Purged { next, rows, unreadable }));
    }
    Ok(next.map(|next| Purged { next, rows: 0, unreadable }))
}

/// Whether the part's ranges allow for rows that are to go.
fn concerns(dropped: &Dropped, part: &Part) -> bool {
    let info = &part.info;
    let agents = info.agent_min.0..=info.agent_max.0;
    let hunts = HuntNo(info.hunt_min.0)..=info.hunt_max;
    dropped.all_but.is_some()
        || dropped.agents.0.range(agents).next().is_some()
        || dropped.hunts.range(hunts).next().is_some()
}
