//! The sending loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_hunts::{HuntDef, HuntEvent};
use muster_types::TaskId;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::Delivery;
use super::who::Who;
use crate::session::{Push, Pushed, Session};

/// Pushes between two looks at other work: below a millisecond, their writing included.
const SLICE: usize = 64;
/// How often what agents have to do is compared with what was handed to them.
const RECONCILE: Duration = Duration::from_secs(5);
/// How often answers are forgotten that the fold has told of.
const FORGET: Duration = Duration::from_secs(60);

/// Something to send to some agents.
struct Job {
    what: What,
    who: Who,
}

enum What {
    /// One hunt's task.
    Task(Arc<HuntDef>),
    /// Whatever each has to do.
    Work,
    /// The same, and what it should stop doing.
    WorkAndCancels,
    /// Stop a task, where it is held.
    Cancel(TaskId),
}

impl Delivery {
    /// Sends until it is dropped.
    pub(super) async fn send(&self) {
        let mut events = self.hunts.events();
        let mut reconcile = interval(RECONCILE);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forget = interval(FORGET);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut jobs: Vec<Job> = Vec::new();
        loop {
            tokio::select! {
                biased;
                event = events.recv() => jobs.push(self.job_of(event)),
                () = self.arrival.notified() => {
                    let arrived = std::mem::take(&mut *self.arrived.lock());
                    jobs.push(Job { what: What::WorkAndCancels, who: Who::listed(arrived) });
                }
                _ = reconcile.tick() => jobs.push(Job { what: What::Work, who: Who::everybody() }),
                _ = forget.tick() => self.forget_answers(),
                () = std::future::ready(()), if !jobs.is_empty() => {
                    self.slice(&mut jobs).await;
                    // The sessions that were just woken write now.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn job_of(&self, event: Result<HuntEvent, RecvError>) -> Job {
        match event {
            Ok(HuntEvent::Work { hunt, agents }) => {
                Job { what: What::Task(hunt), who: Who::agents(&agents) }
            }
            Ok(HuntEvent::Stopped { hunt }) => {
                self.note_stop();
                Job { what: What::Cancel(hunt.task()), who: Who::everybody() }
            }
            // Closed cannot be: we hold the hunts that send.
            Err(RecvError::Lagged(_) | RecvError::Closed) => {
                self.note_stop();
                Job { what: What::WorkAndCancels, who: Who::everybody() }
            }
        }
    }

    /// From now on agents that connect are asked to stop what was stopped lately.
    fn note_stop(&self) {
        let until = self.clock.now().plus(HuntDef::CANCEL_GRACE);
        self.stops_until.fetch_max(until.0, Ordering::Relaxed);
    }

    /// One slice of the smallest job: who waits for little waits shortest.
    async fn slice(&self, jobs: &mut Vec<Job>) {
        let smallest = jobs.iter().enumerate().min_by_key(|(_, job)| job.who.left());
        let Some(at) = smallest.map(|(at, _)| at) else { return };
        let job = &mut jobs[at];
        let sessions = job.who.take(&self.sessions, SLICE);
        match &job.what {
            What::Task(hunt) => {
                let work = sessions.iter().map(|session| (session, Arc::clone(hunt)));
                self.push_tasks(work.collect()).await;
            }
            What::Work => self.push_work(&sessions).await,
            What::WorkAndCancels => {
                self.push_work(&sessions).await;
                for session in &sessions {
                    for hunt in self.hunts.cancels_for(session.agent.no) {
                        self.push_cancel(session, hunt.task());
                    }
                }
            }
            What::Cancel(task) => {
                for session in sessions.iter().filter(|session| session.holds(*task)) {
                    self.push_cancel(session, *task);
                }
            }
        }
        if jobs[at].who.left() == 0 {
            jobs.swap_remove(at);
        }
    }

    async fn push_work(&self, sessions: &[Arc<Session>]) {
        let work = |session| {
            let hunts = self.hunts.work_for(Session::agent_no(session));
            hunts.into_iter().map(move |hunt| (session, hunt))
        };
        self.push_tasks(sessions.iter().flat_map(work).collect()).await;
    }

    async fn push_tasks(&self, work: Vec<(&Arc<Session>, Arc<HuntDef>)>) {
        let fresh = work.into_iter().filter(|(session, hunt)| {
            !session.holds(hunt.task()) && self.may_hand_over(hunt, session.agent)
        });
        let tasks: Vec<_> = fresh
            .filter_map(|(session, hunt)| Some((session, self.prepare(&hunt, session.agent)?)))
            .collect();
        for kind in self.gateways.keys() {
            let of_kind = tasks.iter().filter(|(session, _)| session.agent.kind == *kind);
            let about = of_kind.clone().map(|(s, handover)| (s.agent, handover.task)).collect();
            if !self.announce(*kind, about).await {
                continue;
            }
            for (session, handover) in of_kind {
                let (task, bytes) = (handover.task, handover.bytes.clone());
                let pushed = session.push(Push::Task { task, bytes });
                if pushed == Pushed::Written && self.sessions.is_current(session) {
                    self.delivered(session.agent, std::iter::once(task));
                }
            }
        }
    }

    fn push_cancel(&self, session: &Arc<Session>, task: TaskId) {
        let gateway = self.gateways.get(&session.agent.kind);
        if let Some(bytes) = gateway.and_then(|gateway| gateway.cancel(task))
            && session.push(Push::Cancel { task, bytes }) == Pushed::Written
        {
            self.metrics.cancels.inc();
        }
    }
}
