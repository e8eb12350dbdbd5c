//! The link at work: tasks down, batches up, acknowledgements down.
//!
//! One task per connection does it all. Batches are appended one group at a time: while a group is
//! on its way to the disk the next ones gather, up to a bound, and go together. So batches of one
//! agent never overtake each other, and a group needs one acknowledgement. One that cannot be stored now
//! is tried again for a while; one that is refused then ends the link before a later one is tried.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use muster_codec_native::{Ack, AgentFrame, Batch, Nack, ServerFrame};
use muster_gateway::{
    Admission, AgentRef, CloseReason, Message, Next, Permit, Push, Refused, Registered, Session,
};
use muster_types::{Class, Fact, TaskId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::End;
use super::auth::rekey;
use super::trust::{News, Trust};
use super::wire::Wire;
use crate::NativeState;
use crate::ws::{Event, Gate, Out, Trouble};

/// Silent for so many pings, an agent is gone.
const MISSED_MAX: u8 = 2;

/// An agent that is said to be on another instance too is not read for so long at most: a copy would use
/// up numbers of the agent it was made from, whose own batches would be taken for repeats.
const HELD_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether that is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a group of batches leaves to be done when it is durable.
struct Appended {
    acks: Vec<Ack>,
    ended: Vec<TaskId>,
}

type Appending = Pin<Box<dyn Future<Output = Result<Appended, Refused>> + Send>>;

/// A batch that waits for its turn.
struct Pending {
    message: Message,
    ack: Ack,
    ended: Vec<TaskId>,
    permits: Vec<Permit>,
}

struct Pump<'a> {
    session: &'a Arc<Session>,
    state: &'a Arc<NativeState>,
    pending: Vec<Pending>,
    appending: Option<Appending>,
    /// Until then the agent may prove to be a copy, and nothing is read.
    held_until: Option<Instant>,
    trust: Trust,
    missed: u8,
    heard: bool,
}

/// Takes the process-wide byte budget before a batch is read.
struct Budgeted<'a> {
    state: &'a NativeState,
    agent: AgentRef,
}

impl Gate for Budgeted<'_> {
    async fn admit(&self, bytes: usize) -> Result<Option<Permit>, Trouble> {
        // The class is not known before the bytes are; rows are what matters.
        let admitted = self.state.admissions.wait(self.agent.no, Class::Collected, bytes).await;
        admitted.map(Some).map_err(|verdict| match verdict {
            Admission::Refuse { retry_after } => Trouble::Refused { retry_after },
            _ => Trouble::Oversize(bytes as u64),
        })
    }
}

/// Serves the link until it ends.
pub(super) async fn run<Io>(
    wire: &mut Wire<Io>,
    registered: &Registered,
    trust: Trust,
    state: &Arc<NativeState>,
) -> End
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = registered.session();
    let line: Arc<dyn muster_gateway::Line> = wire.line().clone();
    session.attach(&line);
    drop(line);
    state.delivery.connected(session);
    let elsewhere = state.presence.is_elsewhere(session.agent.no);
    let mut pump = Pump {
        session,
        state,
        pending: Vec::new(),
        appending: None,
        held_until: elsewhere.then(|| Instant::now() + HELD_MAX),
        trust,
        missed: 0,
        heard: false,
    };
    match pump.serve(wire).await {
        Err(end) => {
            if let End::Trouble(Trouble::Refused { retry_after }) = &end {
                pump.nack(wire, *retry_after).await;
            }
            end
        }
        Ok(never) => match never {},
    }
}

impl Pump<'_> {
    async fn serve<Io>(&mut self, wire: &mut Wire<Io>) -> Result<std::convert::Infallible, End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let gate = Budgeted { state: self.state, agent: self.session.agent };
        // One timer for as long as the link lives: a new one for each thing that happens would cost
        // more than what happens.
        let mut look_at = std::pin::pin!(sleep_until(self.next_look()));
        loop {
            let room = self.held_until.is_none()
                && self.pending.len() < self.state.options.batches_in_flight;
            tokio::select! {
                biased;
                next = self.session.next() => self.push(wire, next).await?,
                done = appended(&mut self.appending) => self.settle(wire, done).await?,
                event = wire.next(&gate), if room => self.take(wire, event?).await?,
                () = look_at.as_mut() => {
                    // While a batch is being read or waits for us, it is not the agent that is silent.
                    self.tell_cas(wire).await?;
                    if room && !wire.is_reading() {
                        self.ping(wire).await?;
                    }
                    self.let_go();
                    look_at.as_mut().reset(self.next_look());
                }
            }
        }
    }

    /// Down: tasks, cancels, probes, or the end.
    async fn push<Io>(&mut self, wire: &mut Wire<Io>, next: Next) -> Result<(), End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let pushes = match next {
            Next::Close(CloseReason::Slow) => return Err(End::Slow),
            Next::Close(CloseReason::Elsewhere) => return Err(End::Elsewhere),
            Next::Close(CloseReason::Copied) => {
                let agent = self.session.agent.no;
                tracing::warn!(
                    %agent,
                    "a copy of an agent that is connected to another instance; it is told to enrol as a new one"
                );
                let gate = Budgeted { state: self.state, agent: self.session.agent };
                // Boxed: few links come to this.
                Box::pin(rekey(wire, agent, &gate, self.state)).await?;
                return Err(End::Left);
            }
            Next::Close(reason) => return Err(End::Closed(closed(reason))),
            Next::Write(pushes) => pushes,
        };
        let mut out = Out::default();
        for push in &pushes {
            match push {
                Push::Task { bytes, .. } | Push::Cancel { bytes, .. } => out.message(bytes),
                Push::Probe => out.ping(),
                // Begun on the line, which has the rest of it; counted there.
                Push::Rest { .. } => {}
            }
        }
        let begun = pushes.iter().filter(|push| matches!(push, Push::Rest { .. })).count();
        self.state.metrics.frames_out.add((pushes.len() - begun) as u64);
        wire.write(&out, self.state).await?;
        self.state.delivery.written(self.session, &pushes);
        Ok(())
    }

    /// Up: one thing the agent sent.
    async fn take<Io>(&mut self, wire: &mut Wire<Io>, event: Event) -> Result<(), End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        self.missed = 0;
        self.heard = true;
        self.session.heard();
        match event {
            Event::Close => Err(End::Left),
            Event::Pong => Ok(()),
            Event::Ping(content) => {
                let mut out = Out::default();
                out.pong(&content);
                wire.write(&out, self.state).await
            }
            Event::Message(bytes, permits) => {
                self.state.metrics.frames_in.inc();
                self.state.metrics.bytes_in.add(bytes.len() as u64);
                match AgentFrame::decode(bytes.clone())? {
                    Some(AgentFrame::Batch(batch)) => {
                        self.pending.push(self.pend(&batch, bytes, permits));
                        self.append();
                    }
                    Some(AgentFrame::Hello(_)) => return Err(End::Closed("a second hello")),
                    Some(AgentFrame::Pong) | None => {}
                }
                Ok(())
            }
        }
    }

    fn pend(&self, batch: &Batch, payload: bytes::Bytes, permits: Vec<Permit>) -> Pending {
        let ended = batch.items.iter().filter_map(|item| match item {
            Fact::End(end) => Some(end.task),
            _ => None,
        });
        Pending {
            message: Message {
                class: class_of(batch),
                received_at: self.state.clock.now(),
                payload,
            },
            ack: Ack { stream: batch.stream, seq: batch.seq },
            ended: ended.collect(),
            permits,
        }
    }

    /// It is read when its time is over, or the agent is known to have left where it was.
    fn let_go(&mut self) {
        let elsewhere = self.state.presence.is_elsewhere(self.session.agent.no);
        self.held_until = self.held_until.filter(|until| elsewhere && *until > Instant::now());
    }

    /// Sends what has gathered on its way, unless a group is under way.
    fn append(&mut self) {
        if self.appending.is_some() || self.pending.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.pending);
        let (ingest, agent) = (self.state.ingest.clone(), self.session.agent);
        let patience = self.state.options.append_patience;
        let admissions = self.state.admissions.clone();
        self.appending = Some(Box::pin(async move {
            let mut done = Appended { acks: Vec::new(), ended: Vec::new() };
            let mut messages = Vec::with_capacity(group.len());
            let mut budget = Vec::with_capacity(group.len());
            for Pending { message, ack, ended, permits } in group {
                messages.push(message);
                budget.push(permits);
                done.ended.extend(ended);
                match done.acks.last_mut() {
                    Some(last) if last.stream == ack.stream => *last = ack,
                    _ => done.acks.push(ack),
                }
            }
            let may_wait = || admissions.is_half_free();
            ingest.append_patiently(agent, messages, patience, may_wait).await?;
            drop(budget);
            Ok(done)
        }));
    }

    /// A group is durable, or refused: then the link ends before anything later is tried.
    async fn settle<Io>(
        &mut self,
        wire: &mut Wire<Io>,
        done: Result<Appended, Refused>,
    ) -> Result<(), End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let done = match done {
            Ok(done) => done,
            Err(refused) => {
                tracing::debug!(agent = %self.session.agent.no, %refused, "batch refused");
                return Err(Trouble::Refused { retry_after: refused.retry_after() }.into());
            }
        };
        self.append();
        let mut out = Out::default();
        for ack in &done.acks {
            out.message(&ServerFrame::from(*ack).encode()?);
        }
        self.state.metrics.frames_out.add(done.acks.len() as u64);
        self.state.delivery.ended(self.session, &done.ended);
        wire.write(&out, self.state).await
    }

    /// What has changed about the CAs goes with the pings: not to all agents in the same moment.
    async fn tell_cas<Io>(&mut self, wire: &mut Wire<Io>) -> Result<(), End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        match self.trust.news(self.state) {
            News::None => Ok(()),
            // Boxed: it happens once in years.
            News::Told(frame) => Box::pin(wire.send(frame, self.state)).await,
            News::Outdated => Err(End::Closed("the CAs have changed; connect again")),
        }
    }

    async fn ping<Io>(&mut self, wire: &mut Wire<Io>) -> Result<(), End>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        // Whoever was heard of since the last time is alive without being asked.
        if std::mem::take(&mut self.heard) {
            return Ok(());
        }
        if self.missed >= MISSED_MAX {
            return Err(End::Slow);
        }
        self.missed += 1;
        let mut out = Out::default();
        out.ping();
        wire.write(&out, self.state).await
    }

    /// When to look after the agent again.
    fn next_look(&self) -> Instant {
        if self.held_until.is_some() {
            return Instant::now() + LOOK_EVERY;
        }
        let interval = self.state.options.ping_interval;
        Instant::now() + interval * 4 / 5 + self.state.jitter(interval * 2 / 5)
    }

    async fn nack<Io>(&mut self, wire: &mut Wire<Io>, retry_after: Duration)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        // Spread, or all agents come back at the same moment.
        let retry_after = retry_after + self.state.jitter(retry_after);
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let _ = wire.send(Nack { retry_after_ms }.into(), self.state).await;
    }
}

/// Waits for the group under way; for ever when there is none.
///
/// # Cancel safety
/// Safe: the group stays where it is.
async fn appended(appending: &mut Option<Appending>) -> Result<Appended, Refused> {
    let Some(group) = appending else { return std::future::pending().await };
    let done = group.await;
    *appending = None;
    done
}

fn closed(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Replaced => "this agent opened a newer link",
        CloseReason::Slow => "too slow",
        CloseReason::Revoked => "this agent was blocked or removed by an administrator",
        CloseReason::Copied => "a copy of another agent",
        CloseReason::Shutdown | CloseReason::Elsewhere => "the server goes away",
    }
}

/// Rows decide; a batch of ends alone is precious.
fn class_of(batch: &Batch) -> Class {
    let class = |item: &Fact| match item {
        Fact::Rows(rows) if rows.task.is_some() => Class::Collected,
        Fact::Rows(_) => Class::Scheduled,
        Fact::Started(_) | Fact::End(_) => Class::LifeCycle,
        Fact::Log { .. } | Fact::Dropped { .. } => Class::Status,
        Fact::Block(_) => Class::Collected,
    };
    let classes = || batch.items.iter().map(class);
    let rows = classes().filter(|c| matches!(c, Class::Collected | Class::Scheduled)).min();
    rows.or_else(|| classes().min()).unwrap_or(Class::Status)
}
