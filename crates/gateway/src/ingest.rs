//! The way up: from a message in memory to a durable record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_archive::{Archive, payload_name};
use muster_stream::{AppendError, Stream};
use muster_types::{
    AgentKind, AgentNo, Body, Class, Clock, OrgId, Payload, Pos, Record, TaskFact, Timestamp,
};
use tokio::time::{Instant, sleep};

use crate::metrics::{Metrics, Refusal};

/// Larger payloads become objects of the archive, and the record refers to them.
pub const INLINE_BYTES_MAX: usize = 512 << 10;

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AgentRef {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub no: AgentNo,
    /// Its kind.
    pub kind: AgentKind,
}

/// One message, as it was received.
#[derive(Clone, Debug)]
pub struct Message {
    /// Quota class.
    pub class: Class,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its bytes.
    pub payload: Bytes,
}

/// The first pause before what could not be stored is tried again; each is twice the one before.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest. A pause is anything between its half and the whole.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why messages were not taken. Whatever it says, the gateway closes the connection they came on: a
/// later message must never be appended after an earlier one of the same agent was refused, or the
/// earlier one would look like a repeat when it comes again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// No room now.
    #[error("stream is full")]
    Full {
        /// When to come again.
        retry_after: Duration,
    },
    /// Not known whether they were written; the agent repeats and the fold removes repeats.
    #[error("cannot be stored now: {0}")]
    Unavailable(String),
}

impl Refused {
    /// When to come again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Full { retry_after } => *retry_after,
            Self::Unavailable(_) => Duration::from_secs(5),
        }
    }
}

/// Appends to the stream; cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    stream: Arc<dyn Stream>,
    archive: Archive,
    writer: Arc<str>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Ingest {
    /// Appends to this stream, with this archive for what is large; `writer` names this instance in the
    /// names of objects.
    #[must_use]
    pub fn new(
        stream: Arc<dyn Stream>,
        archive: Archive,
        writer: &str,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { stream, archive, writer: writer.into(), clock, metrics }
    }

    /// Appends messages of one agent, in order and all or none as far as the caller may know; durable
    /// on `Ok`.
    ///
    /// One call at a time for one agent: order among concurrent calls is not kept.
    ///
    /// # Errors
    /// [`Refused`]: close the connection.
    ///
    /// # Cancel safety
    /// When dropped they may or may not be written: treat it as refused.
    pub async fn append(
        &self,
        agent: AgentRef,
        messages: Vec<Message>,
    ) -> Result<Vec<Pos>, Refused> {
        let records = self.records(agent, messages).await?;
        let count = records.len() as u64;
        let positions = self.append_records(records).await?;
        self.metrics.appended.add(count);
        Ok(positions)
    }

    /// As [`append`](Self::append), for a protocol whose repeats the fold removes by their numbers: what
    /// cannot be stored now is tried again until about `patience` after the first time (the last try may
    /// end later), as long as `may_wait` says so, which is asked before each pause: the messages take up
    /// memory meanwhile. Nothing later of this agent may be appended until it is over. A stream that is
    /// full is no reason to wait: it does not pass in seconds.
    ///
    /// # Errors
    /// [`Refused`]: close the connection.
    ///
    /// # Cancel safety
    /// When dropped they may or may not be written: treat it as refused.
    pub async fn append_patiently(
        &self,
        agent: AgentRef,
        messages: Vec<Message>,
        patience: Duration,
        may_wait: impl Fn() -> bool,
    ) -> Result<Vec<Pos>, Refused> {
        let records = self.records(agent, messages).await?;
        let give_up = Instant::now() + patience;
        let mut pause = RETRY_FIRST;
        loop {
            // Cheap: payloads are shared.
            match self.stream.append(records.clone()).await {
                Ok(positions) => {
                    self.metrics.appended.add(records.len() as u64);
                    return Ok(positions);
                }
                Err(AppendError::Unavailable(_))
                    if Instant::now() + pause < give_up && may_wait() =>
                {
                    self.metrics.append_retries.inc();
                    // Spread: what failed for one failed for all who waited with it.
                    let part = rand::random_range(0.5..1.0);
                    sleep(pause.mul_f64(part)).await;
                    pause = RETRY_MAX.min(pause * 2);
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    /// Messages as records, large ones as objects.
    async fn records(
        &self,
        agent: AgentRef,
        messages: Vec<Message>,
    ) -> Result<Vec<Record>, Refused> {
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            let payload = self.claim_check(message.payload, message.received_at).await?;
            let Message { class, received_at, .. } = message;
            records.push(record(agent, class, received_at, Body::Wire(payload)));
        }
        Ok(records)
    }

    /// Appends facts about tasks, now.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Cancel safety
    /// When dropped they may or may not be written.
    pub async fn append_facts(&self, facts: Vec<(AgentRef, TaskFact)>) -> Result<(), Refused> {
        let now = self.clock.now();
        let fact = |(agent, fact)| record(agent, Class::LifeCycle, now, Body::Fact(fact));
        self.append_records(facts.into_iter().map(fact).collect()).await?;
        Ok(())
    }

    async fn append_records(&self, records: Vec<Record>) -> Result<Vec<Pos>, Refused> {
        self.stream.append(records).await.map_err(|error| self.refused(error))
    }

    /// Counts it.
    fn refused(&self, error: AppendError) -> Refused {
        match error {
            AppendError::Full { retry_after } => {
                self.metrics.refused(Refusal::StreamFull);
                Refused::Full { retry_after }
            }
            AppendError::Unavailable(why) | AppendError::Fatal(why) => {
                self.metrics.refused(Refusal::StreamUnavailable);
                Refused::Unavailable(why)
            }
        }
    }

    /// Large payloads are durable in the archive before a record refers to them. An object whose
    /// record never came is an orphan, swept later.
    async fn claim_check(&self, payload: Bytes, at: Timestamp) -> Result<Payload, Refused> {
        if payload.len() <= INLINE_BYTES_MAX {
            return Ok(Payload::Inline(payload));
        }
        let (name, byte_count) = (payload_name(at, &self.writer), payload.len() as u64);
        self.archive.put_new(&name, payload).await.map_err(|error| {
            self.metrics.refused(Refusal::StreamUnavailable);
            Refused::Unavailable(format!("payload object: {error}"))
        })?;
        self.metrics.claim_checks.inc();
        Ok(Payload::Object { name, byte_count })
    }
}

fn record(agent: AgentRef, class: Class, received_at: Timestamp, body: Body) -> Record {
    Record { org: agent.org, agent: agent.no, kind: agent.kind, class, received_at, body }
}
