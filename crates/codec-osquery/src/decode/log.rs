//! Lines of the two logs.

use bytes::Bytes;
use muster_types::{Delta, Facts, Poison, RowFormat, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::items::{Items, Part};
use super::{poison, unreadable};
use crate::lenient::{Number, Text};
use crate::{LINES_MAX, LogType};

/// A line of the result log, in any of its four forms.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ResultLine<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    action: Text<'a>,
    #[serde(rename = "unixTime")]
    unix_time: Number,
    epoch: Number,
    counter: Number,
    #[serde(borrow)]
    columns: Option<&'a RawValue>,
    #[serde(borrow)]
    snapshot: Option<&'a RawValue>,
    #[serde(borrow, rename = "diffResults")]
    diff_results: Option<&'a RawValue>,
    #[serde(borrow)]
    decorations: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Diff<'a> {
    #[serde(borrow)]
    removed: Option<&'a RawValue>,
    #[serde(borrow)]
    added: Option<&'a RawValue>,
}

/// A line of the status log.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusLine<'a> {
    severity: Number,
    #[serde(borrow)]
    filename: Text<'a>,
    line: Number,
    #[serde(borrow)]
    message: Text<'a>,
}

fn lines(text: &Bytes) -> Result<Vec<&RawValue>, Poison> {
    // As text, so that it is not looked at again for UTF-8.
    let text = std::str::from_utf8(text).map_err(|error| poison(&error.to_string()))?;
    let mut lines: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
    lines.truncate(LINES_MAX as usize);
    Ok(lines)
}

/// Lines of the result log.
pub(super) fn results(text: &Bytes) -> Result<Facts, Poison> {
    let lines = lines(text)?;
    let mut items = Items::new(text, LogType::Result);
    for line in lines {
        items.begin(line);
        match serde_json::from_str::<ResultLine<'_>>(line.get()) {
            Ok(line) => result(line, &mut items),
            Err(error) => items.log("error", format!("a line of the result log: {error}")),
        }
    }
    Ok(items.finish())
}

fn result<'a>(line: ResultLine<'a>, items: &mut Items<'a>) {
    let (epoch, counter) = (line.epoch.unsigned(), line.counter.unsigned());
    let seconds = line.unix_time.0;
    let part = Part {
        source: line.name.0,
        endpoint_time: (seconds > 0).then(|| Timestamp(seconds.saturating_mul(1_000_000))),
        delta: Delta::None,
        decorations: line.decorations.map(RawValue::get),
    };
    if let Some(columns) = line.columns {
        let delta = match &*line.action.0 {
            "added" => Delta::Added { epoch, counter },
            "removed" => Delta::Removed { epoch, counter },
            // One line for each row; all of one run have one time.
            "snapshot" => Delta::Snapshot { run: Some(seconds) },
            _ => Delta::None,
        };
        return items.rows(Part { delta, ..part }, RowFormat::Lines, columns.get());
    }
    if let Some(snapshot) = line.snapshot {
        return items.rows(
            Part { delta: Delta::SNAPSHOT, ..part },
            RowFormat::Array,
            snapshot.get(),
        );
    }
    let diff = line.diff_results.and_then(|diff| serde_json::from_str::<Diff<'a>>(diff.get()).ok());
    let Some(Diff { removed, added }) = diff else {
        let message = format!("a result of {:?} has no rows in a known form", part.source);
        return items.log("error", message);
    };
    if let Some(removed) = removed.map(RawValue::get).filter(|rows| !is_empty(rows)) {
        let delta = Delta::Removed { epoch, counter };
        items.rows(Part { delta, ..part.clone() }, RowFormat::Array, removed);
    }
    // Also when there are none: the number of the run is news.
    let added = added.map(RawValue::get).filter(|rows| !is_empty(rows)).unwrap_or("[]");
    items.rows(Part { delta: Delta::Added { epoch, counter }, ..part }, RowFormat::Array, added);
}

/// Whether there are no rows. Agents before 3.0 say `""` for none.
fn is_empty(json: &str) -> bool {
    let inner = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_none_or(|inner| inner.trim().is_empty())
}

/// Lines of the status log.
pub(super) fn statuses(text: &Bytes) -> Result<Facts, Poison> {
    let lines = lines(text)?;
    let mut items = Items::new(text, LogType::Status);
    for line in lines {
        items.begin(line);
        match serde_json::from_str::<StatusLine<'_>>(line.get()) {
            Ok(StatusLine { severity, filename, line, message }) => {
                let level = match severity.0 {
                    ..=0 => "info",
                    1 => "warning",
                    _ => "error",
                };
                items.log(level, format!("{}:{} {}", filename.0, line.0, message.0));
            }
            Err(error) => items.log("error", format!("a line of the status log: {error}")),
        }
    }
    Ok(items.finish())
}
