//! Bounds and choices of the osquery gateway.

use std::str::FromStr;
use std::time::Duration;

/// What of an enrolment names the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identifier {
    /// What the agent calls itself, by its flag `host_identifier`.
    #[default]
    Provided,
    /// The hardware's UUID.
    Uuid,
    /// The random identifier of the agent's database: every installation is another agent.
    Instance,
    /// The host name.
    Hostname,
}

impl Identifier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Provided, Self::Uuid, Self::Instance, Self::Hostname];

    /// The word used in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provided => "provided",
            Self::Uuid => "uuid",
            Self::Instance => "instance",
            Self::Hostname => "hostname",
        }
    }
}

impl FromStr for Identifier {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == word);
        found.ok_or_else(|| {
            format!("unknown identifier {word:?}; known are provided, uuid, instance, hostname")
        })
    }
}

/// Bounds and choices; the defaults suit 100,000 agents.
#[derive(Clone, Debug)]
pub struct Options {
    /// What names a machine.
    pub identifier: Identifier,
    /// Bytes of a log request that are taken, unpacked. What is beyond is dropped and recorded: a
    /// request that is refused for its size comes for ever.
    pub log_bytes_max: usize,
    /// Bytes of a packed log request that are looked at, unpacked.
    pub log_unpacked_max: u64,
    /// Bytes of answers to queries that are taken in one request; the same goes for the excess.
    pub write_bytes_max: usize,
    /// Bytes of one block of an upload.
    pub block_bytes_max: usize,
    /// Bytes of any other request.
    pub request_bytes_max: usize,
    /// Hunts handed over with one poll; the next poll gets more.
    pub tasks_per_poll: usize,
    /// Seconds for which an agent is asked to poll every five, once somebody waits for its answer.
    pub accelerate_seconds: u32,
    /// Time for a request once its body is in; the agent gives up 16 s after it began to connect.
    pub time_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identifier: Identifier::Provided,
            log_bytes_max: 10 << 20,
            log_unpacked_max: 64 << 20,
            write_bytes_max: 5 << 20,
            block_bytes_max: 12 << 20,
            request_bytes_max: 1 << 20,
            tasks_per_poll: 32,
            accelerate_seconds: 60,
            time_max: Duration::from_secs(10),
        }
    }
}
