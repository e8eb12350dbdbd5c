//! Rows with what decorates them.

use bytes::Bytes;
use muster_types::RowFormat;
use serde_json::value::RawValue;

/// The column that holds the decorations of a row, as a JSON object.
pub(super) const COLUMN: &str = "_decorations";

/// By how much decorations may make the rows of one message longer, in bytes. A line may hold
/// many short rows and long decorations.
const DECORATED_BYTES_MAX: usize = 16 << 20;

/// Puts decorations into rows, within a bound for each message.
pub(super) struct Decorator {
    room: usize,
}

impl Default for Decorator {
    fn default() -> Self {
        Self { room: DECORATED_BYTES_MAX }
    }
}

/// Rows to be kept.
pub(super) struct Decorated {
    pub json: Bytes,
    /// There were decorations, and no room for them.
    pub left_out: bool,
}

impl Decorator {
    /// The rows `json`, with the decorations in each. Without decorations they are shared with
    /// `text`, which they are a part of.
    pub fn rows(
        &mut self,
        text: &Bytes,
        format: RowFormat,
        json: &str,
        decorations: Option<&str>,
    ) -> Decorated {
        let decorations = decorations.filter(|json| json.starts_with('{') && *json != "{}");
        let Some(decorations) = decorations else {
            return Decorated { json: shared(text, json), left_out: false };
        };
        let decorated = match format {
            RowFormat::Lines => self.each(&[json], decorations),
            RowFormat::Array => match serde_json::from_str::<Vec<&RawValue>>(json) {
                Ok(rows) => {
                    let rows: Vec<&str> = rows.into_iter().map(RawValue::get).collect();
                    self.each(&rows, decorations).map(|rows| format!("[{rows}]"))
                }
                // No array: whoever reads the rows says so.
                Err(_) => return Decorated { json: shared(text, json), left_out: false },
            },
        };
        match decorated {
            Some(json) => Decorated { json: json.into(), left_out: false },
            None => Decorated { json: shared(text, json), left_out: true },
        }
    }

    /// The rows with commas between them; `None` when there is no room.
    fn each(&mut self, rows: &[&str], decorations: &str) -> Option<String> {
        let more = decorations.len() + COLUMN.len() + 4;
        self.room = self.room.checked_sub(rows.len().checked_mul(more)?)?;
        let size: usize = rows.iter().map(|row| row.len() + 1).sum();
        let mut out = String::with_capacity(size + rows.len() * more);
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let Some(open) = row.strip_suffix('}') else {
                out.push_str(row);
                continue;
            };
            out.push_str(open);
            if !open.trim_end().ends_with('{') {
                out.push(',');
            }
            out.push('"');
            out.push_str(COLUMN);
            out.push_str("\":");
            out.push_str(decorations);
            out.push('}');
        }
        Some(out)
    }
}

fn shared(text: &Bytes, json: &str) -> Bytes {
    let range = text.as_ptr_range();
    if range.contains(&json.as_ptr()) {
        text.slice_ref(json.as_bytes())
    } else {
        Bytes::copy_from_slice(json.as_bytes())
    }
}
