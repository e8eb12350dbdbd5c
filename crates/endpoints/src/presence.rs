//! Who is online: in memory here, in blocks for the other instances.

mod block;
mod service;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use muster_bus::Bus;
use muster_catalog::Catalog;
use muster_types::{AgentNo, Clock, InstanceId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Chunked;
use crate::scope::Live;

pub use block::Block;
pub(crate) use service::STATEMENTS;

/// An agent that was heard of within this time is online, unless it said good-bye.
pub const FRESH: Duration = Duration::from_secs(90);

/// Longer pauses between two polls are no interval.
const POLL_MAX_SECONDS: u32 = 3600;

/// What is known of one agent: 20 bytes.
#[derive(Debug, Default)]
struct Slot {
    /// Seconds since 1970 when this instance last heard of it.
    here: AtomicU32,
    /// Its last word here was good-bye.
    left: AtomicBool,
    /// The same by the blocks of other instances, and what was stored before this one started.
    elsewhere: AtomicU32,
    /// Another instance said so since this one started.
    by_others: AtomicBool,
    /// Open links to this instance.
    links: AtomicU32,
    /// Seconds since 1970 when it last asked this instance for work.
    polled: AtomicU32,
    /// About how many seconds lie between two such questions.
    poll_interval: AtomicU16,
}

/// Presence of all agents. Cheap to clone; reading and touching take no lock.
#[derive(Clone, Debug)]
pub struct Presence {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: Chunked<Slot>,
    /// Who came and left here since the last hint.
    moves: Mutex<HashMap<AgentNo, bool>>,
    moved: Notify,
    /// Raised with each arrival, here or elsewhere, that a dispatcher may wait for.
    arrivals: tokio::sync::watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    me: InstanceId,
}

impl Presence {
    /// Presence as seen by this instance; nobody is online until [`Presence::run`] has read the blocks
    /// or an agent arrives.
    #[must_use]
    pub fn new(me: InstanceId, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            slots: Chunked::default(),
            moves: Mutex::new(HashMap::new()),
            moved: Notify::new(),
            arrivals: tokio::sync::watch::Sender::new(0),
            clock,
            me,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A link of this agent was opened here.
    pub fn connected(&self, agent: AgentNo) {
        let Some(slot) = self.inner.slots.slot(agent.0) else { return };
        slot.here.store(self.seconds(), Ordering::Relaxed);
        slot.left.store(false, Ordering::Relaxed);
        if slot.links.fetch_add(1, Ordering::AcqRel) == 0 {
            self.note_move(agent, true);
        }
    }

    /// A link of this agent was closed here; once for each [`Presence::connected`].
    pub fn disconnected(&self, agent: AgentNo) {
        let Some(slot) = self.inner.slots.get(agent.0) else { return };
        slot.here.store(self.seconds(), Ordering::Relaxed);
        let down = |links: u32| links.checked_sub(1);
        let before = slot.links.fetch_update(Ordering::AcqRel, Ordering::Acquire, down);
        if before == Ok(1) {
            slot.left.store(true, Ordering::Relaxed);
            self.note_move(agent, false);
        }
    }

    /// The agent was heard of: for agents that poll.
    pub fn touch(&self, agent: AgentNo, now: Timestamp) {
        let Some(slot) = self.inner.slots.slot(agent.0) else { return };
        let now = seconds(now);
        let online = slot.is_online(now);
        slot.here.store(now, Ordering::Relaxed);
        slot.left.store(false, Ordering::Relaxed);
        if !online {
            self.note_move(agent, true);
        }
    }

    /// The agent asked for work, and is going to do so again: for agents that poll.
    pub fn polled(&self, agent: AgentNo, now: Timestamp) {
        self.touch(agent, now);
        let Some(slot) = self.inner.slots.get(agent.0) else { return };
        let (now, known) = (seconds(now), slot.poll_interval.load(Ordering::Relaxed));
        let pause = now.saturating_sub(slot.polled.swap(now, Ordering::Relaxed));
        if let 1..=POLL_MAX_SECONDS = pause {
            let pause = u16::try_from(pause).unwrap_or(u16::MAX);
            // Longer ones count at once, so that "at most" is true; shorter ones by and by.
            let next = if pause >= known { pause } else { known - (known - pause).div_ceil(8) };
            slot.poll_interval.store(next, Ordering::Relaxed);
        }
    }

    /// How long it is at most until an agent asks for work, by what was seen here of its polls. Zero
    /// when it is late: it may be busy with what it took. `None` for agents that do not poll here.
    #[must_use]
    pub fn next_poll(&self, agent: AgentNo) -> Option<Duration> {
        let slot = self.inner.slots.get(agent.0)?;
        let interval = u32::from(slot.poll_interval.load(Ordering::Relaxed));
        let next = slot.polled.load(Ordering::Relaxed) + interval;
        let left = next.saturating_sub(self.seconds());
        (interval > 0).then(|| Duration::from_secs(u64::from(left)))
    }

    /// Whether it is connected here, or was heard of elsewhere or by a poll within [`FRESH`].
    #[must_use]
    pub fn is_online(&self, agent: AgentNo) -> bool {
        // Who is linked needs no look at the clock, and all of a fleet are asked for.
        self.inner
            .slots
            .get(agent.0)
            .is_some_and(|slot| slot.is_linked() || slot.is_online(self.seconds()))
    }

    /// Whether it was heard of at another instance within [`FRESH`], and has not said good-bye there. An
    /// instance that died is believed for as long.
    #[must_use]
    pub fn is_elsewhere(&self, agent: AgentNo) -> bool {
        self.inner.slots.get(agent.0).is_some_and(|slot| {
            slot.by_others.load(Ordering::Relaxed)
                && is_fresh(slot.elsewhere.load(Ordering::Relaxed), self.seconds())
        })
    }

    /// Whether it has a link to this very instance.
    #[must_use]
    pub fn is_connected_here(&self, agent: AgentNo) -> bool {
        self.inner.slots.get(agent.0).is_some_and(|slot| slot.links.load(Ordering::Acquire) > 0)
    }

    /// When it was last heard of; now, while it is connected here.
    #[must_use]
    pub fn last_seen(&self, agent: AgentNo) -> Option<Timestamp> {
        let slot = self.inner.slots.get(agent.0)?;
        if slot.links.load(Ordering::Acquire) > 0 {
            return Some(self.inner.clock.now());
        }
        let seen = slot.here.load(Ordering::Relaxed).max(slot.elsewhere.load(Ordering::Relaxed));
        (seen > 0).then(|| Timestamp(i64::from(seen) * 1_000_000))
    }

    /// Changes when an agent arrived that was offline before, here or elsewhere.
    #[must_use]
    pub fn arrivals(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.arrivals.subscribe()
    }

    /// Reads the blocks of all instances: who was seen when, before this one started.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn load(&self, catalog: &Catalog) -> Result<(), muster_catalog::Error> {
        service::load(&self.inner, catalog).await
    }

    /// Publishes arrivals, writes this instance's blocks twice a minute and at the end, and reads the
    /// others' every 15 seconds, until `shutdown`. At the start, and when it may have missed hints, it asks
    /// the others who came to them since they wrote theirs.
    pub async fn run(
        &self,
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        shutdown: tokio_util::sync::CancellationToken,
    ) {
        service::run(&self.inner, &catalog, &*bus, &shutdown).await;
    }

    fn seconds(&self) -> u32 {
        seconds(self.inner.clock.now())
    }

    fn note_move(&self, agent: AgentNo, arrived: bool) {
        self.inner.moves.lock().insert(agent, arrived);
        self.inner.moved.notify_one();
        if arrived {
            self.inner.arrivals.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl Slot {
    fn is_linked(&self) -> bool {
        self.links.load(Ordering::Acquire) > 0
    }

    fn is_online(&self, now: u32) -> bool {
        self.is_linked()
            || (is_fresh(self.here.load(Ordering::Relaxed), now)
                && !self.left.load(Ordering::Relaxed))
            || is_fresh(self.elsewhere.load(Ordering::Relaxed), now)
    }
}

impl Live for Presence {
    fn is_online(&self, agent: AgentNo) -> bool {
        self.is_online(agent)
    }

    fn last_seen(&self, agent: AgentNo) -> Option<Timestamp> {
        self.last_seen(agent)
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }
}

fn is_fresh(seen: u32, now: u32) -> bool {
    seen > 0 && now.saturating_sub(seen) <= FRESH.as_secs() as u32
}

pub(crate) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.seconds()).unwrap_or(0)
}
