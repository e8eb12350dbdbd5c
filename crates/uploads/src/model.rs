//! What is known of an upload.

use std::fmt;
use std::str::FromStr;

use muster_types::{AgentNo, OrgId, Timestamp, UploadNo};

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Blocks are coming.
    Open,
    /// All blocks are in.
    Received,
    /// It can be read.
    Stored,
    /// It will not come.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Open, Self::Received, Self::Stored, Self::Failed];

    /// The word used in the catalog, the API and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Received => "received",
            Self::Stored => "stored",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == word);
        found.ok_or_else(|| {
            format!("unknown state {word:?}; known are open, received, stored, failed")
        })
    }
}

/// An upload that an agent begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// What it is: `carve`.
    pub kind: &'static str,
    /// The agent's own name for it: the `carve_guid` of the row that asked for it. Beginning the same
    /// again continues it.
    pub external_id: String,
    /// How many blocks will come; at least 1.
    pub block_count: u32,
    /// Bytes of each block but the last.
    pub block_size: u32,
    /// Bytes in all, by the agent's account.
    pub byte_count: u64,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its number.
    pub no: UploadNo,
    /// Its organisation.
    pub org: OrgId,
    /// Whose file it is.
    pub agent: AgentNo,
    /// What it is: `carve`.
    pub kind: String,
    /// The agent's own name for it.
    pub external_id: String,
    /// How many blocks it has.
    pub block_count: u32,
    /// Bytes of each but the last.
    pub block_size: u32,
    /// Bytes in all: the agent's account while it is open, ours from then on.
    pub byte_count: u64,
    /// How far it is.
    pub state: State,
    /// Why it failed, or what is odd about it.
    pub message: String,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it was stored or failed.
    pub ended_at: Option<Timestamp>,
    /// SHA-256 of the whole.
    pub sha256: Option<[u8; 32]>,
    /// What it seems to be: `tar`, `tar.zst` or `bin`.
    pub format: Option<String>,
    /// Where its pieces are in the archive.
    pub object: Option<String>,
    /// How many pieces.
    pub piece_count: u32,
}

impl Upload {
    /// A name for the file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("upload-{}.{}", self.no, self.format.as_deref().unwrap_or("bin"))
    }

    /// The objects it is stored in, in order.
    pub fn pieces(&self) -> impl Iterator<Item = String> + use<> {
        let object = self.object.clone();
        let count = object.as_ref().map_or(0, |_| self.piece_count);
        (0..count).map(move |index| piece(object.as_deref().unwrap_or_default(), index))
    }
}

/// The name of a piece.
pub(crate) fn piece(object: &str, index: u32) -> String {
    format!("{object}-{index}")
}
