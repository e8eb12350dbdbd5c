//! What became of one endpoint in one hunt.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Exactly one of these holds for each endpoint in a hunt's scope; they sum to the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// In scope and not yet handed to its agent: offline, or its turn has not come.
    Waiting = 0,
    /// Handed to the agent, no end reported yet.
    Running = 1,
    /// Finished with at least one row.
    Rows = 2,
    /// Finished without a row.
    Empty = 3,
    /// The agent reported an error.
    Failed = 4,
    /// The task's time ran out, by the agent's account or ours.
    TimedOut = 5,
    /// The agent has no source for this artifact, or lacks what it needs.
    Unsupported = 6,
    /// Stopped by a person before it finished.
    Cancelled = 7,
    /// The hunt's expiry came before an answer.
    Expired = 8,
    /// The endpoint was removed before it answered.
    Retired = 9,
}

/// A word or code that names no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown outcome {0:?}")]
pub struct UnknownOutcome(String);

impl Outcome {
    /// All outcomes, in the order they are shown.
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Running,
        Self::Rows,
        Self::Empty,
        Self::Failed,
        Self::TimedOut,
        Self::Unsupported,
        Self::Cancelled,
        Self::Expired,
        Self::Retired,
    ];

    /// The word used in the API and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Rows => "rows",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Retired => "retired",
        }
    }

    /// The outcome of a stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as u8 == code)
    }

    /// Whether nothing can change it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
            .ok_or_else(|| UnknownOutcome(word.to_owned()))
    }
}
