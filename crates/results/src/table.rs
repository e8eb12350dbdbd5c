//! What a result table is, and what is known of each row besides its columns.

use std::fmt;
use std::str::FromStr;

use muster_types::{AgentKind, AgentNo, ColumnDecl, HuntNo, OrgId, Pos, Shard, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a row is kept: how long, and in which order it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum RowClass {
    /// Somebody asked for it: by hunt and agent.
    Collected = 0,
    /// Agents send it by themselves: by agent and time.
    Scheduled = 1,
    /// Our own account of what happened: as collected.
    System = 2,
    /// What there is now by the last word of each scheduled source: for as long as the endpoint is there.
    Current = 3,
}

impl RowClass {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Collected, Self::Scheduled, Self::System, Self::Current];

    /// The word used in the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collected => "collected",
            Self::Scheduled => "scheduled",
            Self::System => "system",
            Self::Current => "current",
        }
    }

    /// Whether its rows are told to log destinations.
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Collected | Self::Scheduled | Self::System)
    }

    /// The class of a stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == code)
    }
}

impl fmt::Display for RowClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RowClass {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|class| class.as_str() == word);
        found.ok_or_else(|| format!("unknown row class {word:?}"))
    }
}

/// A result table, as its artifact or query declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Its name in SQL.
    pub name: String,
    /// Class of its rows.
    pub class: RowClass,
    /// Declared columns, in the order they are shown.
    pub columns: Vec<ColumnDecl>,
    /// Whether columns that are not declared are added as text. Else they go to `_extra`.
    pub open: bool,
}

/// What the server knows of the rows of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMeta {
    /// Organisation of the agent.
    pub org: OrgId,
    /// Whose rows.
    pub agent: AgentNo,
    /// Its kind.
    pub agent_kind: AgentKind,
    /// The hunt they answer; 0 for none.
    pub hunt: HuntNo,
    /// Attempt of the task; 0 for none.
    pub attempt: u16,
    /// Whether they came after the task's end.
    pub late: bool,
    /// When the server took them: retention, day and pruning use only this.
    pub received_at: Timestamp,
    /// When the endpoint says it looked.
    pub endpoint_time: Option<Timestamp>,
    /// Shard of the record.
    pub shard: Shard,
    /// Position of the record.
    pub pos: Pos,
}

/// What scheduled rows say of the state of their source; column `_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They came.
    Added,
    /// They went.
    Removed,
    /// They are all there is, or a part of it.
    Snapshot,
}

impl Action {
    /// The word in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Where the rows of one append come from, besides what [`RowMeta`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A task, or ourselves.
    #[default]
    Task,
    /// A schedule.
    Scheduled {
        /// Its name.
        source: &'a str,
        /// What it says of the state.
        action: Option<Action>,
    },
    /// The same, as a step of the state; for tables of [`RowClass::Current`].
    Current {
        /// Its name.
        source: &'a str,
        /// Of one agent and source only the greatest generation counts.
        generation: u32,
        /// What the rows do.
        step: Step,
    },
}

/// What rows do to the state of their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// They come into it.
    Add,
    /// They leave it.
    Remove,
    /// Nothing: the generation is there, and was seen at this time.
    Mark,
    /// As [`Step::Mark`], and something between is missing.
    Gap,
}

/// One Parquet part of a segment: what the manifest keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Organisation.
    pub org: OrgId,
    /// SQL name of the table.
    pub table: String,
    /// Class of its rows.
    pub class: RowClass,
    /// UTC day of `received_time`, counted from 1970-01-01. For [`RowClass::Current`] the bucket of its agents,
    /// or [`crate::MIXED`].
    pub day: i64,
    /// First byte in the object.
    pub byte_offset: u64,
    /// Length in bytes.
    pub byte_count: u64,
    /// Rows.
    pub row_count: u64,
    /// Earliest `received_time`.
    pub received_min: Timestamp,
    /// Latest `received_time`.
    pub received_max: Timestamp,
    /// Lowest agent.
    pub agent_min: AgentNo,
    /// Highest agent.
    pub agent_max: AgentNo,
    /// Lowest hunt; 0 stands for none.
    pub hunt_min: HuntNo,
    /// Highest hunt.
    pub hunt_max: HuntNo,
    /// Its columns besides the system ones, with names as first spelled.
    pub columns: Vec<ColumnDecl>,
}
