//! A link that is up: batches go out, acknowledgements and tasks come in.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use muster_codec_native::{LinkLimits, Rekey, ServerFrame, StreamSeq};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::tasks::Order;

use super::{Error, Heard, Link, hear, say};

/// How a link ended well.
#[derive(Debug)]
pub(crate) enum Closed {
    /// We were told to stop.
    Shutdown,
    /// The server closed it.
    Server,
    /// The server asked to come again after this time.
    RetryAfter(Duration, String),
    /// This machine is a copy of another.
    Rekey(Rekey),
}

/// One link.
pub(crate) struct Session<'a> {
    pub(crate) buffer: &'a Buffer,
    pub(crate) orders: &'a mpsc::Sender<Order>,
    pub(crate) limits: LinkLimits,
}

impl Session<'_> {
    /// Holds the link until it ends, one way or another. The CAs that the server names go to `cas`.
    pub(crate) async fn run(
        &self,
        link: Link,
        shutdown: &CancellationToken,
        cas: impl FnMut(&str),
    ) -> Result<Closed, Error> {
        let (mut out, mut input) = link.split();
        let acked = watch::Sender::new(0u64);
        let heard = tokio::select! {
            heard = self.listen(&mut input, &acked, cas) => heard,
            sent = self.send(&mut out, acked.subscribe()) => match sent {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
            () = shutdown.cancelled() => Ok(Closed::Shutdown),
        };
        if heard.is_ok() {
            // Politeness with a limit.
            let _ = tokio::time::timeout(Duration::from_secs(1), out.close()).await;
        }
        heard
    }

    async fn listen(
        &self,
        input: &mut SplitStream<Link>,
        acked: &watch::Sender<u64>,
        mut cas: impl FnMut(&str),
    ) -> Result<Closed, Error> {
        // The server pings; three missed ones are its end.
        let interval = Duration::from_millis(u64::from(self.limits.ping_interval_ms)).max(MIN_PING);
        let patience = interval * 3;
        loop {
            let heard = tokio::time::timeout(patience, hear(input)).await;
            let frame = match heard.map_err(|_| Error::Silent(patience.as_secs()))?? {
                Heard::Frame(frame) => frame,
                Heard::Life => continue,
                Heard::Closed => return Ok(Closed::Server),
            };
            match frame {
                ServerFrame::Ack(ack) => {
                    self.buffer.ack(StreamSeq { stream: ack.stream, seq: ack.seq })?;
                    acked.send_replace(ack.seq);
                }
                ServerFrame::Task(task) => self.order(Order::Run(task)).await?,
                ServerFrame::Cancel(cancel) => self.order(Order::Cancel(cancel.task)).await?,
                ServerFrame::Nack(nack) => {
                    let wait = Duration::from_millis(nack.retry_after_ms);
                    return Ok(Closed::RetryAfter(wait, "results not taken now".to_owned()));
                }
                ServerFrame::Bye(bye) => {
                    let wait = Duration::from_millis(bye.retry_after_ms);
                    return Ok(Closed::RetryAfter(wait, bye.reason));
                }
                ServerFrame::Cas(told) => cas(&told.server_cas),
                ServerFrame::Rekey(rekey) => return Ok(Closed::Rekey(rekey)),
                ServerFrame::Challenge(_) | ServerFrame::Welcome(_) => {
                    return Err(Error::Protocol("greeted twice"));
                }
            }
        }
    }

    async fn order(&self, order: Order) -> Result<(), Error> {
        self.orders.send(order).await.map_err(|_| Error::Protocol("the agent is stopping"))
    }

    /// Sends what waits, in order, no more than the server wants at a time.
    async fn send(
        &self,
        out: &mut SplitSink<Link, Message>,
        mut acked: watch::Receiver<u64>,
    ) -> Result<std::convert::Infallible, Error> {
        let mut changes = self.buffer.changes();
        let window = u64::from(self.limits.batches_in_flight.max(1));
        let mut sent: Option<StreamSeq> = None;
        let mut base = self.buffer.first_waiting().map_or(0, |first| first.seq - 1);
        loop {
            changes.mark_unchanged();
            let upto = *acked.borrow_and_update();
            base = base.max(upto);
            let in_flight = sent.map_or(0, |sent| sent.seq.saturating_sub(base));
            let next = if in_flight < window { self.buffer.next(sent)? } else { None };
            if let Some((at, frame)) = next {
                say(out, frame).await?;
                // The first number of a buffer that was empty until now.
                if sent.is_none() {
                    base = base.max(at.seq - 1);
                }
                sent = Some(at);
                continue;
            }
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Error::Protocol("the agent is stopping"))?;
                }
                changed = acked.changed() => {
                    changed.map_err(|_| Error::Protocol("the agent is stopping"))?;
                }
            }
        }
    }
}

/// Against a server that names no interval, or one of its typing errors.
const MIN_PING: Duration = Duration::from_secs(5);
