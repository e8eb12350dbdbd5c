//! A request that did not come in one piece: the slow way, in its time.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::{self, CHUNK_BYTES, Trouble};
use super::connection::{Connection, KeepAlive, Step};
use super::head::{Parse, Parsed, parse};
use super::meter::Meter;
use super::{Answer, Called, Head, Over, Plan, Read, Request, Room, Service};
use crate::Refusal;

/// A body that is not wanted is read up to this, so that the connection can be kept.
const SKIPPED_BYTES_MAX: u64 = 64 << 10;

impl<S: Service> Connection<S> {
    /// Reads a request that begins with these bytes and has the service answer it.
    pub(super) async fn gather(&mut self, mut read: BytesMut) -> Step {
        let len = loop {
            match parse(&read) {
                Parse::Partial => {}
                Parse::Other => return Step::GiveBack(read),
                Parse::Bad(status, reason) => {
                    return Step::Answer(self.server.refuse(status, reason), KeepAlive(false));
                }
                Parse::Whole(Parsed { head, .. })
                    if !self.server.service.claims(head.method, head.path) =>
                {
                    return Step::GiveBack(read);
                }
                Parse::Whole(Parsed { len, .. }) => break len,
            }
            read.reserve(1024);
            if !matches!(self.io.read_buf(&mut read).await, Ok(1..)) {
                return Step::Gone;
            }
        };
        self.opening = None;
        let head = read.split_to(len).freeze();
        let Parse::Whole(parsed) = parse(&head) else { return Step::Gone };
        self.with_head(&parsed, read).await
    }

    async fn with_head(&mut self, parsed: &Parsed<'_>, rest: BytesMut) -> Step {
        let Parsed { head, expects_continue, keep_alive, .. } = parsed;
        let source = self.source(head.forwarded_for);
        let Read { max, over, room } = match self.server.service.plan(head, &source) {
            Plan::Read(read) => read,
            Plan::Answer(answer) => return self.unread(parsed, rest, answer).await,
        };
        if let (true, Over::Answer(answer)) = (head.content_length > max as u64, over) {
            return self.unread(parsed, rest, answer).await;
        }
        let kept = usize::try_from(head.content_length).unwrap_or(usize::MAX).min(max);
        let mut meter = Meter::new(room, &self.server.budget);
        // Who asks before it sends is told to only when its beginning has room.
        if meter.hold(kept.min(CHUNK_BYTES)).is_err() {
            return self.full(head);
        }
        if *expects_continue && rest.is_empty() && !self.say_continue().await {
            return Step::Gone;
        }
        let mut rest = rest;
        let (io, length) = (&mut self.io, head.content_length);
        let collected = match body::collect(io, &mut rest, length, max, &mut meter).await {
            Ok(collected) => collected,
            Err(Trouble::Full) => return self.full(head),
            Err(Trouble::Stalled) => return self.late(),
            Err(Trouble::Gone) => return Step::Gone,
        };
        self.keep(rest);
        let (body, tail) = (collected.body, collected.tail);
        let (is_truncated, permit) = (collected.is_truncated, meter.into_permit());
        let request = Request { head, source, body, is_truncated, tail, permit };
        match self.server.service.call(request) {
            Called::Ready(answer) => Step::Answer(answer, KeepAlive(*keep_alive)),
            Called::Later(call) => Step::Later(call, KeepAlive(*keep_alive)),
        }
    }

    /// Answers without the body: a small one is skipped, otherwise the connection ends.
    async fn unread(&mut self, parsed: &Parsed<'_>, mut rest: BytesMut, answer: Answer) -> Step {
        let Parsed { head, expects_continue, keep_alive, .. } = parsed;
        // A client that asks before it sends may send or not after this answer: nobody can tell.
        if *expects_continue || head.content_length > SKIPPED_BYTES_MAX {
            return Step::Answer(answer, KeepAlive(false));
        }
        let mut meter = Meter::new(Room::Uncounted, &self.server.budget);
        let (io, length) = (&mut self.io, head.content_length);
        match body::collect(io, &mut rest, length, 0, &mut meter).await {
            Ok(_) => {
                self.keep(rest);
                Step::Answer(answer, KeepAlive(*keep_alive))
            }
            Err(Trouble::Stalled) => self.late(),
            Err(Trouble::Gone | Trouble::Full) => Step::Gone,
        }
    }

    fn full(&self, head: &Head<'_>) -> Step {
        self.metrics.refused(Refusal::Budget);
        Step::Answer(self.server.full(head), KeepAlive(false))
    }

    async fn say_continue(&mut self) -> bool {
        let said = self.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        said.is_ok() && self.io.flush().await.is_ok()
    }
}
