//! Columns that a merged part has no room for: their values move into `_extra`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::error::ArrowError;

use crate::{ColumnDecl, ColumnType, conform_column, limits, widen};

/// The columns of a merged part: each column of its sources once, as wide as any of its name. Of more than
/// [`limits::MERGED_COLUMNS`] those stay that most sources have, which are the table's own: what one agent makes
/// up is in few.
pub(crate) fn united<'a>(sources: impl Iterator<Item = &'a [ColumnDecl]>) -> Vec<ColumnDecl> {
    let mut columns: Vec<(ColumnDecl, usize)> = Vec::new();
    let mut slots: HashMap<&str, usize> = HashMap::new();
    for column in sources.flatten() {
        let slot = *slots.entry(&column.name).or_insert_with(|| {
            columns.push((column.clone(), 0));
            columns.len() - 1
        });
        let (known, count) = &mut columns[slot];
        known.kind = widen(known.kind, column.kind);
        *count += 1;
    }
    if columns.len() > limits::MERGED_COLUMNS {
        let mut counts: Vec<usize> = columns.iter().map(|(_, count)| *count).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let least = counts[limits::MERGED_COLUMNS - 1];
        let mut ties = counts[..limits::MERGED_COLUMNS].iter().filter(|n| **n == least).count();
        columns.retain(|(_, count)| {
            let tied = *count == least && ties > 0;
            ties -= usize::from(tied);
            *count > least || tied
        });
    }
    columns.into_iter().map(|(column, _)| column).collect()
}

/// What of a source's columns is not among these.
pub(crate) fn spilled(types: &[ColumnDecl], columns: &[ColumnDecl]) -> Vec<ColumnDecl> {
    let names: std::collections::HashSet<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    types.iter().filter(|column| !names.contains(column.name.as_str())).cloned().collect()
}

/// `conformed` with the values of the `spilled` columns of `batch` in its `_extra`; of one that a cell has no room
/// for, its length.
pub(crate) fn into_extra(
    batch: &RecordBatch,
    conformed: &RecordBatch,
    spilled: &[ColumnDecl],
) -> Result<RecordBatch, ArrowError> {
    let mut texts = Vec::with_capacity(spilled.len());
    for column in spilled {
        let Some(array) = batch.column_by_name(&column.name) else { continue };
        let raw = matches!(column.kind, ColumnType::Bool | ColumnType::Int);
        let text = conform_column(array, column.kind, ColumnType::Text)?;
        texts.push((serde_json::Value::from(&*column.name).to_string(), raw, text));
    }
    let at = conformed.schema().index_of("_extra")?;
    let known = conformed.column(at).as_string::<i32>().clone();
    let mut extra: Vec<Option<String>> = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut object = String::new();
        if known.is_valid(row) {
            object.push_str(known.value(row).strip_suffix('}').unwrap_or("{"));
        }
        for (name, raw, text) in &texts {
            let text = text.as_string::<i32>();
            if text.is_null(row) {
                continue;
            }
            let mut value = match raw {
                true => text.value(row).to_owned(),
                false => serde_json::Value::from(text.value(row)).to_string(),
            };
            let room = limits::CELL_BYTES.saturating_sub(object.len() + name.len() + 3);
            if value.len() > room {
                value = format!("\"… [left out, {} bytes]\"", text.value(row).len());
            }
            if value.len() > room {
                continue;
            }
            object.push(match object.len() {
                0 => '{',
                1 => ' ',
                _ => ',',
            });
            object.push_str(name);
            object.push(':');
            object.push_str(&value);
        }
        extra.push((!object.is_empty()).then(|| object + "}"));
    }
    let mut arrays: Vec<ArrayRef> = conformed.columns().to_vec();
    arrays[at] = Arc::new(StringArray::from(extra));
    RecordBatch::try_new(conformed.schema(), arrays)
}
