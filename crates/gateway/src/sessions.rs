//! Who is connected to this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_types::{AgentNo, SHARDS, Shard};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::AgentRef;
use crate::metrics::Metrics;
use crate::session::{CloseReason, Session};

/// The registry of live sessions. At most one per agent: the newest wins.
#[derive(Debug)]
pub struct Sessions {
    shards: [RwLock<HashMap<AgentNo, Arc<Session>>>; SHARDS as usize],
    numbers: AtomicU64,
    metrics: Arc<Metrics>,
    moving: Mutex<Option<Moving>>,
}

/// Sessions on their way to other instances.
#[derive(Clone, Copy, Debug)]
struct Moving {
    spread: Duration,
    /// When the first was asked to go, and of how many.
    begun: Option<(Instant, usize)>,
}

impl Sessions {
    /// Nobody is connected.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let shards = std::array::from_fn(|_| RwLock::default());
        let moving = Mutex::default();
        Arc::new(Self { shards, numbers: AtomicU64::new(0), metrics, moving })
    }

    /// Registers a connection; an older one of the same agent is closed and no longer valid.
    #[must_use]
    pub fn open(self: &Arc<Self>, agent: AgentRef, process: [u8; 16]) -> Registered {
        let mut shard = self.shards[agent.no.shard().index()].write();
        // Taken under the lock, so that numbers rise in the order of registration.
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Session::new(agent, number, process);
        let older = shard.insert(agent.no, Arc::clone(&session));
        drop(shard);
        self.metrics.sessions.inc();
        if let Some(older) = older {
            self.metrics.replaced.inc();
            older.close(CloseReason::Replaced);
        }
        Registered { sessions: Arc::clone(self), session }
    }

    /// The valid session of an agent.
    #[must_use]
    pub fn get(&self, agent: AgentNo) -> Option<Arc<Session>> {
        self.shards[agent.shard().index()].read().get(&agent).cloned()
    }

    /// Whether this is still the valid session of its agent.
    #[must_use]
    pub fn is_current(&self, session: &Session) -> bool {
        let shard = self.shards[session.agent.no.shard().index()].read();
        shard.get(&session.agent.no).is_some_and(|current| current.number == session.number)
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live sessions of a shard; a copy, so that no lock is held while it is used.
    #[must_use]
    pub fn of_shard(&self, shard: Shard) -> Vec<Arc<Session>> {
        self.shards[shard.index()].read().values().cloned().collect()
    }

    /// All live sessions.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        Shard::all().flat_map(|shard| self.of_shard(shard)).collect()
    }

    /// Ends all sessions, for shutdown.
    pub fn close_all(&self, reason: CloseReason) {
        for session in self.all() {
            session.close(reason);
        }
    }

    /// When [`Self::close_due`] is called, sessions are moved to other instances over this long, one
    /// after the other, instead of being closed all at once.
    pub fn move_over(&self, spread: Duration) {
        *self.moving.lock() = Some(Moving { spread, begun: None });
    }

    /// Ends the sessions whose turn it is; called again and again until all have ended.
    pub fn close_due(&self) {
        let Some(mut moving) = *self.moving.lock() else {
            return self.close_all(CloseReason::Shutdown);
        };
        let mut staying = self.all();
        staying.retain(|session| !session.is_ending());
        let (began, count) = *moving.begun.get_or_insert_with(|| (Instant::now(), staying.len()));
        *self.moving.lock() = Some(moving);
        let passed = began.elapsed().as_secs_f64() / moving.spread.as_secs_f64().max(1e-3);
        // Rounded down: the last one goes at the end.
        let may_stay = (count as f64 * (1.0 - passed) + 1e-6).max(0.0).floor() as usize;
        let moved = staying.len().saturating_sub(may_stay);
        for session in staying.into_iter().take(moved) {
            session.close(CloseReason::Elsewhere);
        }
    }

    fn remove(&self, session: &Session) {
        let mut shard = self.shards[session.agent.no.shard().index()].write();
        if shard.get(&session.agent.no).is_some_and(|s| s.number == session.number) {
            shard.remove(&session.agent.no);
        }
        drop(shard);
        self.metrics.sessions.dec();
    }
}

/// A registered session; leaves the registry when dropped.
#[derive(Debug)]
pub struct Registered {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Registered {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether no newer one has taken its place.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.sessions.is_current(&self.session)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use muster_types::{AgentKind, OrgId};

    use super::*;

    fn agent(no: u32) -> AgentRef {
        AgentRef { no: AgentNo(no), org: OrgId(1), kind: AgentKind::Native }
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_go_one_after_the_other() {
        let sessions = Sessions::new(Arc::default());
        let _open: Vec<_> = (1..=100).map(|no| sessions.open(agent(no), [0; 16])).collect();
        sessions.move_over(Duration::from_secs(10));
        let staying = || sessions.all().iter().filter(|session| !session.is_ending()).count();
        for second in 0..=10usize {
            sessions.close_due();
            assert_eq!(staying(), 100 - 10 * second);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn without_others_all_end_at_once() {
        let sessions = Sessions::new(Arc::default());
        let _open: Vec<_> = (1..=9).map(|no| sessions.open(agent(no), [0; 16])).collect();
        sessions.close_due();
        assert!(sessions.all().iter().all(|session| session.is_ending()));
    }
}
