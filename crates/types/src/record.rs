//! What the stream carries.
//!
//! A record is one agent's message as it was received, or one fact about a task. All records of one
//! agent meet in one shard, in order, whichever instance took them. The encoding is ours, little
//! endian, with a version byte; decoding never panics and never allocates more than its input.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{AgentKind, AgentNo, Format, HuntNo, OrgId, Outcome, Shard, TaskId, Timestamp};

/// Quota class, most precious first: when room runs short the last go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// Delivery, ends and errors of tasks.
    LifeCycle = 0,
    /// Rows somebody asked for.
    Collected = 1,
    /// Rows an agent sends on its own schedule.
    Scheduled = 2,
    /// The agents' own status.
    Status = 3,
}

impl Class {
    /// All classes, most precious first.
    pub const ALL: [Self; 4] = [Self::LifeCycle, Self::Collected, Self::Scheduled, Self::Status];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == code)
    }
}

/// The bytes of a message, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the record itself; at most 512 KiB.
    Inline(Bytes),
    /// An object of the archive, durable before the record.
    Object {
        /// Its name.
        name: String,
        /// Its length in bytes.
        byte_count: u64,
    },
}

/// Something that happened to a task, appended by the frontend that saw it or by the shard's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskFact {
    /// About to be handed to the agent. Durable before the bytes leave for kinds that must not repeat.
    Delivering(TaskId),
    /// The bytes were handed to the agent's connection.
    Delivered(TaskId),
    /// The agent said it has it.
    Acked(TaskId),
    /// No answer is to be expected any more from this attempt.
    Lost(TaskId),
    /// The end, decided by the server: unsupported, timed out, cancelled, expired or retired.
    Ended {
        /// The task.
        task: TaskId,
        /// A terminal outcome.
        outcome: Outcome,
        /// Why, for people.
        reason: String,
    },
}

impl TaskFact {
    /// The task it is about.
    #[must_use]
    pub fn task(&self) -> TaskId {
        match self {
            Self::Delivering(task)
            | Self::Delivered(task)
            | Self::Acked(task)
            | Self::Lost(task)
            | Self::Ended { task, .. } => *task,
        }
    }
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A message of the agent's own protocol, for the decoder of its kind.
    Wire(Payload),
    /// A fact about one task.
    Fact(TaskFact),
}

/// One entry of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Organisation of the agent.
    pub org: OrgId,
    /// Whose.
    pub agent: AgentNo,
    /// Which decoder reads a [`Body::Wire`].
    pub kind: AgentKind,
    /// Quota class.
    pub class: Class,
    /// When the server took it, by the server's clock: the only time the fold knows.
    pub received_at: Timestamp,
    /// The content.
    pub body: Body,
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version.
    #[error("record format {0} is newer than this version reads")]
    Version(u8),
    /// Shorter than it says.
    #[error("record ends early")]
    Truncated,
    /// A code that means nothing.
    #[error("record has an unknown {0}")]
    Unknown(&'static str),
}

const VERSION: u8 = Record::FORMAT.only();

impl Record {
    /// Its encoded form.
    pub const FORMAT: Format = Format::first("stream-record");

    /// The shard it belongs to.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.agent.shard()
    }

    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(64 + self.payload_len());
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(self.class as u8);
        out.put_u16_le(self.org.0);
        out.put_u32_le(self.agent.0);
        out.put_i64_le(self.received_at.0);
        match &self.body {
            Body::Wire(Payload::Inline(bytes)) => {
                out.put_u8(0);
                out.put_slice(bytes);
            }
            Body::Wire(Payload::Object { name, byte_count }) => {
                out.put_u8(1);
                out.put_u64_le(*byte_count);
                out.put_slice(name.as_bytes());
            }
            Body::Fact(fact) => encode_fact(fact, out),
        }
    }

    /// Reads what [`Record::encode`] wrote; the payload shares `bytes`.
    ///
    /// # Errors
    /// When the bytes are not a record of a known version.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let version = bytes.try_get_u8().map_err(|_| DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let short = |_| DecodeError::Truncated;
        let kind = AgentKind::from_code(bytes.try_get_u8().map_err(short)?)
            .ok_or(DecodeError::Unknown("agent kind"))?;
        let class = Class::from_code(bytes.try_get_u8().map_err(short)?)
            .ok_or(DecodeError::Unknown("class"))?;
        let org = OrgId(bytes.try_get_u16_le().map_err(short)?);
        let agent = AgentNo(bytes.try_get_u32_le().map_err(short)?);
        let received_at = Timestamp(bytes.try_get_i64_le().map_err(short)?);
        let body = decode_body(bytes)?;
        Ok(Self { org, agent, kind, class, received_at, body })
    }

    fn payload_len(&self) -> usize {
        match &self.body {
            Body::Wire(Payload::Inline(bytes)) => bytes.len(),
            Body::Wire(Payload::Object { name, .. }) => name.len(),
            Body::Fact(TaskFact::Ended { reason, .. }) => reason.len(),
            Body::Fact(_) => 0,
        }
    }
}

fn encode_fact(fact: &TaskFact, out: &mut BytesMut) {
    let code = match fact {
        TaskFact::Delivering(_) => 16,
        TaskFact::Delivered(_) => 17,
        TaskFact::Acked(_) => 18,
        TaskFact::Lost(_) => 19,
        TaskFact::Ended { .. } => 20,
    };
    let task = fact.task();
    out.put_u8(code);
    out.put_u64_le(task.hunt.0);
    out.put_u16_le(task.attempt);
    if let TaskFact::Ended { outcome, reason, .. } = fact {
        out.put_u8(*outcome as u8);
        out.put_slice(reason.as_bytes());
    }
}

fn decode_body(mut bytes: Bytes) -> Result<Body, DecodeError> {
    let short = |_| DecodeError::Truncated;
    let code = bytes.try_get_u8().map_err(short)?;
    match code {
        0 => return Ok(Body::Wire(Payload::Inline(bytes))),
        1 => {
            let byte_count = bytes.try_get_u64_le().map_err(short)?;
            let name =
                std::str::from_utf8(&bytes).map_err(|_| DecodeError::Unknown("object name"))?;
            return Ok(Body::Wire(Payload::Object { name: name.to_owned(), byte_count }));
        }
        _ => {}
    }
    let hunt = HuntNo(bytes.try_get_u64_le().map_err(short)?);
    let task = TaskId { hunt, attempt: bytes.try_get_u16_le().map_err(short)? };
    let fact = match code {
        16 => TaskFact::Delivering(task),
        17 => TaskFact::Delivered(task),
        18 => TaskFact::Acked(task),
        19 => TaskFact::Lost(task),
        20 => TaskFact::Ended {
            task,
            outcome: Outcome::from_code(bytes.try_get_u8().map_err(short)?)
                .filter(|outcome| outcome.is_terminal())
                .ok_or(DecodeError::Unknown("outcome"))?,
            reason: String::from_utf8_lossy(&bytes).into_owned(),
        },
        _ => return Err(DecodeError::Unknown("body")),
    };
    Ok(Body::Fact(fact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies() -> impl Strategy<Value = Body> {
        let task = (any::<u64>(), any::<u16>())
            .prop_map(|(hunt, attempt)| TaskId { hunt: HuntNo(hunt), attempt });
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300)
                .prop_map(|b| Body::Wire(Payload::Inline(b.into()))),
            (".{0,40}", any::<u64>())
                .prop_map(|(name, byte_count)| Body::Wire(Payload::Object { name, byte_count })),
            task.clone().prop_map(|t| Body::Fact(TaskFact::Delivering(t))),
            task.clone().prop_map(|t| Body::Fact(TaskFact::Delivered(t))),
            task.clone().prop_map(|t| Body::Fact(TaskFact::Acked(t))),
            task.clone().prop_map(|t| Body::Fact(TaskFact::Lost(t))),
            (task, 2u8..10, ".{0,80}").prop_map(|(task, code, reason)| {
                let outcome = Outcome::from_code(code).unwrap();
                Body::Fact(TaskFact::Ended { task, outcome, reason })
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(
            org in any::<u16>(), agent in any::<u32>(), kind in 1u8..5, class in 0u8..4,
            at in any::<i64>(), body in bodies(),
        ) {
            let record = Record {
                org: OrgId(org),
                agent: AgentNo(agent),
                kind: AgentKind::from_code(kind).unwrap(),
                class: Class::from_code(class).unwrap(),
                received_at: Timestamp(at),
                body,
            };
            let mut bytes = BytesMut::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(bytes.freeze()).unwrap(), record);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Record::decode(bytes.into());
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(Record::decode(Bytes::from_static(&[9])), Err(DecodeError::Version(9)));
    }
}
