//! The batch: what an agent found, one or many things in one frame.

use bytes::Bytes;
use muster_types::{
    ColumnDecl, Delta, Fact, Outcome, RowFormat, Rows, Spent, TaskEnd, TaskId, Timestamp, Used,
};
use serde::{Deserialize, Serialize};

use crate::agent_frame::BATCH;
use crate::frame::{self, Error, ITEMS_MAX, Raw, limit};

const COLUMNS_MAX: usize = 1024;

fn invalid(reason: &'static str) -> Error {
    Error::Invalid { frame: "batch", reason }
}

/// Several things an agent tells at once; the unit of acknowledgement. A small answer (its rows and
/// its end) is one batch and so one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Chosen at random by the agent when it made its buffer.
    pub stream: u64,
    /// From 1, without gaps.
    pub seq: u64,
    /// In the order they happened.
    pub items: Vec<Fact>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    stream: u64,
    seq: u64,
    items: Vec<ItemHeader>,
}

/// Flat, and every field has a default, so that a later version can add fields and kinds.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ItemHeader {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    /// Bytes of payload that belong to this item, of whatever kind.
    #[serde(skip_serializing_if = "is_zero")]
    len: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<ColumnDecl>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lines: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "String::is_empty")]
    level: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "is_zero")]
    elapsed_micros: u64,
    #[serde(skip_serializing_if = "is_zero")]
    user_micros: u64,
    #[serde(skip_serializing_if = "is_zero")]
    system_micros: u64,
    #[serde(skip_serializing_if = "is_zero")]
    memory_bytes: u64,
}

fn is_zero<T: PartialEq + Default>(n: &T) -> bool {
    *n == T::default()
}

impl Batch {
    /// The frame's bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the batch must be cut; [`Error::Invalid`] for an outcome an agent
    /// cannot claim, or sequence 0.
    pub fn encode(&self) -> Result<Bytes, Error> {
        limit("the batch", self.items.len(), ITEMS_MAX)?;
        let items = self.items.iter().map(describe).collect::<Result<_, _>>()?;
        let header = Header { stream: self.stream, seq: self.seq, items };
        if self.seq == 0 {
            return Err(invalid("sequence numbers start at 1"));
        }
        let payload = self.items.iter().filter_map(|item| match item {
            Fact::Rows(rows) => Some(&rows.json),
            _ => None,
        });
        frame::write("batch", BATCH, &header, payload)
    }

    /// Reads a whole frame that must be a batch, as it stands in the stream.
    ///
    /// # Errors
    /// When it is no batch, malformed, over a bound, or of a newer version.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        let raw = Raw::split(bytes)?;
        if raw.kind != BATCH {
            return Err(invalid("another type of frame"));
        }
        Self::read(&raw)
    }

    pub(crate) fn read(raw: &Raw) -> Result<Self, Error> {
        let header: Header = raw.parse_header("batch")?;
        limit("the batch", header.items.len(), ITEMS_MAX)?;
        if header.seq == 0 {
            return Err(invalid("sequence numbers start at 1"));
        }
        let mut payload = raw.payload.clone();
        let mut items = Vec::with_capacity(header.items.len());
        for item in header.items {
            let len = item.len as usize;
            if len > payload.len() {
                return Err(Error::Truncated);
            }
            items.extend(understand(item, payload.split_to(len))?);
        }
        if !payload.is_empty() {
            return Err(invalid("payload that belongs to no item"));
        }
        Ok(Self { stream: header.stream, seq: header.seq, items })
    }
}

fn describe(fact: &Fact) -> Result<ItemHeader, Error> {
    let header = |kind: &str| ItemHeader { kind: kind.to_owned(), ..ItemHeader::default() };
    Ok(match fact {
        Fact::Rows(rows) => ItemHeader {
            task: rows.task,
            len: u32::try_from(rows.json.len()).map_err(|_| invalid("rows over 4 GiB"))?,
            source: rows.source.clone(),
            columns: rows.columns.clone(),
            lines: rows.format == RowFormat::Lines,
            at: rows.endpoint_time,
            snapshot: whole_state(rows.delta)?,
            ..header("rows")
        },
        Fact::Started(task) => ItemHeader { task: Some(*task), ..header("started") },
        Fact::End(end) => ItemHeader {
            task: Some(end.task),
            outcome: claimable(end.outcome)?,
            message: end.message.clone(),
            elapsed_micros: end.spent.elapsed_micros,
            user_micros: used(end).user_micros,
            system_micros: used(end).system_micros,
            memory_bytes: used(end).memory_bytes,
            ..header("end")
        },
        Fact::Log { level, message } => {
            ItemHeader { level: level.clone(), message: message.clone(), ..header("log") }
        }
        Fact::Block(_) | Fact::Dropped { .. } => {
            return Err(invalid("an item that native agents do not send"));
        }
    })
}

fn used(end: &TaskEnd) -> Used {
    end.spent.used.unwrap_or_default()
}

/// Nothing used is nothing said: every process uses something.
fn spent(item: &ItemHeader) -> Spent {
    let used = Used {
        user_micros: item.user_micros,
        system_micros: item.system_micros,
        memory_bytes: item.memory_bytes,
    };
    let used = (used != Used::default()).then_some(used);
    Spent { elapsed_micros: item.elapsed_micros, status: None, used }
}

/// `None` for a kind this version does not know.
fn understand(item: ItemHeader, payload: Bytes) -> Result<Option<Fact>, Error> {
    let task = || item.task.ok_or_else(|| invalid("an item without its task"));
    if item.kind != "rows" && matches!(&*item.kind, "started" | "end" | "log") && item.len > 0 {
        return Err(invalid("payload on an item that has none"));
    }
    Ok(Some(match &*item.kind {
        "rows" => {
            limit("the list of columns", item.columns.len(), COLUMNS_MAX)?;
            if item.task.is_none() && item.source.is_empty() {
                return Err(invalid("rows of no task and no source"));
            }
            Fact::Rows(Rows {
                task: item.task,
                source: item.source,
                columns: item.columns,
                format: if item.lines { RowFormat::Lines } else { RowFormat::Array },
                json: payload,
                endpoint_time: item.at,
                delta: if item.snapshot { Delta::SNAPSHOT } else { Delta::None },
            })
        }
        "started" => Fact::Started(task()?),
        "end" => Fact::End(TaskEnd {
            task: task()?,
            outcome: claimable(item.outcome)?,
            spent: spent(&item),
            message: item.message,
        }),
        "log" => Fact::Log { level: item.level, message: item.message },
        _ => return Ok(None),
    }))
}

/// Our agent knows no other delta than a state in one piece.
fn whole_state(delta: Delta) -> Result<bool, Error> {
    match delta {
        Delta::None => Ok(false),
        Delta::SNAPSHOT => Ok(true),
        _ => Err(invalid("a state in parts or a difference")),
    }
}

/// An agent may claim how it went, not what only the server knows.
fn claimable(outcome: Option<Outcome>) -> Result<Option<Outcome>, Error> {
    match outcome {
        None
        | Some(Outcome::Failed | Outcome::TimedOut | Outcome::Unsupported | Outcome::Cancelled) => {
            Ok(outcome)
        }
        Some(_) => Err(invalid("an outcome that is not the agent's to claim")),
    }
}
