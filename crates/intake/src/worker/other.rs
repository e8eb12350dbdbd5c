//! Rows that a configuration which is not ours schedules: kept whole, under their name.

use std::io::Write;

use muster_results::Action;
use muster_types::RowFormat;
use serde_json::value::RawValue;

/// Rows of one message, and bytes of the lines made of them: each line repeats the name, so that short rows
/// grow.
const ROWS_MAX: usize = 100_000;
const LINES_BYTES_MAX: usize = 64 << 20;
/// What a line has beside its name and its row, at most.
const LINE_BYTES: usize = 64;

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
    let name = serde_json::Value::from(name).to_string();
    let grown = rows.len().saturating_mul(name.len() + LINE_BYTES);
    if rows.len() > ROWS_MAX || text.len().saturating_add(grown) > LINES_BYTES_MAX {
        return Err("too many rows".to_owned());
    }
    let action = serde_json::Value::from(action.map(Action::as_str));
    let mut lines = Vec::with_capacity(text.len());
    for row in rows {
        let row = row.get();
        if !row.trim_start().starts_with('{') {
            return Err("a row is no object".to_owned());
        }
        // Lines end where rows do.
        let flat = row.contains('\n').then(|| row.replace(['\n', '\r'], " "));
        let row = flat.as_deref().unwrap_or(row);
        let line = writeln!(lines, "{{\"name\":{name},\"action\":{action},\"columns\":{row}}}");
        line.map_err(|error| error.to_string())?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, json: &str) -> Result<String, String> {
        let lines = rows(name, Some(Action::Snapshot), RowFormat::Array, json.as_bytes())?;
        Ok(String::from_utf8(lines).unwrap())
    }

    #[test]
    fn a_row_is_a_line_under_its_name() {
        let wanted = "{\"name\":\"a\\\"b\",\"action\":\"snapshot\",\"columns\":{\"c\": 1}}\n";
        assert_eq!(lines("a\"b", "[ {\"c\":\n1}]").unwrap(), wanted);
    }

    #[test]
    fn what_would_grow_without_measure_is_refused() {
        let many = |row: &str, count: usize| format!("[{}{row}]", format!("{row},").repeat(count));
        assert_eq!(lines("a", "[0,0]"), Err("a row is no object".to_owned()));
        assert_eq!(lines("a", &many("{}", ROWS_MAX)), Err("too many rows".to_owned()));
        let long = "\u{1}".repeat(512);
        assert_eq!(lines(&long, &many("{}", ROWS_MAX / 4)), Err("too many rows".to_owned()));
        assert!(lines("a", &many("{}", ROWS_MAX / 4)).is_ok());
    }
}
