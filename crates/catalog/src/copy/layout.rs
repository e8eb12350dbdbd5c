//! Which tables there are, from the database's own catalogue.

use std::fmt::Write as _;

use crate::{Error, Kind, Row};

crate::statements! {
    /// All columns, tables by name, columns by name; `key` counts from 1, 0 for others.
    pub(crate) small COLUMNS = {
        sqlite: "
        SELECT m.name AS table_name, c.name AS column_name, lower(c.type) AS type, c.pk AS key
        FROM sqlite_master AS m
        JOIN pragma_table_info(m.name) AS c
        WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
        ORDER BY m.name, c.name",
        postgres: "
        SELECT
            CAST(t.relname AS TEXT) AS table_name, CAST(a.attname AS TEXT) AS column_name,
            format_type(a.atttypid, NULL) AS type,
            CAST(COALESCE(array_position(CAST(i.indkey AS INT2[]), a.attnum) + 1, 0) AS BIGINT) AS key
        FROM pg_class AS t
        JOIN pg_namespace AS n ON n.oid = t.relnamespace AND n.nspname = current_schema()
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisprimary
        WHERE t.relkind = 'r'
        ORDER BY t.relname COLLATE \"C\", a.attname COLLATE \"C\""
    };
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds. On SQLite identifiers are [`Kind::Bytes`].
    pub kind: Kind,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, by name.
    pub columns: Vec<Column>,
    /// Which of them are its primary key, in the key's order.
    pub key: Vec<usize>,
}

impl Table {
    /// `a, b, c`.
    pub(super) fn list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| &*column.name).collect();
        names.join(", ")
    }

    fn key_list(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|at| &*self.columns[*at].name).collect();
        names.join(", ")
    }

    /// The text that reads a page; `$1…` is the key after which it begins, if any.
    pub(super) fn page(&self, after: bool, limit: u32) -> String {
        let (name, key) = (&self.name, self.key_list());
        let mut text = format!("SELECT {} FROM {name}", self.list());
        if after {
            let places: Vec<String> = (1..=self.key.len()).map(|n| format!("${n}")).collect();
            let _ = write!(text, " WHERE ({key}) > ({})", places.join(", "));
        }
        let _ = write!(text, " ORDER BY {key} LIMIT {limit}");
        text
    }
}

/// The tables that these rows of [`COLUMNS`] tell of.
pub(super) fn tables(rows: &[Row]) -> Result<Vec<Table>, Error> {
    let mut tables: Vec<Table> = Vec::new();
    let mut keys: Vec<(i64, usize)> = Vec::new();
    for row in rows {
        let (name, column) = (row.get::<String>("table_name")?, row.get::<String>("column_name")?);
        let key: i64 = row.get("key")?;
        plain(&name)?;
        plain(&column)?;
        let kind = kind(&row.get::<String>("type")?)?;
        if tables.last().is_none_or(|table| table.name != name) {
            keys.clear();
            tables.push(Table { name, columns: Vec::new(), key: Vec::new() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if key > 0 {
            keys.push((key, table.columns.len()));
            keys.sort_unstable();
            table.key = keys.iter().map(|(_, at)| *at).collect();
        }
        table.columns.push(Column { name: column, kind });
    }
    match tables.iter().find(|table| table.key.is_empty()) {
        Some(table) => Err(Error::Other(format!("table {} has no primary key", table.name))),
        None => Ok(tables),
    }
}

/// Names go into texts as they are, so they must be plain.
fn plain(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::Other(format!("{name:?} is no name of a table or column of ours")))
}

fn kind(declared: &str) -> Result<Kind, Error> {
    Ok(match declared {
        "integer" | "bigint" | "smallint" | "boolean" => Kind::Integer,
        "real" | "double precision" => Kind::Real,
        "text" => Kind::Text,
        "blob" | "bytea" => Kind::Bytes,
        "uuid" => Kind::Uuid,
        other => return Err(Error::Other(format!("a column is of type {other}"))),
    })
}
