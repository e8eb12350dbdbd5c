//! Hidden columns are there when the text names them, and `*` leaves them out even then.

use datafusion::sql::parser::Statement;
use muster_results::SYSTEM_COLUMNS;

use crate::Error;

/// The hidden columns whose names stand in the text, be it in a string.
pub(super) fn named(sql: &str) -> Vec<&'static str> {
    let words: std::collections::BTreeSet<String> =
        sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
    let hidden = SYSTEM_COLUMNS.iter().filter(|column| column.hidden);
    hidden.map(|column| column.name).filter(|name| words.contains(*name)).collect()
}

/// Nothing yet.
pub(super) fn prepare(_: &mut Statement) -> Result<(), Error> {
    Ok(())
}
