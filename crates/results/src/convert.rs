//! Stored columns of one type read as a wider one, and parts of several schemas as one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::column::{Column, Values};
use crate::system::system_fields;
use crate::{ColumnDecl, ColumnType, data_type};

/// A column of type `from` as type `to`, which must be as wide (see [`crate::widen`]).
///
/// # Errors
/// When the array is not of the type that `from` is stored as.
pub fn conform_column(
    array: &ArrayRef,
    from: ColumnType,
    to: ColumnType,
) -> Result<ArrayRef, ArrowError> {
    if *array.data_type() != data_type(from) {
        let array = arrow::compute::cast(array, &data_type(from))?;
        return Ok(convert(&array, from, to));
    }
    Ok(convert(array, from, to))
}

/// As [`conform_column`], for an array that is known to be of type `from`.
pub(crate) fn convert(array: &ArrayRef, from: ColumnType, to: ColumnType) -> ArrayRef {
    use ColumnType::{Bool, Bytes, Float, Int, Json, Text, Time};
    match (from, to) {
        _ if from == to => Arc::clone(array),
        (Bool | Int, Int | Float) => {
            arrow::compute::cast(array, &data_type(to)).expect("numbers cast to wider numbers")
        }
        (Bool, _) => texts(array.as_boolean().iter().map(|v| v.map(|v| v.to_string()))),
        (Int, _) => {
            texts(array.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v.to_string())))
        }
        (Float, _) => {
            texts(array.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| v.to_string())))
        }
        (Time, _) => texts(array.as_primitive::<TimestampMicrosecondType>().iter().map(|v| {
            v.map(|v| match jiff::Timestamp::from_microsecond(v) {
                Ok(at) => at.to_string(),
                Err(_) => v.to_string(),
            })
        })),
        (Bytes, _) => texts(array.as_binary::<i32>().iter().map(|v| v.map(|v| STANDARD.encode(v)))),
        // JSON as text: a JSON string is what it stands for, as when it is read into text.
        (Json, _) => texts(
            array
                .as_string::<i32>()
                .iter()
                .map(|v| v.map(|json| crate::cell::unquoted(json).into_owned())),
        ),
        (Text, _) => Arc::clone(array),
    }
}

fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Pushes the values of an array into an empty column of its type.
pub(crate) fn refill(column: &mut Column, array: &ArrayRef) {
    for row in 0..array.len() {
        if array.is_null(row) {
            column.push_null();
            continue;
        }
        match &mut column.values {
            Values::Bool(to) => to.push(array.as_boolean().value(row)),
            Values::Int(to) => to.push(array.as_primitive::<Int64Type>().value(row)),
            Values::Float(to) => to.push(array.as_primitive::<Float64Type>().value(row)),
            Values::Time(to) => {
                to.push(array.as_primitive::<TimestampMicrosecondType>().value(row));
            }
            Values::Bytes(to) => to.push(array.as_binary::<i32>().value(row)),
            Values::Json(to) | Values::Text(to) => {
                to.push(array.as_string::<i32>().value(row).as_bytes());
            }
        }
        column.filled();
    }
}

/// The Arrow schema of a table with these columns: the shown system columns, its own, the hidden
/// ones.
#[must_use]
pub fn merged_schema(columns: &[ColumnDecl]) -> SchemaRef {
    let (shown, hidden): (Vec<_>, Vec<_>) =
        system_fields().into_iter().partition(|field| !field.name().starts_with('_'));
    let own = columns
        .iter()
        .map(|column| arrow::datatypes::Field::new(&column.name, data_type(column.kind), true));
    Arc::new(Schema::new(shown.into_iter().chain(own).chain(hidden).collect::<Vec<_>>()))
}

/// A batch of one part in the schema of [`merged_schema`]`(columns)`. `types` are the types of the
/// batch's own columns (see [`crate::column_types`]); what it lacks is NULL.
///
/// # Errors
/// When a column is stored as something its type is not.
pub fn conform(
    batch: &RecordBatch,
    types: &[ColumnDecl],
    columns: &[ColumnDecl],
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let wanted = |name: &str| columns.iter().find(|column| column.name == name);
    let typed = |name: &str| types.iter().find(|column| column.name == name);
    let arrays = schema.fields().iter().map(|field| {
        let name = field.name();
        let Some(array) = batch.column_by_name(name) else {
            return Ok(missing(field.data_type(), batch.num_rows()));
        };
        match (typed(name), wanted(name)) {
            (Some(from), Some(to)) => conform_column(array, from.kind, to.kind),
            _ if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
            _ => arrow::compute::cast(array, field.data_type()),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), arrays.collect::<Result<_, ArrowError>>()?)
}

fn missing(kind: &DataType, rows: usize) -> ArrayRef {
    new_null_array(kind, rows)
}
