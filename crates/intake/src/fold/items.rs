//! Cutting rows out of messages of which a part was here before.
//!
//! No honest agent needs it today (what is sent again is sent byte for byte), so it may be slow; it must be right.

use bytes::Bytes;
use muster_types::{Fact, RowFormat, Rows};
use serde_json::value::RawValue;

/// Keeps of all rows of the items, counted together, those in `pieces`. Other items stay.
///
/// `None` when the rows cannot be told apart or are not as many as `expected`.
pub(super) fn keep_rows(
    items: Vec<Fact>,
    expected: u64,
    pieces: &[(u64, u64)],
) -> Option<Vec<Fact>> {
    let mut at = 0_u64;
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let Fact::Rows(rows) = item else {
            kept.push(item);
            continue;
        };
        let mut lines = String::new();
        for row in split(&rows)? {
            if pieces.iter().any(|&(start, end)| (start..end).contains(&at)) {
                lines.push_str(&row);
                lines.push('\n');
            }
            at += 1;
        }
        if !lines.is_empty() {
            let json = Bytes::from(lines);
            kept.push(Fact::Rows(Rows { format: RowFormat::Lines, json, ..rows }));
        }
    }
    (at == expected).then_some(kept)
}

/// The item without its first `count` rows, each of which is one line.
pub(super) fn after_rows(item: Fact, count: usize) -> Option<Fact> {
    let Fact::Rows(rows) = item else { return None };
    if rows.format != RowFormat::Lines {
        return None;
    }
    let mut ends = rows.json.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let (end, _) = ends.nth(count.checked_sub(1)?)?;
    let json = rows.json.slice(end + 1..);
    Some(Fact::Rows(Rows { json, ..rows }))
}

/// Each row as one line of JSON.
fn split(rows: &Rows) -> Option<Vec<String>> {
    let text = std::str::from_utf8(&rows.json).ok()?;
    let one_line = |row: &str| {
        let value: serde_json::Value = serde_json::from_str(row).ok()?;
        Some(value.to_string())
    };
    match rows.format {
        RowFormat::Lines => {
            text.lines().filter(|line| !line.trim().is_empty()).map(one_line).collect()
        }
        RowFormat::Array => {
            let rows: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            rows.into_iter().map(|row| one_line(row.get())).collect()
        }
    }
}
