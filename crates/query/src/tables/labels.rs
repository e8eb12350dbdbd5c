//! `labels`: one row per label of each endpoint that the asker may know of.

use arrow::array::ArrayRef;
use muster_types::ColumnType::{self, Int, Text};

use super::column::{number, text};
use crate::Error;
use crate::question::Question;

pub(super) const COLUMNS: &[(&str, ColumnType)] =
    &[("label", Text), ("endpoint", Int), ("endpoint_name", Text)];

pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let access = &question.access;
    let snapshot = question.directory().await?;
    let mut rows = Vec::new();
    for endpoint in snapshot.endpoints(access.org).filter(|one| snapshot.allows(access, one)) {
        rows.extend(snapshot.labels_of(endpoint).map(|label| (label, endpoint)));
    }
    Ok(vec![
        text(rows.iter().map(|(label, _)| Some(&label.name))),
        number(rows.iter().map(|(_, endpoint)| Some(i64::from(endpoint.no.0)))),
        text(rows.iter().map(|(_, endpoint)| Some(&endpoint.name))),
    ])
}
