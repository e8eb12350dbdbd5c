//! `hunts`: what was asked. Texts that name what a scoped asker may not see stay out.

use arrow::array::ArrayRef;
use muster_catalog::args;
use muster_types::ColumnType::{self, Int, Text, Time};
use muster_types::Timestamp;

use super::column::{number, text, time};
use crate::Error;
use crate::question::Question;

muster_catalog::statements! {
    /// The hunts of an organisation.
    HUNTS = "
        SELECT no, kind, state, title, artifact, table_name, requested_by, approved_by, reason,
            incident, created_at, started_at, expires_at, ended_at, pause_reason
        FROM hunt
        WHERE org = $1 AND deleted_at IS NULL
        ORDER BY no";
}

pub(super) const COLUMNS: &[(&str, ColumnType)] = &[
    ("hunt", Int),
    ("kind", Text),
    ("state", Text),
    ("title", Text),
    ("artifact", Text),
    ("table_name", Text),
    ("requested_by", Text),
    ("approved_by", Text),
    ("reason", Text),
    ("incident", Text),
    ("pause_reason", Text),
    ("created_at", Time),
    ("started_at", Time),
    ("expires_at", Time),
    ("ended_at", Time),
];

pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let org = i64::from(question.access.org.0);
    let rows = question.catalog.fetch_all(&HUNTS, args![org]).await?;
    let mut arrays = Vec::with_capacity(COLUMNS.len());
    for (name, kind) in COLUMNS {
        let column = if *name == "hunt" { "no" } else { name };
        arrays.push(match kind {
            Int => {
                let values: Result<Vec<Option<i64>>, _> =
                    rows.iter().map(|row| row.get(column)).collect();
                number(values?.into_iter())
            }
            Time => {
                let values: Result<Vec<Option<Timestamp>>, _> =
                    rows.iter().map(|row| row.get(column)).collect();
                time(values?.into_iter())
            }
            _ => {
                let values: Result<Vec<Option<String>>, _> =
                    rows.iter().map(|row| row.get(column)).collect();
                text(values?.into_iter())
            }
        });
    }
    Ok(arrays)
}
