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
/// How long one waits for its turn before it is told so too: agents give up after ten seconds.
const WAITS_MAX: Duration = Duration::from_secs(5);

/// Enrols agents for the gateways of an instance, those that come at once together. Clones share it.
#[derive(Clone)]
pub struct EnrolQueue {
    catalog: Catalog,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Somebody takes from it.
    is_served: bool,
    /// Those that were taken and have no answer yet.
    served: usize,
}

struct Job {
    asked: Asked,
    since: Instant,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Done, EnrolError>>;

impl EnrolQueue {
    /// An empty one.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, waiting: Arc::default() }
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

    /// How many have no answer yet.
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
        let is_first = {
            let mut waiting = self.waiting.lock();
            if waiting.jobs.len() >= WAITING_MAX {
                return Err(EnrolError::Crowded);
            }
            waiting.jobs.push_back(Job { asked, since: Instant::now(), answer });
            !std::mem::replace(&mut waiting.is_served, true)
        };
        if is_first {
            // Dropped at once where the runtime ends: it takes the lock then.
            let server = Server { waiting: Arc::clone(&self.waiting), serves: true };
            tokio::spawn(server.serve(self.catalog.clone()));
        }
        let cut_off = || Error::Unavailable("the enrolment was cut off".to_owned());
        answered.await.unwrap_or_else(|_| Err(cut_off().into()))
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
            let (all, others): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.asked, (job.since, job.answer))).unzip();
            match together(&catalog, &all).await {
                Ok(done) => {
                    let mut jobs = all.into_iter().zip(others);
                    for (done, (_, (_, answer))) in done.into_iter().zip(&mut jobs) {
                        tell(answer, done);
                    }
                    let job = |(asked, (since, answer))| Job { asked, since, answer };
                    self.put_back(jobs.map(job));
                }
                Err(error) => {
                    let answers = others.into_iter().map(|(_, answer)| answer);
                    one_by_one(&catalog, &all, answers, error).await;
                }
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
            if job.since.elapsed() > WAITS_MAX {
                tell(job.answer, Err(EnrolError::Crowded));
            } else if !job.answer.is_closed() {
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
async fn one_by_one(
    catalog: &Catalog,
    all: &[Asked],
    answers: impl Iterator<Item = Answer>,
    error: Error,
) {
    let mut ended = Some(error).filter(ends_all);
    for (asked, answer) in all.iter().zip(answers) {
        if answer.is_closed() {
            continue;
        }
        let done = match &ended {
            Some(error) => Err(error.clone().into()),
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
            *waiting = Waiting::default();
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
