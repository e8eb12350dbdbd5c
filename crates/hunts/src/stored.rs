//! Hunts as the catalog has them, for whoever follows no feed: the child that answers SQL.

use std::collections::HashMap;
use std::sync::Arc;

use muster_catalog::{Catalog, Error, args};
use muster_endpoints::{Live, Snapshot};
use muster_types::{Access, AgentNo, AgentSet, HuntNo, Outcome, ScopeSpec, Timestamp};
use roaring::RoaringBitmap;

use crate::Coverage;
use crate::entry::Entry;
use crate::news::Wave;
use crate::rows::{self, HuntRow};
use crate::scopes::resolve;
use crate::standing::Standing;

/// One hunt with everybody it recruited and what became of them; as large as a few bitmaps of its agents.
#[derive(Debug)]
pub struct Stored {
    entry: Entry,
    waves: Vec<Wave>,
}

impl Stored {
    /// Reads a hunt that is not deleted.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn read(catalog: &Catalog, no: HuntNo) -> Result<Option<Self>, Error> {
        let Some(row) = catalog.fetch_optional(&rows::ONE_HUNT, args![no]).await? else {
            return Ok(None);
        };
        let (def, false) = HuntRow::read(&row)?.hunt()? else { return Ok(None) };
        let mut entry = Entry::new(def, false);
        // Waves first: whoever is recruited in between is in none of it yet.
        let mut waves = Vec::new();
        for row in catalog.fetch_all(&rows::WAVES_OF, args![no]).await? {
            let wave = rows::wave(&row, no, 0)?;
            entry.put_wave(&wave);
            waves.push(wave);
        }
        for row in catalog.fetch_all(&rows::PROGRESS_OF, args![no]).await? {
            entry.put_progress(row.get("shard")?, rows::progress(&row)?);
        }
        Ok(Some(Self { entry, waves }))
    }

    /// Agents whose task has no end of its own, by wave, with the time of their recruitment and what their
    /// task is at `now`: it waits or runs while the hunt lives, and is what its end made of it afterwards.
    #[must_use]
    pub fn without_end(&self, now: Timestamp) -> Vec<(Timestamp, Outcome, AgentSet)> {
        let (waiting, running) = self.entry.def.open_outcomes(now);
        let mut known = RoaringBitmap::new();
        let mut tasks = Vec::new();
        for wave in &self.waves {
            let open = |no: &u32| !self.entry.is_terminal(AgentNo(*no));
            let open: RoaringBitmap = (&wave.agents.0 - &known).iter().filter(open).collect();
            // Nobody is shown twice, should two waves name one agent.
            known |= &open;
            let delivered = |no: &u32| self.entry.is_delivered(AgentNo(*no));
            let given: RoaringBitmap = open.iter().filter(delivered).collect();
            for (outcome, agents) in [(waiting, open - &given), (running, given)] {
                if !agents.is_empty() {
                    tasks.push((wave.committed_at, outcome, AgentSet(agents)));
                }
            }
        }
        tasks
    }
}

/// Counts hunts of the catalog for one asker, at one moment. What scopes mean is remembered: most hunts
/// have one of a few.
#[derive(Debug)]
pub struct Counter<'a> {
    catalog: &'a Catalog,
    snapshot: &'a Snapshot,
    access: &'a Access,
    now: Timestamp,
    scopes: HashMap<(ScopeSpec, Vec<ScopeSpec>), Arc<RoaringBitmap>>,
}

impl<'a> Counter<'a> {
    /// For one asker.
    #[must_use]
    pub fn new(
        catalog: &'a Catalog,
        snapshot: &'a Snapshot,
        access: &'a Access,
        now: Timestamp,
    ) -> Self {
        Self { catalog, snapshot, access, now, scopes: HashMap::new() }
    }

    /// As [`crate::Hunts::coverage`], except that nobody here knows who is online: of a scope that asks for
    /// it the recruited are counted and no others.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn coverage(&mut self, no: HuntNo) -> Result<Option<Coverage>, Error> {
        let stored = Stored::read(self.catalog, no).await?;
        let Some(Stored { entry, .. }) = stored.filter(|s| s.entry.def.org == self.access.org)
        else {
            return Ok(None);
        };
        let def = &entry.def;
        let asked = (def.scope.clone(), def.caller_scope.clone());
        let (snapshot, now) = (self.snapshot, self.now);
        let scope = self.scopes.entry(asked).or_insert_with_key(|(scope, caller_scope)| {
            let asked = (def.org, scope, caller_scope.as_slice());
            Arc::new(resolve(asked, snapshot, &Unwatched(now)).0)
        });
        let standing = Standing::of(&entry, snapshot, scope, now);
        Ok(Some(standing.seen_by(snapshot, self.access).coverage_of(&entry, self.access)))
    }
}

/// Presence of nobody.
struct Unwatched(Timestamp);

impl Live for Unwatched {
    fn is_online(&self, _: AgentNo) -> bool {
        false
    }

    fn last_seen(&self, _: AgentNo) -> Option<Timestamp> {
        None
    }

    fn now(&self) -> Timestamp {
        self.0
    }
}
