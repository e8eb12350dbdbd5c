//! What a protocol of POSTing agents is to the HTTP server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::Permit;
use crate::listener::ForwardedFor;

/// Longest end of a body that is kept when the body is cut, see [`Request::tail`].
pub const TAIL_BYTES_MAX: usize = 4 << 10;

/// Answers the requests of one agent protocol.
///
/// For each request: [`claims`](Self::claims), then [`plan`](Self::plan) on the head alone, then,
/// unless the plan is an answer, [`call`](Self::call) with the body. None of the three may block, and
/// an idle poll should need nothing but `plan` and a ready `call`: it is answered where it was read,
/// without a task switch, and without memory that outlives it.
pub trait Service: Send + Sync + 'static {
    /// Whether a request is this protocol's. Others on the same connection go to who else shares the
    /// listener, see [`Protocol::serve`](crate::listener::Protocol::serve).
    fn claims(&self, method: &str, path: &str) -> bool;

    /// What to do about a request, by its head.
    fn plan(&self, head: &Head<'_>, source: &Source) -> Plan;

    /// Answers a request. What the answer needs of the request for later it copies out.
    fn call(&self, request: Request<'_>) -> Called;

    /// How an error of the HTTP layer is worded: something that the agents take for a failure they
    /// repeat, if they can. The reason is a short phrase without quotes.
    fn refuse(&self, status: u16, reason: &'static str) -> Answer {
        Answer::new(status, Bytes::from(format!("{{\"error\":\"{reason}\"}}")))
    }

    /// The answer to a request for whose body there is no room now.
    fn full(&self, head: &Head<'_>) -> Answer {
        let _ = head;
        self.refuse(503, "busy")
    }
}

/// A request's head, as far as agents use it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `POST`, mostly.
    pub method: &'a str,
    /// The target up to the question mark, as it was sent.
    pub path: &'a str,
    /// What comes after the question mark.
    pub query: Option<&'a str>,
    /// The value of `Authorization`, when it is text.
    pub authorization: Option<&'a str>,
    /// Bytes of the body as they are sent; for [`Service::plan`] the most there is when that is not
    /// known yet.
    pub content_length: u64,
    /// Whether the body is gzip.
    pub gzip_body: bool,
    /// Whether the answer may be gzip.
    pub accepts_gzip: bool,
    /// The lines of `X-Forwarded-For`. Whether they count was decided: [`Source::address`].
    pub forwarded_for: ForwardedFor<'a>,
    /// The value of `User-Agent`, when it is text.
    pub user_agent: Option<&'a str>,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The agent's address, as far as it is known: a trusted proxy's `X-Forwarded-For`, or the peer.
    pub address: IpAddr,
    /// Who opened the connection, or for whom a balancer passed it on.
    pub peer: SocketAddr,
    /// Whether it presented a client certificate, which the TLS configuration found good.
    pub has_certificate: bool,
}

/// What to do about a request.
#[derive(Debug)]
pub enum Plan {
    /// Read the body, then call.
    Read(Read),
    /// Answer; the body is not wanted. A small one is read and forgotten, after a large one the
    /// connection is closed.
    Answer(Answer),
}

/// How a body is read.
#[derive(Debug)]
pub struct Read {
    /// Most bytes of it, as sent, that are kept.
    pub max: usize,
    /// When there are more.
    pub over: Over,
    /// Whether the bytes kept are taken from the byte budget of all gateways, as they arrive. When
    /// there are none the answer is 503. For bodies that may be large.
    pub room: Room,
}

/// Where the room for a body comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is too small to be counted.
    Uncounted,
    /// The byte budget: its sender is known.
    Budget,
    /// The strangers' part of the byte budget: nobody knows yet who sends it.
    Strangers,
}

/// What becomes of a body that is too large.
#[derive(Debug)]
pub enum Over {
    /// The first bytes are kept, the rest is read and forgotten but for its end:
    /// [`Request::is_truncated`].
    Discard,
    /// It is not read, and this is the answer.
    Answer(Answer),
}

/// A request with its body.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its head.
    pub head: &'a Head<'a>,
    /// Where it came from.
    pub source: Source,
    /// The body as sent, at most [`Read::max`] bytes.
    pub body: Bytes,
    /// Whether the body was longer.
    pub is_truncated: bool,
    /// The last bytes of a longer body, at most [`TAIL_BYTES_MAX`] and none that `body` has: agents
    /// send their key last.
    pub tail: Bytes,
    /// The body's bytes in the budget; held until they are stored or forgotten.
    pub permit: Option<Permit>,
}

/// The result of a call.
pub enum Called {
    /// An answer without waiting.
    Ready(Answer),
    /// It takes a while. The service bounds it in time: agents wait 16 s for all of a request.
    Later(BoxFuture<'static, Answer>),
}

/// What is told that an answer left: `true` once all of it is handed to the kernel, `false` when it
/// could not be. Called exactly once.
pub type After = Box<dyn FnOnce(bool) + Send>;

/// An answer.
pub struct Answer {
    /// 200 for everything agents like.
    pub status: u16,
    /// Its body; what is the same for all is shared, not copied.
    pub body: Bytes,
    /// `application/json` unless said otherwise.
    pub content_type: &'static str,
    /// Whether the body is gzip.
    pub is_gzip: bool,
    /// Whether the connection ends with it.
    pub close: bool,
    /// When to come again, for proxies and people.
    pub retry_after: Option<Duration>,
    /// Told once it is written, or cannot be.
    pub after: Option<After>,
}

impl Answer {
    /// With this status and JSON.
    #[must_use]
    pub fn new(status: u16, body: Bytes) -> Self {
        Self {
            status,
            body,
            content_type: "application/json",
            is_gzip: false,
            close: false,
            retry_after: None,
            after: None,
        }
    }

    /// 200 with JSON.
    #[must_use]
    pub fn ok(body: Bytes) -> Self {
        Self::new(200, body)
    }

    /// The same, and somebody is told once it left.
    #[must_use]
    pub fn and_then(self, after: impl FnOnce(bool) + Send + 'static) -> Self {
        Self { after: Some(Box::new(after)), ..self }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, body, close, .. } = self;
        write!(f, "Answer({status}, {} bytes, close: {close})", body.len())
    }
}
