//! Enrolment: one HTTPS request that gives a new key a number.

use muster_types::{AgentNo, Timestamp};
use serde::{Deserialize, Serialize};

use crate::frame::{Error, limit};
use crate::{HostFacts, hex};

/// What entitles a machine to enrol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// An enrolment secret, known to whoever deploys agents.
    Secret(String),
    /// The ticket of a [`crate::Rekey`].
    Ticket(String),
}

impl Credential {
    /// The secret or the ticket.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Secret(text) | Self::Ticket(text) => text,
        }
    }
}

/// Asks for a number. Asking again with the same key gives the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// What entitles the machine.
    pub credential: Credential,
    /// Ed25519 public key; the private half never leaves the machine.
    #[serde(with = "hex")]
    pub public_key: [u8; 32],
    /// Signature over [`crate::enrol_message`].
    #[serde(with = "hex")]
    pub proof: [u8; 64],
    /// Identity of the machine, which joins the agents of one endpoint.
    pub machine_id: String,
    /// The agent's time, in microseconds since 1970; signed.
    pub time: Timestamp,
    /// The machine and the program.
    pub host: HostFacts,
}

impl EnrolRequest {
    /// Reads a request body of at most 64 KiB.
    ///
    /// # Errors
    /// When it is malformed or over a bound.
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        limit("the enrolment request", body.len(), 64 << 10)?;
        let request: Self = serde_json::from_slice(body)
            .map_err(|e| Error::Header { frame: "enrolment request", reason: e.to_string() })?;
        limit("the machine identity", request.machine_id.len(), 256)?;
        limit("the secret", request.credential.text().len(), 4096)?;
        request.host.check()?;
        Ok(request)
    }
}

/// The machine is enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// The agent's number, for [`crate::Hello`].
    pub agent_no: AgentNo,
    /// The CAs to trust, as PEM; empty: no change.
    #[serde(default)]
    pub server_cas: String,
}

/// Why a machine may not enrol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// No such secret, or it is revoked or expired.
    WrongSecret,
    /// The ticket is not valid, was used, or is too old.
    WrongTicket,
    /// The machine's clock is too far off.
    Clock,
    /// The request is malformed, or its signature does not fit its key.
    Malformed,
    /// An administrator removed or blocked this agent.
    Blocked,
    /// Too many at once.
    Busy,
    /// A reason a newer server has.
    #[serde(other)]
    Other,
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRefusal {
    /// Why.
    pub reason: RefusalReason,
    /// What to do about it, for people.
    pub hint: String,
    /// When to try again; 0 when trying again will not help.
    #[serde(default)]
    pub retry_after_ms: u64,
}
