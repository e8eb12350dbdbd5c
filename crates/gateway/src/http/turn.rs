//! One request that is whole in memory: the quick way, without waiting.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::head::{Parse, Parsed, parse};
use super::server::Server;
use super::{Answer, Called, Over, Plan, Request, Service, Source};
use crate::listener::ForwardedFor;

/// What a request came to.
pub(super) enum Turn {
    /// It is not all there.
    Partial,
    /// An answer, and how many bytes the request had.
    Answered { used: usize, answer: Answer, keep_alive: bool },
    /// An answer that takes a while.
    Later { used: usize, call: BoxFuture<'static, Answer>, keep_alive: bool },
    /// It is not this service's, or not for this server.
    NotOurs,
}

impl<S: Service> Server<S> {
    /// Answers the request that these bytes begin with, if it is whole.
    pub(super) fn turn(
        &self,
        input: &[u8],
        source: impl FnOnce(ForwardedFor<'_>) -> Source,
    ) -> Turn {
        let parsed = match parse(input) {
            Parse::Partial => return Turn::Partial,
            Parse::Other => return Turn::NotOurs,
            Parse::Bad(status, reason) => {
                let (used, answer) = (input.len(), self.refuse(status, reason));
                return Turn::Answered { used, answer, keep_alive: false };
            }
            Parse::Whole(parsed) => parsed,
        };
        let Parsed { head, len, keep_alive, .. } = parsed;
        if !self.service.claims(head.method, head.path) {
            return Turn::NotOurs;
        }
        let body = usize::try_from(head.content_length).ok().and_then(|length| {
            let end = len.checked_add(length)?;
            input.get(len..end)
        });
        let Some(body) = body else { return Turn::Partial };
        let used = len + body.len();
        let source = source(head.forwarded_for);
        let (max, over) = match self.service.plan(&head, &source) {
            Plan::Answer(answer) => return Turn::Answered { used, answer, keep_alive },
            Plan::Read(read) => (read.max, read.over),
        };
        let kept = body.len().min(max);
        let is_truncated = kept < body.len();
        if let (true, Over::Answer(answer)) = (is_truncated, over) {
            return Turn::Answered { used, answer, keep_alive };
        }
        let (kept, rest) = body.split_at(kept);
        let request = Request {
            head: &head,
            source,
            body: Bytes::copy_from_slice(kept),
            is_truncated,
            tail: Bytes::copy_from_slice(&rest[rest.len().saturating_sub(super::TAIL_BYTES_MAX)..]),
            // What is in the thread's buffer already is not worth a place in the budget.
            permit: None,
        };
        match self.service.call(request) {
            Called::Ready(answer) => Turn::Answered { used, answer, keep_alive },
            Called::Later(call) => Turn::Later { used, call, keep_alive },
        }
    }
}
