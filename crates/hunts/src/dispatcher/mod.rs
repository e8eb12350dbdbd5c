//! The dispatcher: recruits agents for running hunts, and ends hunts that are over.
//!
//! After a first wave that is committed with the question it alone writes who is recruited. A hunt belongs to partition `number % 16` of the leased job; every
//! write compares the hunt's wave and epoch, so that of two dispatchers that believe to hold a
//! partition one changes nothing, and nobody is recruited twice. What is due comes from database time in the
//! same transaction, so the rate is exact whoever dispatches.

mod finish;
mod wave;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::Error;
use muster_cluster::{Held, Job};
use muster_stream::Stream;
use muster_types::{AgentNo, Epoch, HuntNo, Record};
use roaring::RoaringBitmap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::standing::recruited_endpoints;
use crate::{HuntState, Hunts};

pub(crate) use finish::STATEMENTS as FINISH_STATEMENTS;
pub(crate) use wave::STATEMENTS as WAVE_STATEMENTS;

/// Between looks while endpoints wait for their turn.
const BUSY: Duration = Duration::from_millis(250);
/// Between looks otherwise: for expiry.
const IDLE: Duration = Duration::from_secs(1);
/// Arrivals and changes of the directory are gathered this long; a new hunt is not.
const GATHER: Duration = Duration::from_millis(20);
/// Facts that the stream did not take yet; beyond, the frontends find out by themselves.
const UNSENT_MAX: usize = 100_000;

/// Recruits; one service per instance with the scheduler's role.
pub struct Dispatcher {
    hunts: Hunts,
    stream: Arc<dyn Stream>,
    leases: watch::Receiver<Held>,
    pending: HashMap<HuntNo, Pending>,
    unsent: Vec<Record>,
}

/// What is remembered of a hunt between looks; all of it can be found again.
#[derive(Default)]
struct Pending {
    /// The wave, the directory's version and the count of arrivals that `endpoints` was made from.
    made_from: Option<(u64, i64, u64)>,
    /// When.
    made_at: Option<Instant>,
    /// In scope and not recruited.
    endpoints: RoaringBitmap,
    /// Whose agents are recruited, as of this wave and version of the directory.
    recruited: RoaringBitmap,
    recruited_from: Option<(u64, i64)>,
    /// Recruited agents that the directory did not have even when it was asked for all there is.
    gone: RoaringBitmap,
    /// The last wave of a paced hunt.
    waved: Option<Instant>,
}

/// What a look at one hunt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing to do until something changes.
    Quiet,
    /// Endpoints wait for their turn.
    Busy,
    /// It is not as it was believed to be: look again.
    Stale,
}

impl Dispatcher {
    /// A dispatcher for the partitions that `leases` (of [`Job::Dispatch`]) grants.
    #[must_use]
    pub fn new(hunts: Hunts, stream: Arc<dyn Stream>, leases: watch::Receiver<Held>) -> Self {
        Self { hunts, stream, leases, pending: HashMap::new(), unsent: Vec::new() }
    }

    /// Dispatches until `shutdown`. Whatever is cut short is found again by the next holder.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut hunts = self.hunts.changes();
        let mut arrivals = self.hunts.inner.presence.arrivals();
        let mut directory = self.hunts.inner.directory.changes();
        let mut leases = self.leases.clone();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(due) => {
                    let busy = self.round().await;
                    due = Instant::now() + if busy { BUSY } else { IDLE };
                }
                Ok(()) = hunts.changed() => due = Instant::now(),
                Ok(()) = leases.changed() => due = due.min(Instant::now() + GATHER),
                Ok(()) = arrivals.changed() => due = due.min(Instant::now() + GATHER),
                Ok(()) = directory.changed() => due = due.min(Instant::now() + GATHER),
            }
        }
    }

    /// Looks once at every live hunt whose partition is held. Whether endpoints wait for their turn.
    pub async fn round(&mut self) -> bool {
        let mut live = self.hunts.inner.index.live();
        // New ones first: a question to one endpoint does not wait for a look at all of a large hunt.
        live.sort_by_key(|entry| entry.wave > 0);
        let known: std::collections::HashSet<_> = live.iter().map(|entry| entry.def.no).collect();
        self.pending.retain(|no, _| known.contains(no));
        let mut busy = false;
        for entry in live {
            let no = entry.def.no;
            match self.look_until_settled(entry).await {
                Ok(look) => busy |= look != Look::Quiet,
                Err(error) => {
                    tracing::warn!(hunt = %no, %error, "dispatch failed; it will be tried again");
                    busy = true;
                }
            }
        }
        self.send_facts().await;
        busy || !self.unsent.is_empty()
    }

    async fn look_until_settled(&mut self, entry: Arc<Entry>) -> Result<Look, Error> {
        let no = entry.def.no;
        let mut entry = entry;
        for _ in 0..4 {
            let look = match self.epoch(no) {
                Some(epoch) => self.look(&entry, epoch).await?,
                None => return Ok(Look::Quiet),
            };
            if look != Look::Stale {
                return Ok(look);
            }
            self.hunts.refresh().await?;
            match self.hunts.inner.index.get(no) {
                Some(newer) => entry = newer,
                None => return Ok(Look::Quiet),
            }
        }
        Ok(Look::Busy)
    }

    /// The right to write this hunt, while it lasts.
    fn epoch(&self, no: HuntNo) -> Option<Epoch> {
        let partition = (no.0 % u64::from(Job::Dispatch.partitions())) as u16;
        self.leases.borrow().epoch(partition)
    }

    async fn look(&mut self, entry: &Entry, epoch: Epoch) -> Result<Look, Error> {
        let def = &entry.def;
        if def.state.is_ended() || entry.deleted {
            return Ok(Look::Quiet);
        }
        if def.expires_at <= self.hunts.inner.clock.now() && self.expire(entry, epoch).await? {
            return Ok(Look::Stale);
        }
        if def.state != HuntState::Running {
            return Ok(Look::Quiet);
        }
        if let Some(reason) = self.pause_reason(entry) {
            self.pause(entry, epoch, &reason).await?;
            return Ok(Look::Stale);
        }
        let Some(pending) = self.pending(entry).await? else { return Ok(Look::Stale) };
        let look = self.recruit(entry, epoch, &pending).await?;
        if look == Look::Quiet && self.is_over(entry, &pending) {
            self.finish(entry, epoch).await?;
            return Ok(Look::Stale);
        }
        Ok(look)
    }

    /// Endpoints in scope that are not recruited, by endpoint: another agent of a recruited one does not
    /// count. `None` when that cannot be told: an agent was recruited elsewhere before the directory here had it,
    /// so its endpoint is not known. The directory is asked then, and nobody is recruited in this look.
    async fn pending(&mut self, entry: &Entry) -> Result<Option<RoaringBitmap>, Error> {
        let inner = &self.hunts.inner;
        let snapshot = inner.directory.snapshot();
        // A scope that may ask for presence or the time changes without the directory, but not
        // with each answer that comes in.
        let scopes = entry.def.caller_scope.iter().chain([&entry.def.scope]);
        let volatile = scopes.into_iter().any(|scope| scope.online || scope.condition.is_some());
        let arrivals = if volatile { *inner.presence.arrivals().borrow() } else { 0 };
        let made_from = Some((entry.wave, snapshot.version(), arrivals));
        let known = self.pending.entry(entry.def.no).or_default();
        let old = volatile && known.made_at.is_none_or(|at| at.elapsed() >= BUSY);
        if old || known.made_from != made_from {
            let from = Some((entry.wave, snapshot.version()));
            if known.recruited_from != from {
                let (recruited, unknown) = recruited_endpoints(entry, &snapshot);
                let unknown = unknown - &known.gone;
                if !unknown.is_empty() {
                    let snapshot = inner.directory.refresh().await?;
                    // An agent is committed before its wave: one that is not there now never will be.
                    let is_gone = |no: &u32| snapshot.agent(AgentNo(*no)).is_none();
                    known.gone.extend(unknown.iter().filter(is_gone));
                    return Ok(None);
                }
                known.recruited = recruited;
                known.recruited_from = from;
            }
            let (recruited, presence) = (&known.recruited, &inner.presence);
            known.endpoints = inner.scopes.waiting(&entry.def, recruited, &snapshot, presence);
            known.made_from = made_from;
            known.made_at = Some(Instant::now());
        }
        Ok(Some(known.endpoints.clone()))
    }

    /// Appends what the dispatcher has to say of tasks that never reach an agent.
    async fn send_facts(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        match self.stream.append(self.unsent.clone()).await {
            Ok(_) => self.unsent.clear(),
            Err(error) => {
                tracing::warn!(%error, "facts of unsupported tasks wait for the stream");
                self.unsent.truncate(UNSENT_MAX);
            }
        }
    }
}
