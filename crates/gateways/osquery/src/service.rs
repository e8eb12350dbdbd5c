//! The requests of osquery agents on the lean HTTP server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_codec_osquery::{Body, answer};
use muster_gateway::Permit;
use muster_gateway::http::{
    Answer, Called, Head, Over, Plan, Read, Request, Room, Service, Source,
};
use muster_types::Class;

use crate::auth::header_key;
use crate::refusal::Refusal;
use crate::route::{Endpoint, Route, route};
use crate::{Osquery, carve};

/// Bodies from here on are taken from the byte budget of all gateways, and are not read before their
/// header's key was judged.
const COUNTED_FROM: u64 = 16 << 10;

/// The osquery gateway as a service of [`muster_gateway::http`].
#[derive(Clone)]
pub struct OsqueryService(pub Arc<Osquery>);

/// A request that is worked on after the connection's buffer is gone.
pub(crate) struct Post {
    /// The key in the header.
    pub key: Option<String>,
    pub source: Source,
    pub is_gzip: bool,
    pub content_length: u64,
    pub body: Bytes,
    pub tail: Bytes,
    pub is_truncated: bool,
    /// Of an upload.
    pub is_block: bool,
    pub permit: Option<Permit>,
    /// Bytes that were taken from what its agent may send before it was read.
    pub paid: usize,
}

impl Post {
    fn new(request: Request<'_>) -> Self {
        let head = request.head;
        let endpoint = route(head.path).map(|route| route.endpoint);
        let is_paid = endpoint.is_some_and(|endpoint| paid_key(head, endpoint).is_some());
        let length = usize::try_from(head.content_length).unwrap_or(usize::MAX);
        Self {
            paid: if is_paid { length } else { 0 },
            key: header_key(head.authorization).map(str::to_owned),
            source: request.source,
            is_gzip: head.gzip_body,
            content_length: head.content_length,
            body: request.body,
            tail: request.tail,
            is_truncated: request.is_truncated,
            is_block: endpoint == Some(Endpoint::CarveBlock),
            permit: request.permit,
        }
    }

    /// The body as its parsers want it: unpacked, and cut where it is over the cap.
    pub(crate) fn body(&self, keep: usize, unpacked_max: u64) -> Body {
        if self.is_gzip {
            // Of a packed body that was cut the end is of no use.
            return Body::unpack(&self.body, keep, unpacked_max);
        }
        if self.is_truncated {
            let kept = (self.body.len() + self.tail.len()) as u64;
            let length = self.content_length.max(kept + 1);
            return Body::cut(self.body.clone(), self.tail.clone(), length);
        }
        Body::whole(self.body.clone())
    }
}

impl Service for OsqueryService {
    fn claims(&self, method: &str, path: &str) -> bool {
        method == "POST" && route(path).is_some()
    }

    fn plan(&self, head: &Head<'_>, source: &Source) -> Plan {
        let state = &*self.0;
        let Some(Route { endpoint, .. }) = route(head.path) else {
            return Plan::Answer(not_found());
        };
        let mut room = Room::Uncounted;
        if head.content_length >= COUNTED_FROM {
            room = Room::Strangers;
            if let Some(key) = paid_key(head, endpoint) {
                room = Room::Budget;
                if let Err(refusal) = state.prepay(head, endpoint, key, source) {
                    return Plan::Answer(refusal.answer());
                }
            }
        }
        let options = &state.options;
        // A log or an answer that is refused for its size comes for ever; the others are never large.
        let (max, over) = match endpoint {
            Endpoint::Log => (options.log_bytes_max, Over::Discard),
            Endpoint::Write => (options.write_bytes_max, Over::Discard),
            Endpoint::CarveBlock => (options.block_bytes_max, Over::Answer(carve::failed(413))),
            _ => (options.request_bytes_max, Over::Answer(too_large())),
        };
        Plan::Read(Read { max, over, room })
    }

    fn full(&self, head: &Head<'_>) -> Answer {
        match route(head.path).map(|route| route.endpoint) {
            Some(Endpoint::CarveBegin | Endpoint::CarveBlock) => carve::failed(503),
            _ => Refusal::later("busy", Duration::from_secs(5)).answer(),
        }
    }

    fn call(&self, request: Request<'_>) -> Called {
        let Some(Route { endpoint, environment }) = route(request.head.path) else {
            return Called::Ready(not_found());
        };
        let state = &self.0;
        match endpoint {
            Endpoint::Read => state.read(&request),
            Endpoint::Config => state.config(&request),
            Endpoint::Yara(name) => state.yara(&request, name),
            Endpoint::Enrol => {
                let environment = environment.map(str::to_owned);
                state.later(Post::new(request), |state, post| async move {
                    state.enrol(post, environment).await
                })
            }
            Endpoint::Log => {
                state.later(Post::new(request), |state, post| async move { state.log(post).await })
            }
            Endpoint::Write => state
                .later(Post::new(request), |state, post| async move { state.write(post).await }),
            Endpoint::CarveBegin => {
                let work = Arc::clone(state).carve_begin(Post::new(request));
                let state = Arc::clone(state);
                self.0.in_time_or(work, move |refusal| state.carve_refused(refusal))
            }
            Endpoint::CarveBlock => {
                let work = Arc::clone(state).carve_block(Post::new(request));
                let state = Arc::clone(state);
                self.0.in_time_or(work, move |refusal| state.block_refused(refusal))
            }
        }
    }
}

impl Osquery {
    /// Judges a large request by its head: whose it is, whether the stream takes any of its kind now, and
    /// whether its agent may send so much. What is refused here is not read.
    fn prepay(
        &self,
        head: &Head<'_>,
        endpoint: Endpoint<'_>,
        key: &str,
        source: &Source,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let caller = self.authenticate(Some(key), "", source.has_certificate, now)?;
        // What a log holds is known only when it is read.
        if endpoint == Endpoint::Write
            && let Err(retry_after) = self.admissions.has_room(Class::Collected)
        {
            return Err(Refusal::later("no room for answers now", retry_after));
        }
        let bytes = usize::try_from(head.content_length).unwrap_or(usize::MAX);
        let paid = self.admissions.pay(caller.node.agent, bytes);
        paid.map_err(|at_least| Refusal::later("this agent sends too much at once", at_least))
    }

    /// Work that takes a while, bounded in time: an agent that hears nothing sends everything again.
    fn later<F>(self: &Arc<Self>, post: Post, work: impl FnOnce(Arc<Self>, Post) -> F) -> Called
    where
        F: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        let work = work(Arc::clone(self), post);
        self.in_time(work)
    }

    /// The same for work that has all it needs.
    pub(crate) fn in_time(
        &self,
        work: impl Future<Output = Result<Answer, Refusal>> + Send + 'static,
    ) -> Called {
        self.in_time_or(work, Refusal::answer)
    }

    /// The same with refusals in terms of their own.
    fn in_time_or(
        &self,
        work: impl Future<Output = Result<Answer, Refusal>> + Send + 'static,
        refused: impl FnOnce(&Refusal) -> Answer + Send + 'static,
    ) -> Called {
        let time = self.options.time_max;
        Called::Later(Box::pin(async move {
            let done = tokio::time::timeout(time, work).await;
            let busy = || Refusal::later("the server is busy", Duration::from_secs(10));
            done.unwrap_or_else(|_| Err(busy())).unwrap_or_else(|refusal| refused(&refusal))
        }))
    }
}

/// The key of a request whose agent pays for it before it is read.
fn paid_key<'a>(head: &Head<'a>, endpoint: Endpoint<'_>) -> Option<&'a str> {
    let is_counted = head.content_length >= COUNTED_FROM && is_keyed(endpoint);
    header_key(head.authorization).filter(|_| is_counted)
}

/// Whether requests of this kind prove whose they are by a node key: a new agent has none yet, and
/// blocks of uploads have a session.
fn is_keyed(endpoint: Endpoint<'_>) -> bool {
    !matches!(endpoint, Endpoint::Enrol | Endpoint::CarveBlock)
}

fn not_found() -> Answer {
    Answer::new(404, answer::error("there is nothing here"))
}

fn too_large() -> Answer {
    Answer::new(413, answer::error("the request is too large"))
}
