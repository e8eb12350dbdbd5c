//! The tables that the fold itself writes. They are found in SQL like any other.

use std::sync::{Arc, LazyLock};

use muster_results::{RowClass, TableSpec};
use muster_types::{ColumnDecl, ColumnType};

fn table(name: &str, columns: &[(&str, ColumnType)]) -> Arc<TableSpec> {
    let columns = columns
        .iter()
        .map(|(name, kind)| ColumnDecl { name: (*name).to_owned(), kind: *kind })
        .collect();
    Arc::new(TableSpec { name: name.to_owned(), class: RowClass::System, columns, open: false })
}

/// One row per task that ended: how, with how many rows, how long it took.
pub static COLLECTIONS: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    table(
        "collections",
        &[
            ("outcome", ColumnType::Text),
            ("rows", ColumnType::Int),
            ("bytes", ColumnType::Int),
            ("started_time", ColumnType::Time),
            ("finished_time", ColumnType::Time),
            ("elapsed_us", ColumnType::Int),
            ("message", ColumnType::Text),
            ("status", ColumnType::Int),
            ("user_us", ColumnType::Int),
            ("system_us", ColumnType::Int),
            ("memory_bytes", ColumnType::Int),
        ],
    )
});

/// One row per message or part of one that was refused, missing or unreadable.
pub static ERRORS: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    table("errors", &[("source", ColumnType::Text), ("message", ColumnType::Text)])
});

/// What agents say about their own work.
pub static AGENT_LOG: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    table("agent_log", &[("level", ColumnType::Text), ("message", ColumnType::Text)])
});

/// One row per scheduled snapshot that was the same as the one stored before it.
pub static UNCHANGED: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    table("unchanged", &[("source", ColumnType::Text), ("since_time", ColumnType::Time)])
});

/// The pieces of uploads, each once, until the whole of one is a file of the archive.
pub static UPLOAD_BLOCKS: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    table(
        "upload_blocks",
        &[("upload", ColumnType::Int), ("block", ColumnType::Int), ("data", ColumnType::Bytes)],
    )
});

/// What osquery agents send under names that nobody here scheduled: as rows of a schedule, in time.
pub static OSQUERY_OTHER: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    let columns =
        [("name", ColumnType::Text), ("action", ColumnType::Text), ("columns", ColumnType::Json)];
    let spec = TableSpec::clone(&table("osquery_other", &columns));
    Arc::new(TableSpec { class: RowClass::Scheduled, ..spec })
});

/// All of them.
#[must_use]
pub fn system_tables() -> [Arc<TableSpec>; 6] {
    [&COLLECTIONS, &ERRORS, &AGENT_LOG, &UNCHANGED, &UPLOAD_BLOCKS, &OSQUERY_OTHER]
        .map(|table| Arc::clone(table))
}
