//! Parts of a current table, read in the order they are merged in.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::Layout;
use crate::merge::damaged;
use crate::system::current_fields;
use crate::{ColumnDecl, Error, MergeError, Source, column_types, conform, data_type};

/// Rows read at once of a part that is sorted.
const ROWS_READ: usize = 8192;

/// A part, opened.
pub(super) struct File {
    reader: ParquetRecordBatchReader,
    pub types: Vec<ColumnDecl>,
    pub layout: Layout,
}

impl File {
    pub(super) fn open(source: &Source) -> Result<Self, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source.file.clone())?;
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let types = column_types(builder.schema(), metadata);
        let layout = Layout::read(metadata);
        Ok(Self { reader: builder.with_batch_size(ROWS_READ).build()?, types, layout })
    }
}

/// What all parts are made to look like, and how their rows compare.
pub(super) struct Order {
    /// Own columns.
    pub columns: Vec<ColumnDecl>,
    pub first: Option<String>,
    pub schema: SchemaRef,
    /// The columns that rows are compared by, behind one another; `None` stands for "is no mark".
    key: Vec<Option<usize>>,
    converter: RowConverter,
}

impl Order {
    pub(super) fn new(columns: Vec<ColumnDecl>, first: Option<String>) -> Result<Self, MergeError> {
        let (before, behind) = current_fields();
        let own = columns.iter().map(|c| Field::new(&c.name, data_type(c.kind), true));
        let fields: Vec<Field> = before.into_iter().chain(own).chain(behind).collect();
        let schema = Arc::new(Schema::new(fields));
        let at = |name: &str| schema.index_of(name).ok();
        let mut rest: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        rest.retain(|name| first.as_deref() != Some(name));
        rest.sort_unstable();
        let mut key = Vec::with_capacity(columns.len() + 3);
        key.extend(first.as_deref().and_then(at).map(Some));
        key.extend([at("agent"), at("_source"), None]);
        key.extend(rest.into_iter().map(at));
        let kind = |at: &Option<usize>| {
            let kind = at.map_or(DataType::Boolean, |at| schema.field(at).data_type().clone());
            SortField::new(kind)
        };
        let converter = RowConverter::new(key.iter().map(kind).collect()).map_err(write)?;
        Ok(Self { columns, first, schema, key, converter })
    }

    /// Whether a file's rows stand in this order.
    fn holds(&self, file: &File) -> bool {
        let same = |have: &ColumnDecl| self.columns.contains(have);
        file.layout.sorted && file.layout.first == self.first && file.types.iter().all(same)
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let counts =
            batch.column_by_name("_count").map(|column| column.as_primitive::<Int32Type>());
        let is_row = |counts: &Int32Array| BooleanArray::from_unary(counts, |count| count != 0);
        let columns: Vec<ArrayRef> = self
            .key
            .iter()
            .map(|at| match at {
                Some(at) => Arc::clone(batch.column(*at)),
                None => Arc::new(counts.map_or_else(|| BooleanArray::new_null(0), is_row)),
            })
            .collect();
        self.converter.convert_columns(&columns)
    }
}

fn write(why: ArrowError) -> MergeError {
    Error::from(ParquetError::from(why)).into()
}

/// Some rows of a part, with what a merge looks at.
pub(super) struct Page {
    pub batch: RecordBatch,
    pub keys: Rows,
    pub agents: Int64Array,
    pub received: TimestampMicrosecondArray,
    pub sources: StringArray,
    pub generations: Int64Array,
    pub counts: Int32Array,
    pub gaps: BooleanArray,
}

impl Page {
    fn new(batch: RecordBatch, order: &Order) -> Result<Self, ArrowError> {
        let keys = order.keys(&batch)?;
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| ArrowError::SchemaError(format!("column {name} missing")))
        };
        Ok(Self {
            keys,
            agents: column("agent")?.as_primitive::<Int64Type>().clone(),
            received: column("received_time")?.as_primitive::<TimestampMicrosecondType>().clone(),
            sources: column("_source")?.as_string::<i32>().clone(),
            generations: column("_generation")?.as_primitive::<Int64Type>().clone(),
            counts: column("_count")?.as_primitive::<Int32Type>().clone(),
            gaps: column("_gap")?.as_boolean().clone(),
            batch,
        })
    }
}

/// A part that is being merged.
pub(super) struct Cursor {
    index: usize,
    file: File,
    pub page: Option<Page>,
    /// Next row of the page.
    pub at: usize,
}

impl Cursor {
    /// Stands at the first row.
    pub(super) fn new(index: usize, file: File, order: &Order) -> Result<Self, MergeError> {
        let sorted = order.holds(&file);
        let mut cursor = Self { index, file, page: None, at: 0 };
        if sorted {
            cursor.advance(order)?;
        } else {
            let page = cursor.all(order).map_err(|why| damaged(index, &why))?;
            cursor.page = page;
        }
        Ok(cursor)
    }

    /// Reads the next page; none at the end.
    pub(super) fn advance(&mut self, order: &Order) -> Result<(), MergeError> {
        self.at = 0;
        let page =
            self.next(order).and_then(|batch| batch.map(|b| Page::new(b, order)).transpose());
        self.page = page.map_err(|why| damaged(self.index, &why))?;
        Ok(())
    }

    fn next(&mut self, order: &Order) -> Result<Option<RecordBatch>, ArrowError> {
        for batch in self.file.reader.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                return conform(&batch, &self.file.types, &order.columns, &order.schema).map(Some);
            }
        }
        Ok(None)
    }

    /// All rows, sorted.
    fn all(&mut self, order: &Order) -> Result<Option<Page>, ArrowError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next(order)? {
            batches.push(batch);
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let batch = concat_batches(&order.schema, &batches)?;
        drop(batches);
        let keys = order.keys(&batch)?;
        let rows = u32::try_from(batch.num_rows())
            .map_err(|_| ArrowError::InvalidArgumentError("a part of 2^32 rows".to_owned()))?;
        let mut places: Vec<u32> = (0..rows).collect();
        places.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        drop(keys);
        let sorted = take_record_batch(&batch, &UInt32Array::from(places))?;
        Page::new(sorted, order).map(Some)
    }

    /// The key of the row it stands at.
    pub(super) fn key(&self) -> Option<&[u8]> {
        let page = self.page.as_ref()?;
        Some(page.keys.row(self.at).data())
    }

    /// A part that is not what it says.
    pub(super) fn broken(&self, why: &str) -> MergeError {
        damaged(self.index, &why)
    }
}
