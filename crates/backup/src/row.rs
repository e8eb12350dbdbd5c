//! Rows as lines: one JSON array each, the same for the same row on either database.
//!
//! `null`, integers and texts are themselves; bytes and identifiers are `{"x":"hex"}`, floats
//! `{"r":"bits in hex"}`, so that they come back exactly as they were.

use muster_catalog::{Kind, Value};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

/// Adds a row and its line end.
pub(crate) fn write(out: &mut Vec<u8>, row: &[Value]) -> Result<(), serde_json::Error> {
    let values = row.iter().map(|value| match value {
        Value::Null(_) => Json::Null,
        Value::Integer(n) => json!(n),
        Value::Overflow(n) => json!(n),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!({"x": hex::encode(bytes)}),
        Value::Uuid(id) => json!({"x": hex::encode(id.as_bytes())}),
        Value::Real(n) => json!({"r": format!("{:016x}", n.to_bits())}),
    });
    serde_json::to_writer(&mut *out, &values.collect::<Vec<_>>())?;
    out.push(b'\n');
    Ok(())
}

/// Reads a row; `None` when it is none.
pub(crate) fn read(line: &[u8]) -> Option<Vec<Value>> {
    let values: Vec<Json> = serde_json::from_slice(line).ok()?;
    let value = |json: Json| match json {
        Json::Null => Some(Value::Null(Kind::Integer)),
        Json::Number(n) => n.as_i64().map(Value::Integer),
        Json::String(text) => Some(Value::Text(text)),
        Json::Object(object) => match object.iter().next()? {
            (key, Json::String(text)) if key == "x" => hex::decode(text).ok().map(Value::Bytes),
            (key, Json::String(text)) if key == "r" => {
                u64::from_str_radix(text, 16).ok().map(|bits| Value::Real(f64::from_bits(bits)))
            }
            _ => None,
        },
        Json::Bool(_) | Json::Array(_) => None,
    };
    values.into_iter().map(value).collect()
}

/// What identifies the rows of a table, in their order.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    hash: Sha256,
    pub(crate) rows: u64,
    line: Vec<u8>,
}

impl Digest {
    /// Takes a row in; its line stays readable until the next one.
    pub(crate) fn add(&mut self, row: &[Value]) -> Result<&[u8], serde_json::Error> {
        self.line.clear();
        write(&mut self.line, row)?;
        self.hash.update(&self.line);
        self.rows += 1;
        Ok(&self.line)
    }

    pub(crate) fn end(self) -> (u64, String) {
        (self.rows, hex::encode(self.hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef);
        let row = vec![
            Value::Null(Kind::Text),
            Value::Integer(i64::MIN),
            Value::Text("a\n\"b\" {x} \u{1f980}\0".to_owned()),
            Value::Bytes(vec![0, 255, 7]),
            Value::Uuid(id),
            Value::Real(f64::NAN),
            Value::Real(-0.1),
        ];
        let mut line = Vec::new();
        write(&mut line, &row).unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        let back = read(&line).unwrap();
        assert_eq!(back[0], Value::Null(Kind::Integer));
        assert_eq!(back[1..4], row[1..4]);
        assert_eq!(back[4], Value::Bytes(id.as_bytes().to_vec()));
        assert!(matches!(back[5], Value::Real(n) if n.is_nan()));
        assert_eq!(back[6], row[6]);
        let mut again = Vec::new();
        write(&mut again, &back).unwrap();
        assert_eq!(line, again);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for line in ["", "{}", "[true]", "[[1]]", "[1.5]", r#"[{"x":"0"}]"#, r#"[{"y":"00"}]"#] {
            assert!(read(line.as_bytes()).is_none(), "{line}");
        }
    }
}
