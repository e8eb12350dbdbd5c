//! The words of Muster as types: identifiers, time, scope, outcomes, stream records and facts.
//!
//! Nothing here does I/O or knows a runtime, so codecs, the fold, fuzzers and simulations can use
//! it everywhere. Interfaces keep their own types beside them; a type moves here on its second use.

mod access;
mod agent;
mod archive_access;
mod bitset;
mod fact;
mod format;
mod id;
pub mod measure;
mod outcome;
mod record;
mod scope;
mod sql;
mod time;

pub use access::{Access, Role};
pub use agent::{AgentKind, UnknownAgentKind};
pub use archive_access::ArchiveAccess;
pub use bitset::AgentSet;
pub use fact::{
    ColumnDecl, ColumnType, Decode, Delta, Fact, Facts, Poison, Repeat, RowFormat, Rows, Spent,
    TaskEnd, UploadBlock, Used,
};
pub use format::Format;
pub use id::{
    AgentNo, EndpointNo, Epoch, HuntNo, Incarnation, InstanceId, LabelNo, OrgId, Pos, SHARDS,
    Shard, TaskId, UploadNo,
};
pub use outcome::{Outcome, UnknownOutcome};
pub use record::{Body, Class, DecodeError, Payload, Record, TaskFact};
pub use scope::ScopeSpec;
pub use sql::{PartRef, SqlLimits, SqlRequest, SqlWorkerHello};
pub use time::{Clock, SystemClock, TestClock, Timestamp};
