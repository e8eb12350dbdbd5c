//! Results: rows to columns to Parquet, and the segment container. No runtime, no I/O.
//!
//! The way of a row: JSON of an agent → [`SegmentBuilder::append_json`] → column buffers of its
//! table → one Parquet part per (organisation, table, class, UTC day) → one container object.
//! Compaction reads parts back with [`merge_parts`]. What an endpoint sends is hostile: every size
//! is bounded by [`limits`], and a body is taken whole or not at all.

mod buffer;
mod builder;
mod cell;
mod column;
mod container;
mod convert;
mod current;
mod file;
mod lattice;
pub mod limits;
mod merge;
mod name;
mod parse;
pub mod sample;
mod spill;
mod system;
mod table;

pub use builder::{Appended, BadRows, BuiltSegment, Cell, SegmentBuilder};
pub use container::{ContainerError, PartIndex, SEGMENT, SegmentWriter, read_container};
pub use convert::{conform, conform_column, merged_schema};
pub use current::{BUCKETS, MIXED, bucket, merge_current};
pub use file::{column_types, data_type};
pub use lattice::{Types, widen};
pub use merge::{Dropped, MergeError, MergedPart, Source, merge_parts};
pub use name::{fold, is_system, sql_name};
pub use system::{CURRENT_COLUMNS, SYSTEM_COLUMNS, SystemColumn, current_fields, system_fields};
pub use table::{Action, Origin, PartInfo, RowClass, RowMeta, Step, TableSpec};

// The types of the declarations and formats used here.
pub use muster_types::{ColumnDecl, ColumnType, RowFormat};

/// Something went wrong that is not the rows' fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rows as Parquet")]
pub struct Error(#[from] parquet::errors::ParquetError);
