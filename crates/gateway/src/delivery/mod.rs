//! The way down: tasks from the waves of hunts to the agents that are connected here.
//!
//! A wave is pushed in slices, each to the queues of some sessions whose own tasks write them; between
//! slices other work is looked at, smallest first, so that a task to one agent does not wait for a
//! wave to all. A task is compiled once per hunt and agent kind. What was handed over becomes
//! `Delivered` facts, appended in batches; kinds that must not get a task twice have `Delivering`
//! durable before the bytes leave.
//!
//! Losing a hint or a process costs time only: every few seconds, and whenever an agent connects, what
//! it has to do is compared with what was handed to it.

mod compiled;
mod facts;
mod send;
mod share;
mod who;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_bus::Bus;
use muster_hunts::{HuntDef, Hunts};
use muster_types::{AgentKind, AgentNo, Clock, TaskFact, TaskId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answered::Answered;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::session::{Push, Session};
use crate::{AgentRef, Gateway, Ingest, Sessions};
use compiled::Compiled;
use facts::Outbox;
use share::Untold;

/// How long what a poller was given is not handed over again, whatever the catalog says: it is at work on
/// it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A task for an agent that polls.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Which.
    pub task: TaskId,
    /// In the agent's own protocol.
    pub bytes: Bytes,
}

/// Hands tasks to agents; one per process, for all gateways.
pub struct Delivery {
    hunts: Hunts,
    sessions: Arc<Sessions>,
    ingest: Ingest,
    gateways: HashMap<AgentKind, Arc<dyn Gateway>>,
    compiled: Compiled,
    outbox: Outbox,
    arrived: Mutex<Vec<Arc<Session>>>,
    arrival: Notify,
    recent: Recent,
    answered: Answered,
    untold: Untold,
    /// Until then agents that connect may have something to stop.
    stops_until: AtomicI64,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Delivery {
    /// Delivery for these gateways.
    #[must_use]
    pub fn new(
        hunts: Hunts,
        sessions: Arc<Sessions>,
        ingest: Ingest,
        gateways: Vec<Arc<dyn Gateway>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        // What was stopped shortly before this process started is not known yet.
        let stops_until = clock.now().plus(HuntDef::CANCEL_GRACE);
        let gateways = gateways.into_iter().map(|gateway| (gateway.kind(), gateway)).collect();
        Arc::new(Self {
            hunts,
            sessions,
            ingest,
            gateways,
            compiled: Compiled::default(),
            outbox: Outbox::default(),
            arrived: Mutex::default(),
            arrival: Notify::new(),
            recent: Recent::new(REMEMBERED),
            answered: Answered::default(),
            untold: Untold::default(),
            stops_until: AtomicI64::new(stops_until.0),
            clock,
            metrics,
        })
    }

    /// Pushes tasks, records what was handed over, and shares what was answered with other instances,
    /// until `shutdown`; what is recorded by then is appended first.
    pub async fn run(self: Arc<Self>, bus: Arc<dyn Bus>, shutdown: CancellationToken) {
        let send = shutdown.run_until_cancelled(self.send());
        let share = shutdown.run_until_cancelled(self.share(&*bus));
        let _ = tokio::join!(send, share, self.outbox.run(&self.ingest, &shutdown));
    }

    /// A session was opened: it gets what its agent has to do.
    pub fn connected(&self, session: &Arc<Session>) {
        let stops = self.clock.now().0 < self.stops_until.load(Ordering::Relaxed);
        if stops || self.hunts.has_work(session.agent.no) {
            self.arrived.lock().push(Arc::clone(session));
            self.arrival.notify_one();
        }
    }

    /// The connection has written these: its tasks are delivered, if the session is still the valid one.
    pub fn written(&self, session: &Session, pushes: &[Push]) {
        let tasks = || pushes.iter().filter_map(Push::task);
        self.metrics
            .cancels
            .add(pushes.iter().filter(|push| matches!(push, Push::Cancel { .. })).count() as u64);
        if tasks().next().is_some() && self.sessions.is_current(session) {
            self.delivered(session.agent, tasks());
        }
    }

    /// The agent has ended these, durably.
    pub fn ended(&self, session: &Session, tasks: &[TaskId]) {
        for task in tasks {
            session.ended(*task);
            self.note_answer(session.agent.no, *task);
        }
    }

    /// What an agent that polls has to do now, at most `most` tasks. They count as handed over for the
    /// next minute; say [`Delivery::handed_over`] once the answer is written.
    pub async fn take(&self, agent: AgentRef, most: usize) -> Vec<Handover> {
        if !self.hunts.has_work(agent.no) {
            return Vec::new();
        }
        let now = self.clock.now();
        let work = self.hunts.work_for(agent.no);
        let fresh = work.iter().filter(|hunt| self.may_hand_over(hunt, agent));
        let tasks: Vec<_> = fresh.take(most).filter_map(|hunt| self.prepare(hunt, agent)).collect();
        if !self.announce(agent.kind, tasks.iter().map(|t| (agent, t.task)).collect()).await {
            return Vec::new();
        }
        for handover in &tasks {
            self.recent.insert(agent.no, handover.task, now);
        }
        tasks
    }

    /// The answer with these tasks could not be written: the next poll may have them.
    pub fn not_handed_over(&self, agent: AgentRef, tasks: impl IntoIterator<Item = TaskId>) {
        tasks.into_iter().for_each(|task| self.recent.remove(agent.no, task));
    }

    /// An agent that polls has answered these, durably: they are not handed over again, here or by another
    /// instance, however long it takes the fold to learn of it.
    pub fn answered(&self, agent: AgentRef, tasks: impl IntoIterator<Item = TaskId>) {
        for task in tasks {
            if self.note_answer(agent.no, task) {
                self.untold.insert(agent.no, task);
            }
        }
    }

    /// Remembers an answer; whether it is one to a hunt that lives.
    fn note_answer(&self, agent: AgentNo, task: TaskId) -> bool {
        // An agent may name any number.
        match self.hunts.peek(task.hunt).filter(|hunt| hunt.task() == task) {
            Some(hunt) if hunt.state.is_ended() => false,
            Some(_) => {
                self.answered.insert(agent, task);
                true
            }
            // It is not known here yet, perhaps.
            None => {
                self.recent.insert(agent, task, self.clock.now());
                false
            }
        }
    }

    /// Forgets answers that the fold has told of, and those of hunts that have ended.
    fn forget_answers(&self) {
        self.answered.keep(|task, agents| self.hunts.unended(task.hunt, agents));
    }

    /// The answer with these tasks was written to an agent that polls.
    pub fn handed_over(&self, agent: AgentRef, tasks: impl IntoIterator<Item = TaskId>) {
        self.delivered(agent, tasks.into_iter());
    }

    fn delivered(&self, agent: AgentRef, tasks: impl Iterator<Item = TaskId>) {
        let facts = tasks.map(|task| (agent, TaskFact::Delivered(task)));
        self.metrics.tasks_delivered.add(self.outbox.extend(facts) as u64);
    }

    /// Whether a task that the agent has to do, by what is committed, is to be handed over now.
    fn may_hand_over(&self, hunt: &HuntDef, agent: AgentRef) -> bool {
        let Some(gateway) = self.gateways.get(&agent.kind) else { return false };
        let once = gateway.redelivery().is_announced();
        let done = once && self.hunts.is_delivered(hunt.no, agent.no);
        !done
            && !self.answered.contains(agent.no, hunt.task())
            && !self.recent.contains(agent.no, hunt.task(), self.clock.now())
    }

    /// The task in the agent's protocol. One it cannot run ends at once.
    fn prepare(&self, hunt: &Arc<HuntDef>, agent: AgentRef) -> Option<Handover> {
        let task = hunt.task();
        let gateway = self.gateways.get(&agent.kind)?;
        let common = self.compiled.get(hunt, task, &**gateway);
        match common.and_then(|common| gateway.address(&common, agent)) {
            Ok(bytes) => Some(Handover { task, bytes }),
            Err(unsupported) => {
                let now = self.clock.now();
                if !self.recent.contains(agent.no, task, now) {
                    self.recent.insert(agent.no, task, now);
                    self.metrics.tasks_unsupported.inc();
                    let outcome = muster_types::Outcome::Unsupported;
                    let reason = unsupported.reason;
                    self.outbox.extend([(agent, TaskFact::Ended { task, outcome, reason })]);
                }
                None
            }
        }
    }

    /// For kinds that need it, makes durable that these are about to be handed over. False when that
    /// failed: then they must not be.
    async fn announce(&self, kind: AgentKind, tasks: Vec<(AgentRef, TaskId)>) -> bool {
        let announced = self.gateways.get(&kind).is_some_and(|g| g.redelivery().is_announced());
        if !announced || tasks.is_empty() {
            return true;
        }
        let facts = tasks.into_iter().map(|(agent, task)| (agent, TaskFact::Delivering(task)));
        match self.ingest.append_facts(facts.collect()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "tasks are held back: their delivery could not be recorded");
                false
            }
        }
    }
}
