//! The present state of scheduled sources, kept as steps: rows that came, rows that went, and marks.
//!
//! Of each agent and source only the greatest generation counts; a mark says which one that is, when
//! it was last seen, and whether something is missing. The rows of a generation are a multiset: a row is
//! there as often as it came less often as it went. When a row was first seen is its `received_time`, the
//! least of all equal rows, those of former generations too.
//!
//! What a flush writes holds agents as they came, [`MIXED`]; merging sums up, drops what does not
//! count any more, and parts the rows by [`bucket`]. Merging any parts in any order comes to the same
//! rows, because sums do not mind the order; a row that went and whose coming is in another part stays
//! as a negative count until they meet.
//!
//! Merged parts are sorted by their table's first column, then by agent, source and the rest, so
//! that who asks for a name finds it in few pages. Marks have no values and stand before the
//! rows of their agent, so merging needs to remember no more than the marks.

mod cursor;
mod heap;
mod out;
mod reduce;

use muster_types::{AgentNo, OrgId};
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use crate::merge::damaged;
use crate::spill::united;
use crate::{ColumnDecl, Dropped, MergeError, MergedPart, Source, TableSpec, sql_name};
use cursor::{Cursor, File, Order};
use reduce::Reduce;

/// How many parts the agents of a merged table are spread over.
pub const BUCKETS: i64 = 16;

/// Stands for the bucket of a part that was not merged yet.
pub const MIXED: i64 = -1;

/// The bucket of an agent. All agents of a shard have the same.
#[must_use]
pub fn bucket(agent: AgentNo) -> i64 {
    i64::from(agent.0) % BUCKETS
}

/// Key of a part's metadata that holds its [`Layout`].
const KEY: &str = "muster.current";

/// How the rows of a part are ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// The column they are sorted by, or are to be.
    pub first: Option<String>,
    /// Whether they are.
    pub sorted: bool,
}

impl Layout {
    /// Of a part that is flushed.
    pub(crate) fn fresh(spec: &TableSpec) -> Self {
        let first = spec.columns.iter().find_map(|column| sql_name(&column.name));
        Self { first: first.map(std::borrow::Cow::into_owned), sorted: false }
    }

    /// For the part's metadata.
    pub(crate) fn note(&self) -> KeyValue {
        let text = serde_json::to_string(self).unwrap_or_default();
        KeyValue::new(KEY.to_owned(), text)
    }

    fn read(metadata: Option<&Vec<KeyValue>>) -> Self {
        let entry = metadata.and_then(|entries| entries.iter().find(|entry| entry.key == KEY));
        let text = entry.and_then(|entry| entry.value.as_deref());
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// Merges parts of one table of [`crate::RowClass::Current`] into one part per bucket, rising. Rows and
/// marks of `dropped` agents are left out.
///
/// Memory: parts that were not merged before are held as a whole, of the others a batch.
///
/// # Errors
/// When a part cannot be read.
pub fn merge_current(
    org: OrgId,
    table: &str,
    sources: &[Source],
    dropped: &Dropped,
) -> Result<Vec<MergedPart>, MergeError> {
    let mut files = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        files.push(File::open(source).map_err(|why| damaged(index, &why))?);
    }
    let columns: Vec<ColumnDecl> = united(files.iter().map(|file| &*file.types));
    // The largest is not sorted again without need.
    let largest = sources.iter().zip(&files).max_by_key(|(source, _)| source.file.len());
    let first = largest.and_then(|(_, file)| file.layout.first.clone());
    let order = Order::new(columns, first)?;
    let mut cursors = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        cursors.push(Cursor::new(index, file, &order)?);
    }
    Reduce::new(org, table, order, cursors, dropped).run()
}
