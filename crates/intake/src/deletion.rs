//! Physical deletion: what was deleted is hidden at once, and leaves the archive here.
//!
//! Compaction leaves deleted rows out of what it writes. For parts that no compaction would touch
//! again, a walk over all of them follows each batch of deletions; how far deletions were walked for is
//! kept in the catalog, so that a restart does not walk for old ones again. A walk that could not read every
//! part does not count, and is done again after an hour. While any hunt is held
//! nothing is deleted physically: a hold is a promise about rows, whoever's they are.

use std::time::Duration;

use muster_archive::compaction::CompactOptions;
use muster_archive::purge::{Place, purge_next};
use muster_archive::{Archive, Error};
use muster_catalog::{Catalog, Priority, args};
use muster_results::Dropped;
use muster_types::{AgentNo, HuntNo, Timestamp};

muster_catalog::statements! {
    /// Agents that are deleted and were changed after this number of their feed. Not by time: the clocks of
    /// instances differ, and what commits later may have the earlier time.
    DELETED_AGENTS = "
        SELECT no, change FROM agent
        WHERE deleted_at IS NOT NULL AND change > $1";
    /// The same of hunts.
    DELETED_HUNTS = "
        SELECT no, change FROM hunt
        WHERE deleted_at IS NOT NULL AND change > $1";
    /// Whether anything is held.
    HELD = "
        SELECT no FROM hunt
        WHERE hold_until IS NOT NULL AND hold_until > $1
        LIMIT 1";
    /// Deletions up to these numbers of their feeds were walked for.
    WALKED = "SELECT topic, seq FROM feed WHERE topic IN ('purge/agents', 'purge/hunts')";
    /// Forgets how far was walked; 'purge/walked' is of earlier versions.
    FORGET_WALKED = "
        DELETE FROM feed WHERE topic IN ('purge/agents', 'purge/hunts', 'purge/walked')";
    /// Remembers that they were.
    SET_WALKED = "
        INSERT INTO feed (topic, seq) VALUES ('purge/agents', $1), ('purge/hunts', $2)
        ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq WHERE feed.seq < excluded.seq";
}

/// Everything that is deleted and may leave the archive, as of now.
///
/// # Errors
/// When the catalog fails.
pub async fn dropped(catalog: &Catalog, now: Timestamp) -> Result<Dropped, Error> {
    Ok(since(catalog, Walked::default(), now).await?.0)
}

/// Numbers of the feeds of agents and hunts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Walked {
    agents: i64,
    hunts: i64,
}

impl Walked {
    async fn read(catalog: &Catalog) -> Result<Self, Error> {
        let mut walked = Self::default();
        for row in catalog.fetch_all(&WALKED, args![]).await? {
            match &*row.get::<String>("topic")? {
                "purge/agents" => walked.agents = row.get("seq")?,
                _ => walked.hunts = row.get("seq")?,
            }
        }
        Ok(walked)
    }
}

/// What was deleted after `after`, and how far that is. Feeds are committed in their order, so nothing that
/// commits later is below it.
async fn since(
    catalog: &Catalog,
    after: Walked,
    now: Timestamp,
) -> Result<(Dropped, Walked), Error> {
    let mut dropped = Dropped::default();
    let mut last = after;
    if catalog.fetch_optional(&HELD, args![now]).await?.is_some() {
        return Ok((dropped, last));
    }
    for row in catalog.fetch_all(&DELETED_AGENTS, args![after.agents]).await? {
        dropped.agents.insert(row.get::<AgentNo>("no")?);
        last.agents = last.agents.max(row.get("change")?);
    }
    for row in catalog.fetch_all(&DELETED_HUNTS, args![after.hunts]).await? {
        dropped.hunts.insert(row.get::<HuntNo>("no")?);
        last.hunts = last.hunts.max(row.get("change")?);
    }
    Ok((dropped, last))
}

/// A walk over the archive for one batch of deletions.
#[derive(Debug)]
struct Batch {
    options: CompactOptions,
    last: Walked,
    place: Place,
    /// Parts that could not be read, and so may have rows of it still.
    unreadable: u32,
}

/// How long a walk that could not read everything waits until it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Walks, a few steps at a time.
#[derive(Debug, Default)]
pub struct Purge {
    batch: Option<Batch>,
    /// The last deletion that a walk left something of, and when to try again.
    left: Option<(Walked, Timestamp)>,
}

impl Purge {
    /// Takes up to `steps` parts; how many were looked at. A walk that is cut short begins again.
    ///
    /// # Errors
    /// When the catalog or the archive fails, or a part was compacted meanwhile: call it again.
    pub async fn step(
        &mut self,
        catalog: &Catalog,
        archive: &Archive,
        options: &CompactOptions,
        steps: u32,
        now: Timestamp,
    ) -> Result<u32, Error> {
        if catalog.fetch_optional(&HELD, args![now]).await?.is_some() {
            // Compaction leaves nothing out meanwhile, so what was walked may hold deleted rows again.
            catalog.execute(Priority::Presence, &FORGET_WALKED, args![]).await?;
            *self = Self::default();
            return Ok(0);
        }
        if self.batch.is_none() {
            let walked = Walked::read(catalog).await?;
            let (dropped, last) = since(catalog, walked, now).await?;
            let waits = self.left.is_some_and(|(left, until)| left == last && now < until);
            if waits || dropped == Dropped::default() {
                return Ok(0);
            }
            let options = CompactOptions { dropped, ..options.clone() };
            self.batch = Some(Batch { options, last, place: Place::default(), unreadable: 0 });
        }
        let Some(batch) = &mut self.batch else { return Ok(0) };
        for step in 0..steps {
            match purge_next(catalog, archive, &batch.options, &batch.place, now).await? {
                Some(purged) => {
                    batch.place = purged.next;
                    batch.unreadable = batch.unreadable.saturating_add(purged.unreadable);
                }
                None => {
                    self.left = if batch.unreadable > 0 {
                        Some((batch.last, now.plus(RETRY_AFTER)))
                    } else {
                        let Walked { agents, hunts } = batch.last;
                        let walked = args![agents, hunts];
                        catalog.execute(Priority::Presence, &SET_WALKED, walked).await?;
                        None
                    };
                    self.batch = None;
                    return Ok(step);
                }
            }
        }
        Ok(steps)
    }
}
