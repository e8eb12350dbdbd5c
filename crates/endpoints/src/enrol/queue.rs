//! Many enrolments in one transaction.
//!
//! Every enrolment locks the row of the feed until it is on disk, so alone each costs a commit while all
//! others wait: with a fleet that is rolled out at once, that wait is nearly all of the time. Here those who
//! come while a transaction runs share the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{Catalog, Error};
use muster_types::{AgentNo, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::node::{self, EnrolNode, LastHeard, NodeEnrolled};
use super::{Asked, Done, Enrol, EnrolError, Enrolled, Granted, alone, together};

/// Enrolments in one transaction, at most.
const TOGETHER: usize = 32;
/// Enrolments that wait; one more is told to come again.
const WAITING_MAX: usize = 1024;
/// How long one waits for its turn before it is told so too: osquery's requests are ended after ten seconds.
const WAITS_MAX: Duration = Duration::from_secs(5);

/// Enrols agents for the gateways of an instance, those that come at once together. Clones share it.
#[derive(Clone)]
pub struct EnrolQueue {
    catalog: Catalog,
    waits_max: Duration,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Somebody takes from it.
    is_served: bool,
    /// Those that were taken and are being enrolled.
    served: usize,
    /// The number of the next job.
    next: u64,
}

struct Job {
    asked: Asked,
    turn: Turn,
}

/// Whose turn it is.
struct Turn {
    number: u64,
    until: Instant,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Done, EnrolError>>;

impl EnrolQueue {
    /// An empty one.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, waits_max: WAITS_MAX, waiting: Arc::default() }
    }

    /// The same, where one waits so long for its turn; for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn waiting(self, waits_max: Duration) -> Self {
        Self { waits_max, ..self }
    }

    /// [`enrol`](super::enrol), with a secret that was found good.
    ///
    /// # Errors
    /// [`EnrolError`]; [`EnrolError::Crowded`] when too many wait.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens; later it may or may not have happened.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn enrol(
        &self,
        enrol: &Enrol,
        granted: Option<Granted>,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        Ok(self.ask(Asked::agent(enrol, granted, now)?).await?.enrolled)
    }

    /// [`enrol_clone`](super::enrol_clone).
    ///
    /// # Errors
    /// As [`EnrolQueue::enrol`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn enrol_clone(
        &self,
        of: AgentNo,
        enrol: &Enrol,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        Ok(self.ask(Asked::clone_of(of, enrol, now)?).await?.enrolled)
    }

    /// [`enrol_node`](super::enrol_node).
    ///
    /// # Errors
    /// As [`EnrolQueue::enrol`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn enrol_node(
        &self,
        node: &EnrolNode,
        granted: Granted,
        last_heard: LastHeard,
        now: Timestamp,
    ) -> Result<NodeEnrolled, EnrolError> {
        let with_certificate = granted.0.client_certificate;
        let asked = Asked::Node(node::Asked::new(node, granted, last_heard, now)?);
        Ok(NodeEnrolled::new(&self.ask(asked).await?, with_certificate))
    }

    /// How many wait or are being enrolled.
    #[must_use]
    pub fn pending(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.jobs.len() + waiting.served
    }

    async fn ask(&self, asked: Asked) -> Result<Done, EnrolError> {
        // Who comes back needs no turn.
        if let Some(done) = asked.known(&self.catalog).await? {
            return Ok(done);
        }
        let (answer, answered) = oneshot::channel();
        let (number, is_first) = {
            let mut waiting = self.waiting.lock();
            if waiting.jobs.len() >= WAITING_MAX {
                return Err(EnrolError::Crowded);
            }
            let number = waiting.next;
            waiting.next += 1;
            let turn = Turn { number, until: Instant::now() + self.waits_max, answer };
            waiting.jobs.push_back(Job { asked, turn });
            (number, !std::mem::replace(&mut waiting.is_served, true))
        };
        if is_first {
            // Dropped at once where the runtime ends: it takes the lock then.
            let server = Server { waiting: Arc::clone(&self.waiting), serves: true };
            tokio::spawn(server.serve(self.catalog.clone()));
        }
        let mut answered = answered;
        let answer = match tokio::time::timeout(self.waits_max, &mut answered).await {
            Ok(answer) => answer,
            Err(_) if self.take_out(number) => return Err(EnrolError::Crowded),
            // It is being enrolled, which ends one way or the other.
            Err(_) => answered.await,
        };
        let cut_off = || Error::Unavailable("the enrolment was cut off".to_owned());
        answer.unwrap_or_else(|_| Err(cut_off().into()))
    }

    /// Takes one out that was not taken yet; whether it was there.
    fn take_out(&self, number: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let at = waiting.jobs.iter().position(|job| job.turn.number == number);
        at.and_then(|at| waiting.jobs.remove(at)).is_some()
    }
}

/// Whether the next enrolment would end in the same way.
fn ends_all(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_) | Error::DiskFull | Error::Refused(_))
}

/// Takes from the queue until nothing waits.
struct Server {
    waiting: Arc<Mutex<Waiting>>,
    serves: bool,
}

impl Server {
    async fn serve(mut self, catalog: Catalog) {
        while let Some(jobs) = self.next() {
            let (all, turns): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.asked, job.turn)).unzip();
            match together(&catalog, &all).await {
                Ok(done) => {
                    let mut jobs = all.into_iter().zip(turns);
                    for (done, (_, turn)) in done.into_iter().zip(&mut jobs) {
                        tell(turn.answer, done);
                    }
                    self.put_back(jobs.map(|(asked, turn)| Job { asked, turn }));
                }
                Err(error) => one_by_one(&catalog, &all, turns, error).await,
            }
        }
    }

    /// Those there was no time for come first the next time.
    fn put_back(&self, jobs: impl DoubleEndedIterator<Item = Job>) {
        let mut waiting = self.waiting.lock();
        jobs.rev().for_each(|job| waiting.jobs.push_front(job));
        waiting.served = 0;
    }

    /// The next that still want an answer; `None`, and somebody else serves from now on, when there are none.
    fn next(&mut self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        let mut jobs = Vec::new();
        while jobs.len() < TOGETHER
            && let Some(job) = waiting.jobs.pop_front()
        {
            if !job.turn.answer.is_closed() {
                jobs.push(job);
            }
        }
        self.serves = !jobs.is_empty();
        (waiting.is_served, waiting.served) = (self.serves, jobs.len());
        self.serves.then_some(jobs)
    }
}

/// After a transaction for all of them failed: somebody was in the way of one of them (another instance, or what
/// folds in who was seen when), or one cannot be stored, and that is no other's fault.
async fn one_by_one(catalog: &Catalog, all: &[Asked], turns: Vec<Turn>, error: Error) {
    let mut ended = Some(error).filter(ends_all);
    for (asked, Turn { until, answer, .. }) in all.iter().zip(turns) {
        if answer.is_closed() {
            continue;
        }
        let done = match &ended {
            Some(error) => Err(error.clone().into()),
            None if Instant::now() > until => Err(EnrolError::Crowded),
            None => alone(catalog, asked).await,
        };
        if let Err(EnrolError::Catalog(error)) = &done {
            ended = Some(error.clone()).filter(ends_all);
        }
        tell(answer, done);
    }
}

impl Drop for Server {
    /// Cut off half way, it leaves nobody waiting for it.
    fn drop(&mut self) {
        if self.serves {
            let mut waiting = self.waiting.lock();
            // Numbers go on, so that nobody who waited takes out somebody else.
            waiting.jobs.clear();
            (waiting.is_served, waiting.served) = (false, 0);
        }
    }
}

fn tell(answer: Answer, done: Result<Done, EnrolError>) {
    // Who asked may be gone.
    let _ = answer.send(done);
}

impl std::fmt::Debug for EnrolQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolQueue").field("pending", &self.pending()).finish()
    }
}
