//! Frames from the agent to the server.

use bytes::Bytes;
use muster_types::AgentNo;
use serde::{Deserialize, Serialize};

use crate::frame::{self, Error, Raw, limit};
use crate::{Batch, HostFacts, hex};

pub(crate) const HELLO: u8 = 1;
pub(crate) const BATCH: u8 = 2;
pub(crate) const PONG: u8 = 3;

/// A place in an agent's stream of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamSeq {
    /// Chosen at random by the agent when it made its buffer.
    pub stream: u64,
    /// From 1, without gaps.
    pub seq: u64,
}

/// The agent's answer to the challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The number it was given when it enrolled.
    pub agent_no: AgentNo,
    /// Ed25519 signature over [`crate::hello_message`].
    #[serde(with = "hex")]
    pub proof: [u8; 64],
    /// Random, made at each start of the agent's process: two links with one key and different
    /// process nonces at the same time are a copied machine.
    #[serde(with = "hex")]
    pub process_nonce: [u8; 16],
    /// Identity of this boot of the machine.
    pub boot_id: String,
    /// Identity of the machine.
    pub machine_id: String,
    /// The machine and the program.
    pub host: HostFacts,
    /// The first batch that will be sent, when its buffer holds any.
    #[serde(default)]
    pub first_unacked: Option<StreamSeq>,
}

/// A frame from the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentFrame {
    /// Who it is.
    Hello(Box<Hello>),
    /// What it found.
    Batch(Batch),
    /// A sign of life and nothing more, for agents whose WebSocket library hides its pings.
    Pong,
}

#[derive(Serialize, Deserialize)]
struct Empty {}

impl AgentFrame {
    /// The frame's bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it is over a bound; a batch must then be cut.
    pub fn encode(&self) -> Result<Bytes, Error> {
        match self {
            Self::Hello(hello) => frame::write_header("hello", HELLO, hello),
            Self::Batch(batch) => batch.encode(),
            Self::Pong => frame::write_header("pong", PONG, &Empty {}),
        }
    }

    /// Reads a frame; `None` for a type this version does not know, which is skipped.
    ///
    /// # Errors
    /// When it is malformed, over a bound, or of a newer version.
    pub fn decode(bytes: Bytes) -> Result<Option<Self>, Error> {
        let raw = Raw::split(bytes)?;
        match raw.kind {
            HELLO => {
                let hello: Hello = raw.only_header("hello")?;
                hello.host.check()?;
                limit("the boot identity", hello.boot_id.len(), 256)?;
                limit("the machine identity", hello.machine_id.len(), 256)?;
                Ok(Some(Self::Hello(Box::new(hello))))
            }
            BATCH => Batch::read(&raw).map(|batch| Some(Self::Batch(batch))),
            PONG => raw.only_header::<Empty>("pong").map(|Empty {}| Some(Self::Pong)),
            _ => Ok(None),
        }
    }
}
