//! Rows that a configuration which is not ours schedules: kept whole, under their name.

use std::io::Write;

use muster_results::Action;
use muster_types::RowFormat;
use serde_json::value::RawValue;

/// The rows as rows of `osquery_other`, a line each.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn rows(
    name: &str,
    action: Option<Action>,
    format: RowFormat,
    json: &[u8],
) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    let rows: Result<Vec<&RawValue>, _> = match format {
        RowFormat::Array => serde_json::from_str(text),
        RowFormat::Lines => serde_json::Deserializer::from_str(text).into_iter().collect(),
    };
    let rows = rows.map_err(|error| error.to_string())?;
    let name = serde_json::Value::from(name);
    let action = serde_json::Value::from(action.map(Action::as_str));
    let mut lines = Vec::with_capacity(text.len() + rows.len() * 64);
    for row in rows {
        // Lines end where rows do.
        let row = row.get();
        let flat = row.contains('\n').then(|| row.replace(['\n', '\r'], " "));
        let row = flat.as_deref().unwrap_or(row);
        let line = writeln!(lines, "{{\"name\":{name},\"action\":{action},\"columns\":{row}}}");
        line.map_err(|error| error.to_string())?;
    }
    Ok(lines)
}
