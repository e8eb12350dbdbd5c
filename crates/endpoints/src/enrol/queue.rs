//! Many enrolments in one transaction.
//!
//! Every enrolment locks the row of the feed until it is on disk, so alone each costs a commit while all
//! others wait: with a fleet that is rolled out at once, that wait is nearly all of the time. Here those who
//! come while a transaction runs share the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use muster_catalog::{Catalog, Error};
use muster_types::{AgentNo, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::node::{self, EnrolNode, LastHeard, NodeEnrolled};
use super::{Asked, Done, Enrol, EnrolError, Enrolled, Granted, alone, together};

/// Enrolments in one transaction, at most.
const TOGETHER: usize = 32;
/// Enrolments that wait, some seconds' worth; one more is told to come again.
const WAITING_MAX: usize = 1024;

/// Enrols agents for the gateways of an instance, those that come at once together.
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
    /// [`EnrolError`]; that the catalog is unavailable when too many wait.
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
        {
            let mut waiting = self.waiting.lock();
            if waiting.jobs.len() >= WAITING_MAX {
                return Err(unavailable("too many enrolments wait for it").into());
            }
            waiting.jobs.push_back(Job { asked, answer });
            if !waiting.is_served {
                waiting.is_served = true;
                let server = Server { waiting: Arc::clone(&self.waiting), serves: true };
                tokio::spawn(server.serve(self.catalog.clone()));
            }
        }
        answered.await.unwrap_or_else(|_| Err(unavailable("the enrolment was cut off").into()))
    }
}

fn unavailable(why: &str) -> Error {
    Error::Unavailable(why.to_owned())
}

/// Takes from the queue until nothing waits.
struct Server {
    waiting: Arc<Mutex<Waiting>>,
    serves: bool,
}

impl Server {
    async fn serve(mut self, catalog: Catalog) {
        while let Some((all, answers)) = self.next() {
            match together(&catalog, &all).await {
                Ok(done) => {
                    let mut jobs = all.into_iter().zip(answers);
                    for (done, (_, answer)) in done.into_iter().zip(&mut jobs) {
                        tell(answer, done);
                    }
                    self.put_back(jobs.map(|(asked, answer)| Job { asked, answer }));
                }
                // It would not go better for one of them; nor for those behind, who have waited as long.
                Err(error @ Error::Unavailable(_)) => {
                    let behind = std::mem::take(&mut self.waiting.lock().jobs);
                    let behind = behind.into_iter().map(|job| job.answer);
                    for answer in answers.into_iter().chain(behind) {
                        tell(answer, Err(error.clone().into()));
                    }
                }
                // Somebody was in the way of one of them, or one cannot be stored: that is no other's fault.
                Err(_) => {
                    for (asked, answer) in all.iter().zip(answers) {
                        tell(answer, alone(&catalog, asked).await);
                    }
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
    fn next(&mut self) -> Option<(Vec<Asked>, Vec<Answer>)> {
        let mut waiting = self.waiting.lock();
        let (mut all, mut answers) = (Vec::new(), Vec::new());
        while all.len() < TOGETHER
            && let Some(job) = waiting.jobs.pop_front()
        {
            if !job.answer.is_closed() {
                all.push(job.asked);
                answers.push(job.answer);
            }
        }
        self.serves = !all.is_empty();
        (waiting.is_served, waiting.served) = (self.serves, all.len());
        self.serves.then_some((all, answers))
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
