//! What the fold asks of its surroundings, and what it gives back.

use bytes::Bytes;
use muster_results::{Action, Step};
use muster_types::{
    AgentKind, AgentNo, ColumnDecl, HuntNo, OrgId, Outcome, Pos, RowFormat, Shard, Spent,
    Timestamp, UploadNo,
};

/// What the fold needs to know of a hunt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HuntView {
    /// Whose hunt it is; rows of agents of another organisation are refused.
    pub org: OrgId,
    /// A task with more rows is cut off and failed.
    pub rows_per_endpoint: u64,
    /// A task with more bytes of rows is cut off and failed.
    pub bytes_per_endpoint: u64,
    /// Somebody waits for the answer: make it durable soon.
    pub interactive: bool,
    /// Somebody looks at its rows as they come.
    pub watched: bool,
}

/// Hunts and schedules as they were when the batch was begun.
pub trait HuntLookup {
    /// The hunt; `None` when there is none of this number.
    fn hunt(&self, hunt: HuntNo) -> Option<HuntView>;

    /// Whether the dispatcher recruited this agent for the hunt.
    fn is_recruited(&self, hunt: HuntNo, agent: AgentNo) -> bool;

    /// What the rows are that agents of this kind send under this name on their own schedule;
    /// `None` when nothing of that name is scheduled.
    fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Keeps>;
}

/// What is kept of a scheduled source besides its rows as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// Its present state, by snapshots or by rows added and removed.
    #[default]
    State,
    /// Nothing: removals are not told, or rows are events, so no state follows from differences.
    Events,
}

/// Which table rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The table of a hunt; the columns are the agent's account, used when the hunt declares none.
    Hunt(HuntNo, &'a [ColumnDecl]),
    /// The table of a scheduled artifact, and what the rows say of its state.
    Scheduled(&'a str, Option<Action>),
    /// The table of rows that nobody here scheduled, as [`Target::Scheduled`].
    Other(&'a str, Option<Action>),
}

/// A step of the state of a scheduled source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateStep<'a> {
    /// Of which source.
    pub source: &'a str,
    /// Of which of its states; the greatest counts.
    pub generation: u32,
    /// What happens to it.
    pub step: Step,
}

/// Where rows come from: the system columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowAt {
    /// Organisation.
    pub org: OrgId,
    /// Agent.
    pub agent: AgentNo,
    /// Its kind.
    pub kind: AgentKind,
    /// Shard.
    pub shard: Shard,
    /// Position of the record.
    pub pos: Pos,
    /// When the server took the record.
    pub received_at: Timestamp,
    /// When the endpoint says it looked.
    pub endpoint_time: Option<Timestamp>,
    /// Hunt and attempt; `None` for scheduled rows.
    pub task: Option<muster_types::TaskId>,
    /// After the task's end.
    pub late: bool,
}

/// A row of a system table.
#[derive(Clone, Debug, PartialEq)]
pub enum SystemRow<'a> {
    /// `collections`: a task ended.
    Collection {
        /// How.
        outcome: Outcome,
        /// Rows stored for the accepted attempt.
        rows: u64,
        /// Bytes of rows stored for the accepted attempt.
        bytes: u64,
        /// When it was first seen; `None` when it ended before it was delivered.
        started: Option<Timestamp>,
        /// What it cost on the endpoint, by the agent's account.
        spent: Option<Spent>,
        /// For people.
        message: &'a str,
    },
    /// `errors`: something was refused, missing or unreadable.
    Error {
        /// What it is about: `message`, `rows`, `sequence`, `task`, or a scheduled source.
        source: &'a str,
        /// For people.
        message: &'a str,
    },
    /// `agent_log`: the agent's own words.
    Log {
        /// Severity.
        level: &'a str,
        /// What it said.
        message: &'a str,
    },
    /// `unchanged`: a scheduled source was reported again and is the same as at `since`.
    Unchanged {
        /// Which source.
        source: &'a str,
        /// When the stored rows were received.
        since: Timestamp,
    },
    /// `upload_blocks`: a piece of a file, once.
    Block {
        /// Which upload.
        upload: UploadNo,
        /// Which piece, from 0.
        index: u32,
        /// The piece.
        bytes: &'a [u8],
    },
}

/// What a sink took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows.
    pub rows: u64,
    /// Bytes of JSON.
    pub bytes: u64,
}

/// Where rows go.
pub trait RowSink {
    /// Takes all rows of `json`, or none.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    fn rows(
        &mut self,
        target: Target<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<Counted, String>;

    /// Takes rows as a step of their source's state, all of them or none.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    fn state(
        &mut self,
        step: &StateStep<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<(), String>;

    /// Takes a mark of a source's state, which has no rows.
    fn mark(&mut self, step: &StateStep<'_>, at: &RowAt);

    /// Takes a row of a system table.
    fn system(&mut self, at: &RowAt, row: &SystemRow<'_>);
}

/// Rows of a watched hunt, for whoever looks on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRows {
    /// Which hunt.
    pub hunt: HuntNo,
    /// Whose rows.
    pub agent: AgentNo,
    /// Where they stand in the stream: tells a repeated hint from a new one.
    pub pos: Pos,
    /// How many were counted.
    pub rows: u64,
    /// The rows as they came; empty when only the end is told.
    pub json: Bytes,
    /// How `json` is laid out.
    pub format: RowFormat,
    /// Set when the task ended with this entry.
    pub end: Option<EndSeen>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndSeen {
    /// A terminal outcome.
    pub outcome: Outcome,
    /// For people.
    pub message: String,
}

/// What follows from one entry besides rows and state: hints only, all of it may be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// For watched hunts.
    pub live: Vec<LiveRows>,
    /// Progress of at least one hunt changed.
    pub progressed: bool,
    /// Somebody waits for what this entry brought.
    pub urgent: bool,
}
