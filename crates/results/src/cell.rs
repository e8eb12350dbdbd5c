//! One JSON value into one cell of its column's type.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::builder::Cell;
use crate::column::{Column, Values};
use crate::limits;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A JSON value that is neither array nor object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(&'a str),
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Stored,
    /// It does not fit the column: NULL, and the row is kept in `_raw`.
    Failed,
    /// The column keeps text, and this value must be read as it is spelled.
    NeedsText,
}

/// Stores a value. The column must stand at the row.
#[inline]
pub(crate) fn put(column: &mut Column, value: Scalar<'_>) -> Put {
    // Agents that know only strings send an empty one for "no value".
    let empty = matches!(value, Scalar::Null | Scalar::Text(""));
    let stored = match &mut column.values {
        Values::Text(to) => match value {
            Scalar::Null => false,
            Scalar::Text(text) => return put_text(column, text),
            Scalar::Bool(flag) => to.display(flag),
            Scalar::Int(n) => to.display(n),
            Scalar::UInt(n) => to.display(n),
            Scalar::Float(_) => {
                column.push_null();
                return Put::NeedsText;
            }
        },
        _ if empty => false,
        Values::Int(to) => int(value).map(|n| to.push(n)).is_some(),
        Values::Bool(to) => bool(value).map(|flag| to.push(flag)).is_some(),
        Values::Float(to) => float(value).map(|n| to.push(n)).is_some(),
        Values::Time(to) => time(value).map(|at| to.push(at)).is_some(),
        Values::Bytes(to) => bytes(value).map(|b| to.push(&b)).is_some(),
        Values::Json(_) => {
            column.push_null();
            return Put::NeedsText;
        }
    };
    if stored {
        column.filled();
        return Put::Stored;
    }
    column.push_null();
    if empty { Put::Stored } else { Put::Failed }
}

/// Stores text; what is over the limit is cut off, and the row counts as failed.
fn put_text(column: &mut Column, text: &str) -> Put {
    let Values::Text(to) = &mut column.values else { return Put::NeedsText };
    if text.len() <= limits::CELL_BYTES {
        to.push(text.as_bytes());
        column.filled();
        return Put::Stored;
    }
    to.push(cut(text).as_bytes());
    column.filled();
    Put::Failed
}

/// A text of at most the allowed length, which says how long it was.
pub(crate) fn cut(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(limits::CELL_BYTES - 64)];
    format!("{kept}… [cut, {} bytes]", text.len())
}

/// Stores a value by its JSON text: nested values, numbers as they are spelled.
pub(crate) fn put_raw(column: &mut Column, json: &str) -> Put {
    let nested = json.starts_with(['{', '[']);
    match &mut column.values {
        Values::Json(_) if json == "null" => {}
        Values::Json(to) if json.len() <= limits::CELL_BYTES => {
            to.push(json.as_bytes());
            column.filled();
            return Put::Stored;
        }
        Values::Json(_) => {
            column.push_null();
            return Put::Failed;
        }
        Values::Text(_) if json == "null" => {}
        Values::Text(_) => return put_text(column, &unquoted(json)),
        _ if nested => {
            column.push_null();
            return Put::Failed;
        }
        _ => return put(column, Scalar::Text(&unquoted(json))),
    }
    column.push_null();
    Put::Stored
}

/// The text a JSON string stands for; other JSON stands for itself.
pub(crate) fn unquoted(json: &str) -> std::borrow::Cow<'_, str> {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return json.into();
    };
    if !inner.contains('\\') {
        return inner.into();
    }
    // Escaped halves of a surrogate pair are no Unicode; read as bytes they come out, and become
    // the replacement character instead of a refusal of the whole body.
    let bytes: Bytes = serde_json::from_str(json).unwrap_or_default();
    String::from_utf8_lossy(&bytes.0).into_owned().into()
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

/// Stores a value of a system row; one that does not fit is NULL.
pub(crate) fn put_own(column: &mut Column, value: Cell<'_>) {
    let scalar = match value {
        Cell::Null => Scalar::Null,
        Cell::Bool(flag) => Scalar::Bool(flag),
        Cell::Int(n) => Scalar::Int(n),
        Cell::Float(n) => Scalar::Float(n),
        Cell::Text(text) => match &mut column.values {
            Values::Json(to) => {
                to.push(text.as_bytes());
                return column.filled();
            }
            _ => Scalar::Text(text),
        },
        Cell::Time(at) => match &mut column.values {
            Values::Time(to) => {
                to.push(at.0);
                return column.filled();
            }
            _ => Scalar::Null,
        },
        Cell::Bytes(bytes) => match &mut column.values {
            Values::Bytes(to) => {
                to.push(bytes);
                return column.filled();
            }
            _ => Scalar::Null,
        },
    };
    put(column, scalar);
}

fn int(value: Scalar<'_>) -> Option<i64> {
    match value {
        Scalar::Int(n) => Some(n),
        Scalar::UInt(n) => i64::try_from(n).ok(),
        Scalar::Bool(flag) => Some(i64::from(flag)),
        Scalar::Float(n) => whole(n),
        Scalar::Text(text) => text.parse().ok(),
        Scalar::Null => None,
    }
}

/// Only where a float is exact.
fn whole(n: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (n.fract() == 0.0 && n.abs() <= EXACT).then_some(n as i64)
}

fn bool(value: Scalar<'_>) -> Option<bool> {
    match value {
        Scalar::Bool(flag) => Some(flag),
        Scalar::Int(0) | Scalar::UInt(0) => Some(false),
        Scalar::Int(1) | Scalar::UInt(1) => Some(true),
        Scalar::Text(text) => match text {
            "0" => Some(false),
            "1" => Some(true),
            _ if text.eq_ignore_ascii_case("true") => Some(true),
            _ if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn float(value: Scalar<'_>) -> Option<f64> {
    let n = match value {
        Scalar::Float(n) => n,
        Scalar::Int(n) => n as f64,
        Scalar::UInt(n) => n as f64,
        Scalar::Text(text) => text.parse().ok()?,
        Scalar::Bool(_) | Scalar::Null => return None,
    };
    n.is_finite().then_some(n)
}

/// Whether calendars know the time: from the year -9999 to 9999. Beyond, whoever shows it or counts with it
/// fails.
pub(crate) fn is_in_calendars(micros: i64) -> bool {
    let (first, last) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    (first.as_microsecond()..=last.as_microsecond()).contains(&micros)
}

fn time(value: Scalar<'_>) -> Option<i64> {
    let micros = match value {
        Scalar::Int(n) => n.checked_mul(1_000_000),
        Scalar::UInt(n) => i64::try_from(n).ok()?.checked_mul(1_000_000),
        Scalar::Float(n) => seconds(n),
        Scalar::Text(text) => match text.parse::<i64>() {
            Ok(n) => n.checked_mul(1_000_000),
            Err(_) => match text.parse::<f64>() {
                Ok(n) => seconds(n),
                Err(_) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond),
            },
        },
        Scalar::Bool(_) | Scalar::Null => None,
    };
    micros.filter(|micros| is_in_calendars(*micros))
}

fn seconds(n: f64) -> Option<i64> {
    let micros = n * 1e6;
    (micros.abs() < 9.2e18).then_some(micros as i64)
}

fn bytes(value: Scalar<'_>) -> Option<Vec<u8>> {
    match value {
        Scalar::Text(text) if text.len() <= limits::CELL_BYTES => BASE64.decode(text).ok(),
        _ => None,
    }
}
