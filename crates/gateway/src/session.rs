//! One agent's live connection, as the rest of the process sees it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use muster_types::{AgentNo, TaskId};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::AgentRef;

/// Things that may wait to be written to one agent.
const QUEUE_ITEMS_MAX: usize = 1024;
/// Bytes that may wait to be written to one agent.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Tasks remembered as handed over on one connection; beyond it the oldest is forgotten, and may be
/// handed over again.
const HANDED_MAX: usize = 1024;

/// Something for the connection to write or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Hand this task over.
    Task {
        /// Which.
        task: TaskId,
        /// In the agent's own protocol.
        bytes: Bytes,
    },
    /// Tell the agent to stop it.
    Cancel {
        /// Which.
        task: TaskId,
        /// In the agent's own protocol.
        bytes: Bytes,
    },
    /// Ask the agent for a sign of life.
    Probe,
    /// Write the rest of a frame that [`Line::try_write`] began.
    Rest {
        /// The task in it, if it was one.
        task: Option<TaskId>,
    },
}

/// What became of a [`Session::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is on its way to the agent.
    Written,
    /// The connection's own task will write it.
    Queued,
    /// Neither: the connection is ending, or the task was handed over on it before.
    Not,
}

/// What became of a [`Line::try_write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// All of it.
    Written,
    /// Not all; the connection's own task has to go on, with [`Push::Rest`].
    Begun,
    /// Nothing: somebody else is writing.
    Busy,
}

/// A connection that others than its own task may write to.
pub trait Line: Send + Sync {
    /// Writes one frame as far as that goes without waiting.
    fn try_write(&self, push: &Push) -> Tried;
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The same agent opened a newer connection.
    Replaced,
    /// It reads too slowly.
    Slow,
    /// Its agent was removed or blocked.
    Revoked,
    /// The process ends.
    Shutdown,
    /// The process ends, and others are there to go to.
    Elsewhere,
    /// The agent is a copy of one that is connected to another instance.
    Copied,
}

/// What the connection's task has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write these, in order.
    Write(Vec<Push>),
    /// End the connection.
    Close(CloseReason),
}

#[derive(Debug, Default)]
struct State {
    /// The connection's task waits for something to do: nothing is taken from the queue and not
    /// written yet.
    waits: bool,
    queue: VecDeque<Push>,
    queued_bytes: usize,
    handed: VecDeque<TaskId>,
    close: Option<CloseReason>,
    probes: Vec<oneshot::Sender<()>>,
}

/// A live connection of one agent. An idle one holds nothing on the heap but itself.
pub struct Session {
    /// Whose.
    pub agent: AgentRef,
    /// Rises with each connection to this process: the newest of an agent is the valid one.
    pub number: u64,
    /// When it was opened.
    pub opened_at: Instant,
    /// Random per start of the agent's process, when its protocol has such a thing.
    pub process: [u8; 16],
    state: Mutex<State>,
    line: OnceLock<Weak<dyn Line>>,
    wake: Notify,
    probed: AtomicBool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { agent, number, state, .. } = self;
        let mut debug = f.debug_struct("Session");
        debug.field("agent", agent).field("number", number).field("state", state);
        debug.finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(agent: AgentRef, number: u64, process: [u8; 16]) -> Arc<Self> {
        Arc::new(Self {
            agent,
            number,
            opened_at: Instant::now(),
            process,
            state: Mutex::default(),
            line: OnceLock::new(),
            wake: Notify::new(),
            probed: AtomicBool::new(false),
        })
    }

    pub(crate) fn agent_no(session: &Arc<Self>) -> AgentNo {
        session.agent.no
    }

    /// From now on what is pushed while the connection's task waits is written at once.
    pub fn attach(&self, line: &Arc<dyn Line>) {
        // A connection has one.
        let _ = self.line.set(Arc::downgrade(line));
    }

    /// Writes something to the agent, or queues it. At the bound the connection is closed as too slow.
    pub fn push(&self, mut push: Push) -> Pushed {
        let mut state = self.state.lock();
        if state.close.is_some() {
            return Pushed::Not;
        }
        if let Push::Task { task, .. } = &push {
            if state.handed.contains(task) {
                return Pushed::Not;
            }
            if state.handed.len() >= HANDED_MAX {
                state.handed.pop_front();
            }
            state.handed.push_back(*task);
        }
        // With the lock held, so that what is queued later is written later.
        if state.waits
            && state.queue.is_empty()
            && let Some(line) = self.line.get().and_then(Weak::upgrade)
        {
            match line.try_write(&push) {
                Tried::Written => return Pushed::Written,
                Tried::Begun => push = Push::Rest { task: push.task() },
                Tried::Busy => {}
            }
        }
        let bytes = push.bytes();
        if state.queue.len() >= QUEUE_ITEMS_MAX || state.queued_bytes + bytes > QUEUE_BYTES_MAX {
            state.close = Some(CloseReason::Slow);
        } else {
            state.queued_bytes += bytes;
            state.queue.push_back(push);
        }
        let queued = state.close.is_none();
        drop(state);
        self.wake.notify_one();
        if queued { Pushed::Queued } else { Pushed::Not }
    }

    /// Ends the connection; the first reason stands.
    pub fn close(&self, reason: CloseReason) {
        self.state.lock().close.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.state.lock().close.is_some()
    }

    /// Whether the task was handed over on this connection and has not ended.
    #[must_use]
    pub fn holds(&self, task: TaskId) -> bool {
        self.state.lock().handed.contains(&task)
    }

    /// Forgets a task that has ended; whether it was held.
    pub fn ended(&self, task: TaskId) -> bool {
        let mut state = self.state.lock();
        let at = state.handed.iter().position(|held| *held == task);
        if let Some(at) = at {
            state.handed.remove(at);
        }
        if state.handed.is_empty() {
            state.handed = VecDeque::new();
        }
        at.is_some()
    }

    /// Waits for something to do; for the connection's own task.
    ///
    /// # Cancel safety
    /// Safe: a dropped call takes nothing from the queue.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.wake.notified().await;
        }
    }

    /// What there is to do now.
    pub fn try_next(&self) -> Option<Next> {
        let mut state = self.state.lock();
        if let Some(reason) = state.close {
            return Some(Next::Close(reason));
        }
        state.waits = state.queue.is_empty();
        if state.waits {
            return None;
        }
        state.queued_bytes = 0;
        // Taken whole, so that an idle session keeps no allocation.
        Some(Next::Write(std::mem::take(&mut state.queue).into()))
    }

    /// The agent gave a sign of life; called by the connection's task for whatever it receives.
    pub fn heard(&self) {
        if self.probed.swap(false, Ordering::AcqRel) {
            for probe in self.state.lock().probes.drain(..) {
                let _ = probe.send(());
            }
        }
    }

    /// Whether the agent gives a sign of life within this time.
    pub async fn answers_within(&self, time: Duration) -> bool {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.probes.retain(|probe| !probe.is_closed());
            state.probes.push(tell);
        }
        self.probed.store(true, Ordering::Release);
        self.push(Push::Probe) != Pushed::Not
            && matches!(tokio::time::timeout(time, told).await, Ok(Ok(())))
    }
}

impl Push {
    fn bytes(&self) -> usize {
        match self {
            Self::Task { bytes, .. } | Self::Cancel { bytes, .. } => bytes.len(),
            Self::Probe | Self::Rest { .. } => 0,
        }
    }

    /// The task that is handed over with it.
    pub(crate) fn task(&self) -> Option<TaskId> {
        match self {
            Self::Task { task, .. } => Some(*task),
            Self::Rest { task } => *task,
            Self::Cancel { .. } | Self::Probe => None,
        }
    }
}
