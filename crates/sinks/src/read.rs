//! Finding rows by their place in the stream, whatever compaction has made of them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use futures_util::TryStreamExt;
use muster_archive::Archive;
use muster_archive::manifest::{self, Part};
use muster_catalog::{Catalog, args};
use muster_results::{ColumnDecl, column_types};
use muster_types::OrgId;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use crate::part::PartReader;
use crate::position::{PIECES, Positions};
use crate::{Error, Filter};

muster_catalog::statements! {
    /// Hunts whose rows nobody may see any more.
    DELETED_HUNTS = "SELECT no FROM hunt WHERE deleted_at IS NOT NULL";
}

/// Rows decoded at once: few, for a cell may have a megabyte.
const ROWS_DECODED: usize = 256;
/// The same where only places are read.
const PLACES_DECODED: usize = 8192;

/// What a sink reads from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rows {
    pub catalog: Catalog,
    pub archive: Archive,
}

/// Rows of one part that were asked for.
pub(crate) struct Piece {
    /// Their table and its class.
    pub table: Arc<str>,
    pub class: u8,
    pub batch: RecordBatch,
    /// The part's own columns.
    pub columns: Arc<[ColumnDecl]>,
}

/// What reading a part came to.
pub(crate) enum Read {
    /// All rows that were asked for.
    Pieces(Vec<Piece>),
    /// More bytes than there is room for.
    TooMuch,
}

impl Rows {
    /// The parts with rows of these commits that a filter takes.
    pub(crate) async fn parts(
        &self,
        org: OrgId,
        commits: (i64, i64),
        filter: &Filter,
    ) -> Result<Vec<Part>, Error> {
        let parts = manifest::parts_of_commits(&self.catalog, org, commits.0, commits.1).await?;
        let taken = |part: &Part| filter.takes_table(&part.info.table, part.info.class);
        Ok(parts.into_iter().filter(taken).collect())
    }

    /// Deleted hunts.
    pub(crate) async fn deleted_hunts(&self) -> Result<BTreeSet<i64>, Error> {
        let rows = self.catalog.fetch_all(&DELETED_HUNTS, args![]).await?;
        let no = |row: &muster_catalog::Row| row.get("no");
        Ok(rows.iter().map(no).collect::<Result<_, _>>()?)
    }

    /// Counts the rows of a part between two places, in [`PIECES`] equal pieces of the way.
    pub(crate) async fn count(
        &self,
        part: &Part,
        from: &Positions,
        upto: &Positions,
        counts: &mut [u64; PIECES],
    ) -> Result<(), Error> {
        let counted = async {
            let reader = PartReader::open(&self.archive, part).await?;
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
            let mask = place_columns(builder.parquet_schema());
            let mut stream =
                builder.with_projection(mask).with_batch_size(PLACES_DECODED).build()?;
            while let Some(batch) = stream.try_next().await? {
                let (shards, positions) = places(&batch)?;
                for (shard, pos) in shards.values().iter().zip(positions.values()) {
                    let shard = *shard as usize;
                    if from.between(upto, shard, *pos) {
                        counts[from.piece(upto, shard, *pos)] += 1;
                    }
                }
            }
            Ok(())
        };
        counted.await.map_err(|error| unreadable(part, error))
    }

    /// Reads the rows of a part between two places, as long as they take no more than `room` bytes,
    /// which is lowered by what they take.
    pub(crate) async fn read(
        &self,
        part: &Part,
        from: &Positions,
        upto: &Positions,
        room: &mut usize,
    ) -> Result<Read, Error> {
        let read = async {
            let reader = PartReader::open(&self.archive, part).await?;
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
            let metadata = builder.metadata().file_metadata().key_value_metadata();
            let columns: Arc<[ColumnDecl]> = column_types(builder.schema(), metadata).into();
            let mask = place_columns(builder.parquet_schema());
            let (from, upto) = (*from, *upto);
            let wanted = ArrowPredicateFn::new(mask, move |batch| between(&batch, &from, &upto));
            let mut stream = builder
                .with_row_filter(RowFilter::new(vec![Box::new(wanted)]))
                .with_batch_size(ROWS_DECODED)
                .build()?;
            let table: Arc<str> = part.info.table.as_str().into();
            let mut pieces = Vec::new();
            while let Some(batch) = stream.try_next().await? {
                if batch.num_rows() == 0 {
                    continue;
                }
                let Some(left) = room.checked_sub(batch.get_array_memory_size()) else {
                    return Ok(Read::TooMuch);
                };
                *room = left;
                let (table, columns) = (Arc::clone(&table), Arc::clone(&columns));
                pieces.push(Piece { table, class: part.info.class as u8, batch, columns });
            }
            Ok(Read::Pieces(pieces))
        };
        read.await.map_err(|error| unreadable(part, error))
    }
}

fn place_columns(schema: &parquet::schema::types::SchemaDescriptor) -> ProjectionMask {
    ProjectionMask::columns(schema, ["_shard", "_pos"])
}

type Places<'a> = (&'a PrimitiveArray<UInt32Type>, &'a PrimitiveArray<UInt64Type>);

fn places(batch: &RecordBatch) -> Result<Places<'_>, ParquetError> {
    let shards = batch.column_by_name("_shard").and_then(|c| c.as_primitive_opt());
    let positions = batch.column_by_name("_pos").and_then(|c| c.as_primitive_opt());
    shards
        .zip(positions)
        .ok_or_else(|| ParquetError::General("a part has no _shard and _pos".to_owned()))
}

fn between(
    batch: &RecordBatch,
    from: &Positions,
    upto: &Positions,
) -> Result<BooleanArray, ArrowError> {
    let (shards, positions) =
        places(batch).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    let (shards, positions) = (shards.values(), positions.values());
    let wanted = |row: usize| from.between(upto, shards[row] as usize, positions[row]);
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(batch.num_rows(), wanted), None))
}

/// A part that is not what it should be is told apart from an archive that is away.
fn unreadable(part: &Part, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<muster_archive::Error>() {
            Ok(archive) => match *archive {
                muster_archive::Error::Damaged { object, reason } => Error::Part { object, reason },
                other => Error::Archive(other),
            },
            Err(other) => damaged(part, &other.to_string()),
        },
        other => damaged(part, &other.to_string()),
    }
}

fn damaged(part: &Part, reason: &str) -> Error {
    Error::Part { object: part.object.clone(), reason: reason.to_owned() }
}

/// Objects that could not be found or read. Such a part is read once more, then passed over: its
/// rows count as gone.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(HashSet<(String, u32)>);

impl Unreadable {
    /// Whether the part is to be passed over: it failed before. `None` when the error is none of
    /// the part's.
    pub(crate) fn again(&mut self, part: &Part, error: &Error) -> Option<bool> {
        let of_part = matches!(
            error,
            Error::Part { .. } | Error::Archive(muster_archive::Error::NotFound(_))
        );
        of_part.then(|| !self.0.insert((part.object.clone(), part.part)))
    }
}
