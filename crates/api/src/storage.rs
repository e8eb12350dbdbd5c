//! `/storage`: how much is kept, and how full the stream is.

use axum::extract::State;
use muster_catalog::{args, statements};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Result;
use crate::state::ApiState;

statements! {
    /// Compaction keeps the number of segments small.
    small SEGMENTS = "
        SELECT level,
               COUNT(*) AS segments,
               CAST(COALESCE(SUM(byte_count), 0) AS BIGINT) AS bytes,
               CAST(COALESCE(SUM(row_count), 0) AS BIGINT) AS row_total
        FROM segment
        GROUP BY level
        ORDER BY level";
    small RETIRED = "SELECT COUNT(*) AS n FROM retired_object";
    small TABLES = "
        SELECT table_name,
               CAST(COALESCE(SUM(byte_count), 0) AS BIGINT) AS bytes,
               CAST(COALESCE(SUM(row_count), 0) AS BIGINT) AS row_total
        FROM segment_part
        GROUP BY table_name
        ORDER BY bytes DESC, table_name
        LIMIT 100";
}

/// What is stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Storage {
    /// Segments by level of compaction.
    pub levels: Vec<Level>,
    /// The largest result tables.
    pub tables: Vec<TableSize>,
    /// Objects that wait for their deletion.
    pub retired_objects: i64,
    /// The stream of this instance; missing where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamPressure>,
}

/// Segments of one level.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Level {
    /// 0: as written; higher: merged.
    pub level: i64,
    /// How many.
    pub segments: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Their rows.
    pub rows: i64,
}

/// One result table.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TableSize {
    /// Its name in SQL.
    pub table: String,
    /// Its bytes.
    pub bytes: i64,
    /// Its rows.
    pub rows: i64,
}

/// How full the stream is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamPressure {
    /// Bytes kept and not trimmed.
    pub used_bytes: u64,
    /// Bytes it may use.
    pub quota_bytes: u64,
    /// Intake has stopped: quota or disk is used up.
    pub stopped: bool,
}

/// How much is stored.
#[utoipa::path(get, path = "/storage", operation_id = "storage", tag = "system",
    responses((status = OK, body = Storage)))]
pub(crate) async fn get(State(state): State<ApiState>) -> Result<axum::Json<Storage>> {
    // Sums over everything that is stored.
    let catalog = state.catalog.stale();
    let rows = catalog.fetch_all(&SEGMENTS, args![]).await?;
    let mut levels = Vec::with_capacity(rows.len());
    for row in &rows {
        levels.push(Level {
            level: row.get("level")?,
            segments: row.get("segments")?,
            bytes: row.get("bytes")?,
            rows: row.get("row_total")?,
        });
    }
    let rows = catalog.fetch_all(&TABLES, args![]).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        tables.push(TableSize {
            table: row.get("table_name")?,
            bytes: row.get("bytes")?,
            rows: row.get("row_total")?,
        });
    }
    let retired = catalog.fetch_optional(&RETIRED, args![]).await?;
    let pressure = state.pressure.as_ref().map(|pressure| *pressure.borrow());
    Ok(axum::Json(Storage {
        levels,
        tables,
        retired_objects: retired.map_or(Ok(0), |row| row.get("n"))?,
        stream: pressure.map(|pressure| StreamPressure {
            used_bytes: pressure.used_bytes,
            quota_bytes: pressure.quota_bytes,
            stopped: pressure.stopped,
        }),
    }))
}
