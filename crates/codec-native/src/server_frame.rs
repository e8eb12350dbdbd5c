//! Frames from the server to the agent.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_types::{AgentNo, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::frame::{self, Error, Raw};
use crate::hex;

/// The first frame: prove who you are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Random, for this connection alone.
    #[serde(with = "hex")]
    pub nonce: [u8; 32],
}

/// Bounds the server sets for this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLimits {
    /// Largest frame the server reads.
    pub frame_bytes: u32,
    /// Batches that may be sent and not yet acknowledged.
    pub batches_in_flight: u32,
    /// About how often the server pings; silent for three of these it is gone.
    pub ping_interval_ms: u32,
}

/// The agent is known and the link is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version of the server.
    pub server_version: String,
    /// The agent's number.
    pub agent_no: AgentNo,
    /// Bounds for this link.
    pub limits: LinkLimits,
    /// The CAs to trust from now on, as PEM: before one is retired its successor stands beside it.
    /// Empty: no change.
    #[serde(default)]
    pub server_cas: String,
    /// The server's time.
    pub time: Timestamp,
}

/// A batch, and all before it in its stream, is durable and may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The stream.
    pub stream: u64,
    /// The batch.
    pub seq: u64,
}

/// A batch was not taken, nor any after it; the link is closed next. Keep them and come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// How long to wait before the next connection.
    pub retry_after_ms: u64,
}

/// What one task may use on the endpoint. Zero: the agent's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskLimits {
    /// Wall time in milliseconds.
    pub timeout_ms: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// Memory of the process that runs it, in bytes.
    pub memory_bytes: u64,
}

/// Something to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which. The same task may be handed over again after a reconnect; it is run once.
    pub task: TaskId,
    /// SQL over the agent's tables, with `:name` for parameters.
    pub query: String,
    /// Typed values of the parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, serde_json::Value>,
    /// What it may use.
    #[serde(default)]
    pub limits: TaskLimits,
}

/// Stop this task, or do not begin it; answer with its end, outcome `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which.
    pub task: TaskId,
}

/// Another live process holds the same key: this machine is a copy. Make a new key, enrol it with the
/// ticket, and drop what the buffer inherited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekey {
    /// Good once and for a short time.
    pub ticket: String,
}

/// The CAs have changed while the link was up. For agents with the capability [`crate::CAP_CAS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cas {
    /// As in [`Welcome`].
    pub server_cas: String,
}

/// The server ends the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why, for people.
    pub reason: String,
    /// How long to wait before the next connection.
    pub retry_after_ms: u64,
}

macro_rules! server_frames {
    ($($(#[$doc:meta])* $name:ident = $code:literal $word:literal,)*) => {
        /// A frame from the server.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ServerFrame {
            $($(#[$doc])* $name($name),)*
        }

        impl ServerFrame {
            /// The frame's bytes.
            ///
            /// # Errors
            /// [`Error::TooLarge`] when the header is over its bound.
            pub fn encode(&self) -> Result<Bytes, Error> {
                match self {
                    $(Self::$name(header) => frame::write_header($word, $code, header),)*
                }
            }

            /// Reads a frame; `None` for a type this version does not know, which is skipped.
            ///
            /// # Errors
            /// When it is malformed, over a bound, or of a newer version.
            pub fn decode(bytes: Bytes) -> Result<Option<Self>, Error> {
                let raw = Raw::split(bytes)?;
                match raw.kind {
                    $($code => raw.only_header($word).map(|header| Some(Self::$name(header))),)*
                    _ => Ok(None),
                }
            }
        }

        $(impl From<$name> for ServerFrame {
            fn from(frame: $name) -> Self {
                Self::$name(frame)
            }
        })*
    };
}

server_frames! {
    /// Prove who you are.
    Challenge = 65 "challenge",
    /// The link is up.
    Welcome = 66 "welcome",
    /// Durable.
    Ack = 67 "ack",
    /// Not taken.
    Nack = 68 "nack",
    /// Run this.
    Task = 69 "task",
    /// Stop that.
    Cancel = 70 "cancel",
    /// You are a copy.
    Rekey = 71 "rekey",
    /// Until later.
    Bye = 72 "bye",
    /// Trust these from now on.
    Cas = 73 "cas",
}
