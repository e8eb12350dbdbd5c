//! What a decoder makes of an agent's message: the only form the fold sees, free of any protocol.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Outcome, Record, TaskId, Timestamp, UploadNo};

/// How a message that was sent twice is recognised. Each protocol offers one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Batches of one stream of the agent, numbered from 1 without gaps (native).
    Sequence {
        /// Chosen by the agent when its buffer was made.
        stream: u64,
        /// Number of this batch.
        seq: u64,
    },
    /// Rows `start..end` of one part of one flow (Velociraptor: flow, artifact name, query_start_row).
    RowRange {
        /// Hash of the flow's identity.
        flow: u64,
        /// Hash of the part's identity.
        part: u64,
        /// First row.
        start: u64,
        /// One past the last row.
        end: u64,
    },
    /// A message identifier, repeated at once or after a reconnect (Fleetspeak).
    Message([u8; 16]),
    /// Lines without identity, in the agent's order; a resent body may be longer than the first (osquery).
    Lines {
        /// Which of the agent's logs.
        log: u8,
        /// One hash per line; a line that made several items stands here once for each of them.
        lines: Vec<u64>,
        /// How many of `lines` made each item, none 0. Empty: one each. An item of several lines is
        /// [`Fact::Rows`] in [`RowFormat::Lines`] with one row, and one `\n` after it, for each.
        groups: Vec<u32>,
    },
    /// Applying it twice changes nothing.
    Idempotent,
}

/// Declared type of a result column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 64-bit signed.
    Int,
    /// 64-bit floating point.
    Float,
    /// Microseconds UTC; read from RFC 3339 text or from seconds since 1970.
    Time,
    /// Bytes; read from base64.
    Bytes,
    /// Any JSON, kept as its text.
    Json,
    /// UTF-8.
    Text,
}

/// A declared result column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnDecl {
    /// Its name; compared without case.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// How rows stand in their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// One JSON array of objects.
    Array,
    /// One JSON object per line.
    Lines,
}

/// Rows of one task or one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The task they answer; `None` for what an agent sends on its own schedule.
    pub task: Option<TaskId>,
    /// For scheduled rows, which artifact; empty for a task, whose hunt knows.
    pub source: String,
    /// Columns by the agent's account (used by ad-hoc queries, which declare none).
    pub columns: Vec<ColumnDecl>,
    /// How `json` is laid out.
    pub format: RowFormat,
    /// The rows, not parsed yet.
    pub json: Bytes,
    /// When the endpoint says it looked.
    pub endpoint_time: Option<Timestamp>,
    /// What they say about the state of their source.
    pub delta: Delta,
}

/// What scheduled rows say about the present state of their source on the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delta {
    /// Nothing: they are events, or the answer to a task.
    #[default]
    None,
    /// They are the whole state, so an unchanged one need not be stored.
    Snapshot {
        /// Parts of one state that came apart carry the same number, chosen by the endpoint, and extend one
        /// another; `None` when the rows are all there is.
        run: Option<i64>,
    },
    /// They came into the state.
    Added {
        /// Another one than the last: what was known of the state is void.
        epoch: u64,
        /// Number of the run; in run 0 of a differential query these rows are the whole state.
        counter: u64,
    },
    /// They left the state.
    Removed {
        /// As for [`Delta::Added`].
        epoch: u64,
        /// As for [`Delta::Added`].
        counter: u64,
    },
}

impl Delta {
    /// A state that came in one piece.
    pub const SNAPSHOT: Self = Self::Snapshot { run: None };

    /// Whether the rows are a whole state or a part of one.
    #[must_use]
    pub fn is_snapshot(self) -> bool {
        matches!(self, Self::Snapshot { .. })
    }
}

/// How a task ended, by the agent's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// The task.
    pub task: TaskId,
    /// `None`: finished well, so rows or empty by what was counted. Else failed, timed out,
    /// unsupported or cancelled.
    pub outcome: Option<Outcome>,
    /// The agent's own message, for people.
    pub message: String,
    /// What it cost on the endpoint.
    pub spent: Spent,
}

/// What a task cost on its endpoint, by the agent's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time it took, in microseconds.
    pub elapsed_micros: u64,
    /// How the agent numbers its end, where it does: 0 is well, else a code of SQLite or its own.
    pub status: Option<i64>,
    /// What it used, where the agent says so.
    pub used: Option<Used>,
}

/// What a task used on its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time in user code, in microseconds.
    pub user_micros: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_micros: u64,
    /// Memory in bytes: by how much osquery's process grew, at most resident in the process of a query of
    /// our agent.
    pub memory_bytes: u64,
}

impl Spent {
    /// Time alone.
    #[must_use]
    pub fn micros(elapsed_micros: u64) -> Self {
        Self { elapsed_micros, ..Self::default() }
    }
}

/// One thing an agent told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Rows.
    Rows(Rows),
    /// A task has begun.
    Started(TaskId),
    /// A task has ended.
    End(TaskEnd),
    /// The agent's log of its own work or trouble, kept as a row of `agent_log`.
    Log {
        /// Severity word.
        level: String,
        /// What it said.
        message: String,
    },
    /// A piece of a file. It may come twice.
    Block(UploadBlock),
    /// Something of this agent was over a bound and is gone; kept as a row of `errors`.
    Dropped {
        /// Of what.
        source: String,
        /// How much, for people.
        message: String,
    },
}

/// A piece of a file taken from an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadBlock {
    /// Which upload.
    pub upload: UploadNo,
    /// Which piece, from 0.
    pub index: u32,
    /// How many pieces make it whole.
    pub count: u32,
    /// The piece.
    pub bytes: Bytes,
}

/// One message, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How a repeat of it is recognised.
    pub repeat: Repeat,
    /// What it says, in order.
    pub items: Vec<Fact>,
}

/// A message that cannot be read. It is kept and counted; it never blocks its shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Poison {
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the messages of one agent kind. Pure: no I/O, no clock.
pub trait Decode: Send + Sync {
    /// Decodes one message. `payload` is the record's inline bytes, or the object's.
    ///
    /// # Errors
    /// [`Poison`] when the bytes are not a message of this protocol.
    fn decode(&self, record: &Record, payload: Bytes) -> Result<Facts, Poison>;
}
