//! `hunts`: what was asked, and what became of it on the endpoints that the asker may know of. Texts that
//! name what a scoped asker may not see stay out.
//!
//! Counts are made from the bitmaps of one hunt after the other, and only for a query that names a count and
//! for hunts that its filters on `hunt` leave.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use muster_catalog::args;
use muster_hunts::{Counter, Coverage, PauseRule};
use muster_types::ColumnType::{self, Int, Text, Time};
use muster_types::{HuntNo, Outcome, Timestamp};

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
    ("waiting", Int),
    ("running", Int),
    ("rows", Int),
    ("empty", Int),
    ("failed", Int),
    ("timed_out", Int),
    ("unsupported", Int),
    ("cancelled", Int),
    ("expired", Int),
    ("retired", Int),
    (ROW_COUNT, Int),
];
/// Rows of the whole hunt; not for an asker who sees a part.
const ROW_COUNT: &str = "row_count";
/// The columns before the counts.
const KNOWN: usize = 15;

/// Counts of hunts that were made, so that a query gets the same ones however often it names the table.
pub(super) type Counts = BTreeMap<HuntNo, Option<Coverage>>;

/// The hunts without counts.
pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let org = i64::from(question.access.org.0);
    let rows = question.catalog.fetch_all(&HUNTS, args![org]).await?;
    let mut arrays = Vec::with_capacity(COLUMNS.len());
    for (name, kind) in &COLUMNS[..KNOWN] {
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
                let mut values = values?;
                // It counts all endpoints.
                if *name == "pause_reason" && question.access.agents.is_some() {
                    for reason in values.iter_mut().flatten() {
                        *reason = PauseRule::in_general(reason);
                    }
                }
                text(values.into_iter())
            }
        });
    }
    for _ in &COLUMNS[KNOWN..] {
        arrays.push(number(rows.iter().map(|_| None)));
    }
    Ok(arrays)
}

/// Whether one of these columns is a count.
pub(super) fn are_counted(columns: Option<&Vec<usize>>) -> bool {
    columns.is_none_or(|columns| columns.iter().any(|column| *column >= KNOWN))
}

/// `rows` with the counts of those hunts that `keep` leaves; the others are left out.
pub(super) async fn counted(
    question: &Question,
    rows: &RecordBatch,
    keep: impl Fn(Vec<HuntNo>) -> Vec<HuntNo>,
    counts: &mut Counts,
) -> Result<RecordBatch, Error> {
    let numbers = rows.column(0).as_primitive::<Int64Type>().values();
    let hunts: Vec<HuntNo> = numbers.iter().map(|no| HuntNo(no.unsigned_abs())).collect();
    let kept: BTreeSet<HuntNo> = keep(hunts.clone()).into_iter().collect();
    let directory = question.directory().await?;
    let mut counter = Counter::new(&question.catalog, directory, &question.access, question.now);
    for hunt in &kept {
        if let Entry::Vacant(place) = counts.entry(*hunt) {
            place.insert(counter.coverage(*hunt).await?);
        }
    }
    let mask: BooleanArray = hunts.iter().map(|hunt| Some(kept.contains(hunt))).collect();
    let engine = |error: arrow::error::ArrowError| Error::Engine(Box::new(error.into()));
    let rows = filter_record_batch(rows, &mask).map_err(engine)?;
    let seen = || kept.iter().map(|hunt| counts.get(hunt).and_then(Option::as_ref));
    let mut arrays = rows.columns()[..KNOWN].to_vec();
    for (name, _) in &COLUMNS[KNOWN..] {
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == *name);
        let value = |coverage: &Coverage| match outcome {
            Some(outcome) => Some(coverage.count(outcome)),
            None => coverage.row_count,
        };
        let value = |coverage: &Coverage| value(coverage).map(u64::cast_signed);
        arrays.push(number(seen().map(|coverage| coverage.and_then(value))));
    }
    RecordBatch::try_new(rows.schema(), arrays).map_err(engine)
}
