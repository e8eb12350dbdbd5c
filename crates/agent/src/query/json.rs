//! Rows as JSON, written straight from SQLite's values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_types::{ColumnDecl, ColumnType};
use rusqlite::types::ValueRef;

/// Names and types of a statement's columns; types that nobody declared are learnt from the values.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    names: Vec<String>,
    keys: Vec<Vec<u8>>,
    declared: Vec<Option<ColumnType>>,
    seen: Vec<Option<ColumnType>>,
}

impl Columns {
    pub(crate) fn new(columns: &[rusqlite::Column<'_>]) -> Self {
        let mut names: Vec<String> = Vec::with_capacity(columns.len());
        for column in columns {
            names.push(unique(column.name(), &names));
        }
        let key = |name: &String| {
            let mut key = serde_json::to_vec(name).unwrap_or_default();
            key.push(b':');
            key
        };
        Self {
            keys: names.iter().map(key).collect(),
            declared: columns.iter().map(|column| declared(column.decl_type()?)).collect(),
            seen: vec![None; names.len()],
            names,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// What is known by now.
    pub(crate) fn decls(&self) -> Vec<ColumnDecl> {
        let kinds = self.declared.iter().zip(&self.seen);
        let kind = |(declared, seen): (&Option<_>, &Option<_>)| match (declared, seen) {
            (Some(declared), Some(seen)) => wider(*declared, *seen),
            (one, other) => one.or(*other).unwrap_or(ColumnType::Text),
        };
        let names = self.names.iter().cloned();
        names.zip(kinds.map(kind)).map(|(name, kind)| ColumnDecl { name, kind }).collect()
    }

    /// Begins the value of column `at` in the row being written.
    pub(crate) fn write(&mut self, at: usize, value: ValueRef<'_>, out: &mut Vec<u8>) {
        out.push(if at == 0 { b'{' } else { b',' });
        if let Some(key) = self.keys.get(at) {
            out.extend_from_slice(key);
        }
        if let (Some(kind), Some(seen)) = (write_value(value, out), self.seen.get_mut(at)) {
            *seen = Some(seen.map_or(kind, |seen| wider(seen, kind)));
        }
    }
}

/// A second column of one name becomes `name_2`, since a JSON object can hold only one.
fn unique(name: &str, taken: &[String]) -> String {
    let is_free = |name: &str| !taken.iter().any(|other| other.eq_ignore_ascii_case(name));
    if is_free(name) {
        return name.to_owned();
    }
    (2..).map(|n| format!("{name}_{n}")).find(|name| is_free(name)).expect("numbers do not end")
}

/// SQLite's rules of affinity, as far as our declarations use them.
fn declared(text: &str) -> Option<ColumnType> {
    let text = text.to_ascii_uppercase();
    if text.contains("INT") {
        Some(ColumnType::Int)
    } else if text.contains("CHAR") || text.contains("TEXT") || text.contains("CLOB") {
        Some(ColumnType::Text)
    } else if text.contains("DOUB") || text.contains("REAL") || text.contains("FLOA") {
        Some(ColumnType::Float)
    } else {
        None
    }
}

/// The narrowest type that holds both.
fn wider(one: ColumnType, other: ColumnType) -> ColumnType {
    use ColumnType::{Float, Int, Text};
    match (one, other) {
        _ if one == other => one,
        (Int, Float) | (Float, Int) => Float,
        _ => Text,
    }
}

/// Writes a value; its type, unless it is NULL.
fn write_value(value: ValueRef<'_>, out: &mut Vec<u8>) -> Option<ColumnType> {
    use std::io::Write as _;
    match value {
        ValueRef::Integer(number) => {
            let _ = write!(out, "{number}");
            Some(ColumnType::Int)
        }
        ValueRef::Real(number) if number.is_finite() => {
            let _ = serde_json::to_writer(out, &number);
            Some(ColumnType::Float)
        }
        ValueRef::Text(bytes) => {
            let _ = serde_json::to_writer(out, &String::from_utf8_lossy(bytes));
            Some(ColumnType::Text)
        }
        ValueRef::Blob(bytes) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
            Some(ColumnType::Bytes)
        }
        ValueRef::Null | ValueRef::Real(_) => {
            out.extend_from_slice(b"null");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_unique_and_types_widen() {
        let taken = ["pid".to_owned(), "PID_2".to_owned()];
        assert_eq!(unique("Pid", &taken), "Pid_3");
        assert_eq!(wider(ColumnType::Int, ColumnType::Float), ColumnType::Float);
        assert_eq!(wider(ColumnType::Int, ColumnType::Text), ColumnType::Text);
        assert_eq!(declared("BIGINT"), Some(ColumnType::Int));
    }
}
