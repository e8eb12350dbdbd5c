//! One connection: requests one after the other.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::idle::Idle;
use super::scratch::{self, Scratch};
use super::server::Server;
use super::turn::Turn;
use super::write::{Outgoing, encode, farewell, write};
use super::{Answer, Service, Source};
use crate::Metrics;
use crate::listener::{ForwardedFor, Opened, Opening, Shutdown, Wire};

/// A connection with what every request on it needs; small, because most of them idle.
pub(super) struct Connection<S> {
    pub(super) server: Arc<Server<S>>,
    pub(super) io: Wire,
    pub(super) opening: Option<Opening>,
    peer: SocketAddr,
    has_certificate: bool,
    shutdown: Shutdown,
    pub(super) metrics: Arc<Metrics>,
    /// Read and not used yet.
    rest: BytesMut,
}

/// What to do next.
pub(super) enum Step {
    /// Read the rest of a request that begins with these bytes.
    Gather(BytesMut),
    /// Write an answer.
    Answer(Answer, KeepAlive),
    /// Wait for an answer, then write it.
    Later(BoxFuture<'static, Answer>, KeepAlive),
    /// Write what the socket did not take at once.
    Write(Outgoing),
    /// Give the connection back to the listener, with this unread.
    GiveBack(BytesMut),
    /// The last answer is written.
    Close,
    /// Nothing to say any more.
    End,
    /// The other side left.
    Gone,
}

/// Whether the client would send another request.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive(pub(super) bool);

impl<S: Service> Connection<S> {
    pub(super) fn new(server: Arc<Server<S>>, opened: Opened) -> Self {
        let Opened { io, first, peer, shutdown, metrics, opening } = opened;
        let has_certificate = io.has_certificate();
        Self { server, io, opening, peer, has_certificate, shutdown, metrics, rest: first }
    }

    /// Serves requests until the connection ends, or until one is not ours.
    ///
    /// Everything that is needed only now and then is in a box of its own, so that what is left while
    /// it idles is small.
    pub(super) async fn run(mut self) -> Option<Opened> {
        let idle_timeout = self.server.options.idle_timeout;
        let mut idle = Idle::new(&self.shutdown, idle_timeout);
        loop {
            let mut step = poll_fn(|cx| self.poll_next(cx, &mut idle)).await;
            if let Step::Gather(begun) = step {
                step = Box::pin(self.gather_in_time(begun)).await;
            }
            let outgoing = match step {
                Step::Answer(answer, keep_alive) => self.outgoing(answer, keep_alive),
                Step::Later(call, keep_alive) => {
                    let answer = call.await;
                    self.outgoing(answer, keep_alive)
                }
                Step::Write(outgoing) => outgoing,
                Step::GiveBack(first) => return Some(self.give_back(first)),
                Step::Close => break Box::pin(farewell(&mut self.io, true)).await,
                Step::End => break Box::pin(farewell(&mut self.io, false)).await,
                Step::Gather(_) | Step::Gone => break,
            };
            let (close, time) = (outgoing.close, self.server.options.request_timeout);
            let written = timeout(time, Box::pin(write(&mut self.io, outgoing))).await;
            match written {
                Ok(Ok(())) if close => break Box::pin(farewell(&mut self.io, true)).await,
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        None
    }

    /// Answers all that can be answered at once, and says what else to do when something else is.
    fn poll_next(&mut self, cx: &mut Context<'_>, idle: &mut Idle) -> Poll<Step> {
        scratch::with(|Scratch { input, output }| {
            if !self.rest.is_empty() {
                let rest = std::mem::take(&mut self.rest);
                if let Some(step) = self.answer_all(cx, &rest, output) {
                    return Poll::Ready(step);
                }
            }
            loop {
                let mut buffer = ReadBuf::new(input);
                match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(Step::Gone),
                    Poll::Pending => return idle.poll_over(cx).map(|()| Step::End),
                }
                idle.was_busy();
                if let Some(step) = self.answer_all(cx, buffer.filled(), output) {
                    return Poll::Ready(step);
                }
            }
        })
    }

    /// Answers the requests that are whole in `input`, each before the next is looked at; `None` when
    /// that was all.
    fn answer_all(
        &mut self,
        cx: &mut Context<'_>,
        mut input: &[u8],
        output: &mut Vec<u8>,
    ) -> Option<Step> {
        while !input.is_empty() {
            let turn = self.server.turn(input, |forwarded_for| self.source(forwarded_for));
            let (used, answer, keep_alive) = match turn {
                Turn::Partial => return Some(Step::Gather(input.into())),
                Turn::NotOurs => return Some(Step::GiveBack(input.into())),
                Turn::Later { used, call, keep_alive } => {
                    self.opening = None;
                    self.rest = input[used..].into();
                    return Some(Step::Later(call, KeepAlive(keep_alive)));
                }
                Turn::Answered { used, answer, keep_alive } => (used, answer, keep_alive),
            };
            self.opening = None;
            input = &input[used..];
            output.clear();
            let close = self.closes(&answer, KeepAlive(keep_alive));
            self.metrics.requests.inc();
            let (body, told) = encode(output, answer, close);
            let Ok(sent) = self.write_now(cx, output, &body) else { return Some(Step::Gone) };
            let Some(sent) = sent else {
                told.written();
                if close {
                    return Some(Step::Close);
                }
                continue;
            };
            self.rest = input.into();
            let bytes = output[sent..].to_vec();
            return Some(Step::Write(Outgoing { bytes, body, told, close }));
        }
        None
    }

    /// Writes as much as goes without waiting: how much of `output` that was, or `None` when it was
    /// everything.
    fn write_now(
        &mut self,
        cx: &mut Context<'_>,
        output: &[u8],
        body: &Bytes,
    ) -> Result<Option<usize>, ()> {
        let (mut io, mut sent) = (Pin::new(&mut self.io), 0);
        while sent < output.len() {
            match io.as_mut().poll_write(cx, &output[sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => sent += n,
                Poll::Ready(_) => return Err(()),
                Poll::Pending => return Ok(Some(sent)),
            }
        }
        match io.as_mut().poll_flush(cx) {
            Poll::Ready(Ok(())) if body.is_empty() => Ok(None),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(Some(sent)),
            Poll::Ready(Err(_)) => Err(()),
        }
    }

    async fn gather_in_time(&mut self, begun: BytesMut) -> Step {
        let time = self.server.options.request_timeout;
        let gathered = timeout(time, self.gather(begun)).await;
        gathered.unwrap_or_else(|_| self.late())
    }

    pub(super) fn late(&self) -> Step {
        self.metrics.requests_late.inc();
        Step::Answer(self.server.refuse(408, "request took too long"), KeepAlive(false))
    }

    pub(super) fn source(&self, forwarded_for: ForwardedFor<'_>) -> Source {
        let Self { peer, has_certificate, server, .. } = self;
        let address = server.options.front.proxies.client(peer.ip(), forwarded_for.newest_first());
        Source { address, peer: *peer, has_certificate: *has_certificate }
    }

    pub(super) fn keep(&mut self, rest: BytesMut) {
        self.rest = rest;
    }

    fn closes(&self, answer: &Answer, keep_alive: KeepAlive) -> bool {
        answer.close || !keep_alive.0 || self.shutdown.is_begun()
    }

    fn outgoing(&self, answer: Answer, keep_alive: KeepAlive) -> Outgoing {
        let close = self.closes(&answer, keep_alive);
        self.metrics.requests.inc();
        let mut bytes = Vec::with_capacity(256);
        let (body, told) = encode(&mut bytes, answer, close);
        Outgoing { bytes, body, told, close }
    }

    fn give_back(self, first: BytesMut) -> Opened {
        let Self { io, opening, peer, shutdown, metrics, .. } = self;
        Opened { io, first, peer, shutdown, metrics, opening }
    }
}
