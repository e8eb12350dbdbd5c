//! Keeps the archive small: compaction, retention, retired objects, orphans.
//!
//! One instance does it, under the lease of [`muster_cluster::Job::Compact`]. None of it can be fenced at the archive,
//! so all of it is harmless when two do it at once: the manifest changes by compare, and names are never reused.
//!
//! What is over its time is so by the catalog's clock, and an orphan is old by the archive's as well: this machine's
//! clock may be wrong by days and deletes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::retention::{RetainOptions, retain_once};
use muster_archive::sweep::{OrphanOptions, is_paused, orphans_once, sweep_once};
use muster_archive::{Archive, Error, day_name};
use muster_catalog::{Catalog, args};
use muster_cluster::Held;
use muster_types::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deletion::{self, Purge};

muster_catalog::statements! {
    /// The bases of all shards; there are 64.
    small BASES = "
        SELECT base_object
        FROM shard_offset
        WHERE base_object IS NOT NULL";
}

/// How long retired objects are deleted in one round.
const SWEEP_MAX: Duration = Duration::from_secs(30);

/// How much at once, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Compaction.
    pub compact: CompactOptions,
    /// Retention.
    pub retain: RetainOptions,
    /// Orphans.
    pub orphans: OrphanOptions,
    /// Pause between rounds.
    pub every: Duration,
    /// Retention and orphans are looked for after this many rounds.
    pub rounds_between_slow: u32,
    /// Steps of one kind in one round.
    pub steps_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact: CompactOptions::default(),
            retain: RetainOptions::default(),
            orphans: OrphanOptions::default(),
            every: Duration::from_secs(15),
            rounds_between_slow: 240,
            steps_max: 8,
        }
    }
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Merges.
    pub compacted: u32,
    /// Steps of retention.
    pub retained: u32,
    /// Retired objects deleted.
    pub swept: usize,
    /// Orphans deleted.
    pub orphans: usize,
}

/// The service.
pub struct Janitor {
    catalog: Catalog,
    archive: Archive,
    options: Options,
    leases: watch::Receiver<Held>,
}

impl Janitor {
    /// A janitor that works while `leases` of [`muster_cluster::Job::Compact`] holds something.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        archive: Archive,
        options: Options,
        leases: watch::Receiver<Held>,
    ) -> Self {
        Self { catalog, archive, options, leases }
    }

    /// Works until `shutdown`; what is under way then is dropped, which every step allows.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            let mut purge = Purge::default();
            let mut rounds = 0_u32;
            loop {
                tokio::time::sleep(self.options.every).await;
                if !self.leases.borrow().is_valid() {
                    continue;
                }
                let slow = rounds.is_multiple_of(self.options.rounds_between_slow);
                rounds = rounds.wrapping_add(1);
                let mut options = self.options.clone();
                let done = async {
                    let now = self.catalog.now().await?;
                    options.compact.dropped = deletion::dropped(&self.catalog, now).await?;
                    let done = round(&self.catalog, &self.archive, &options, slow, now).await;
                    let (steps, compact) = (options.steps_max, &self.options.compact);
                    purge.step(&self.catalog, &self.archive, compact, steps, now).await?;
                    done
                };
                match done.await {
                    Ok(done) if done != Round::default() => tracing::debug!(?done, "janitor"),
                    Ok(_) => {}
                    Err(Error::Stale) => {}
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "janitor's round ended early");
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }
}

/// One round, at this time of the catalog. Safe to drop at any await.
///
/// # Errors
/// When the catalog or the archive fails, or somebody else was faster.
pub async fn round(
    catalog: &Catalog,
    archive: &Archive,
    options: &Options,
    slow: bool,
    now: Timestamp,
) -> Result<Round, Error> {
    let mut done = Round::default();
    // Each by itself: what keeps one from being done does not keep the others.
    let swept = sweep(catalog, archive, &mut done, now).await;
    let compacted = async {
        for _ in 0..options.steps_max {
            if compact_once(catalog, archive, &options.compact, now).await?.is_none() {
                break;
            }
            done.compacted += 1;
        }
        Ok(())
    };
    let compacted = compacted.await;
    if !slow {
        return swept.and(compacted).map(|()| done);
    }
    let retained = async {
        for _ in 0..options.steps_max {
            if retain_once(catalog, archive, &options.retain, now).await?.is_none() {
                break;
            }
            done.retained += 1;
        }
        Ok(())
    };
    let retained = retained.await;
    let orphans = async {
        let now = now.min(archive.now().await?);
        done.orphans += orphans_once(catalog, archive, &options.orphans, now).await?;
        done.orphans += base_orphans_once(catalog, archive, &options.orphans, now).await?;
        Ok(())
    };
    let orphans = orphans.await;
    swept.and(compacted).and(retained).and(orphans).map(|()| done)
}

/// Deletes what is due, as long as there is any: large messages alone can retire more in a second than one
/// step deletes.
async fn sweep(
    catalog: &Catalog,
    archive: &Archive,
    done: &mut Round,
    now: Timestamp,
) -> Result<(), Error> {
    let began = Instant::now();
    while began.elapsed() < SWEEP_MAX {
        match sweep_once(catalog, archive, now).await? {
            0 => break,
            swept => done.swept += swept,
        }
    }
    Ok(())
}

/// Deletes bases of shard states that are old and no shard's; how many. They are left behind by
/// commits that did not happen. `now` is as for [`orphans_once`].
///
/// # Errors
/// When the catalog or the archive fails.
pub async fn base_orphans_once(
    catalog: &Catalog,
    archive: &Archive,
    options: &OrphanOptions,
    now: Timestamp,
) -> Result<usize, Error> {
    if is_paused(catalog, now).await? {
        return Ok(0);
    }
    let before = now.minus(options.segment_age);
    let mut old = Vec::new();
    for day in before.day() - i64::from(options.days)..=before.day() {
        let listed = archive.list(&format!("state/v1/{}", day_name(day))).await?;
        old.extend(listed.into_iter().filter(|object| object.modified < before));
    }
    if old.is_empty() {
        return Ok(0);
    }
    // Read after the listing: a base that is named now was named before it was old.
    let rows = catalog.fetch_all(&BASES, args![]).await?;
    let named: Result<BTreeSet<String>, _> =
        rows.iter().map(|row| row.get("base_object")).collect();
    let named = named?;
    old.retain(|object| !named.contains(&object.name));
    for object in &old {
        archive.delete(&object.name).await?;
    }
    Ok(old.len())
}
