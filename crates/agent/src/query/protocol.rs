//! What the agent and its query child say to each other.
//!
//! To the child: one [`Request`] as a JSON line. From the child: frames, each one JSON line (a
//! [`Chunk`] or an [`End`]) and, after a chunk's line, exactly `byte_count` bytes of rows.

use std::collections::BTreeMap;

use muster_types::ColumnDecl;
use serde::{Deserialize, Serialize};

/// What a query may use. The agent's own bounds, already combined with the task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time in milliseconds; kept by the parent.
    pub timeout_ms: u64,
    /// Rows; kept by the child.
    pub rows: u64,
    /// Bytes of rows as JSON; kept by both.
    pub bytes: u64,
    /// Memory that the child may allocate beyond what it starts with.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout_ms: 60_000, rows: 1_000_000, bytes: 256 << 20, memory_bytes: 256 << 20 }
    }
}

impl Limits {
    /// These limits, lowered by a task's own where it sets them (not zero). Never raised.
    #[must_use]
    pub fn lowered_by(self, task: &muster_codec_native::TaskLimits) -> Self {
        let lower = |own: u64, task: u64| if task == 0 { own } else { own.min(task) };
        Self {
            timeout_ms: lower(self.timeout_ms, task.timeout_ms),
            rows: lower(self.rows, task.rows),
            bytes: lower(self.bytes, task.bytes),
            memory_bytes: lower(self.memory_bytes, task.memory_bytes),
        }
    }
}

/// One query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// One statement that reads.
    pub sql: String,
    /// Values for `:name` in it.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// What it may use.
    pub limits: Limits,
    /// The parent: a child whose parent is another one has been orphaned while it started.
    #[serde(default)]
    pub parent_pid: Option<i32>,
}

/// Announces rows: a JSON array of objects follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// How many rows.
    pub row_count: u64,
    /// How many bytes follow this line.
    pub byte_count: u64,
    /// Columns with their types, by declaration or as seen so far.
    pub columns: Vec<ColumnDecl>,
}

/// The last line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Rows sent in all.
    pub row_count: u64,
    /// Columns with their types.
    pub columns: Vec<ColumnDecl>,
    /// Time from the request to here.
    pub elapsed_micros: u64,
    /// Processor time in user code, in microseconds.
    #[serde(default)]
    pub user_micros: u64,
    /// Processor time in the kernel, in microseconds.
    #[serde(default)]
    pub system_micros: u64,
    /// Memory that was resident at most, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What the operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why it failed; rows sent before that stay valid.
    #[serde(default)]
    pub error: Option<String>,
}

/// A line from the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// Rows follow.
    Chunk(Chunk),
    /// Nothing follows.
    End(End),
}
