//! What a table is: declared columns, and rows generated for the predicates of one query.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::warnings::Warnings;

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Not known, or not readable by this user.
    Null,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(i64::from(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}

impl From<u64> for Value {
    /// Kept as its bits: inode and device numbers above 2^63 show as negative, as in osquery.
    fn from(number: u64) -> Self {
        Self::Int(number.cast_signed())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row: a value per declared column, in order. Hidden columns at the end may be left out.
pub type Row = Vec<Value>;

/// Rows on their way; made one by one, so that a query that stops early costs little.
pub type Rows = Box<dyn Iterator<Item = Row> + Send>;

/// Type a column is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 text.
    Text,
    /// 32-bit in osquery's tables; 64-bit here.
    Integer,
    /// 64-bit.
    BigInt,
}

impl Type {
    fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Integer => "INTEGER",
            Self::BigInt => "BIGINT",
        }
    }
}

/// How a predicate on a column is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// SQLite filters after the rows are made.
    Plain,
    /// `=` narrows what is generated.
    Index,
    /// Without a predicate on one of these there are no rows, and a warning. `=` and `LIKE` narrow.
    Required,
    /// Not part of `SELECT *`; always NULL unless the table fills it. Another platform's columns are
    /// declared so, that one query text runs everywhere.
    Hidden,
}

/// A declared column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, lower case.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// How predicates on it are used.
    pub usage: Use,
}

impl Column {
    /// A text column.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: Type::Text, usage: Use::Plain }
    }

    /// An INTEGER column.
    #[must_use]
    pub const fn int(name: &'static str) -> Self {
        Self { name, kind: Type::Integer, usage: Use::Plain }
    }

    /// A BIGINT column.
    #[must_use]
    pub const fn big(name: &'static str) -> Self {
        Self { name, kind: Type::BigInt, usage: Use::Plain }
    }

    /// The same with `=` narrowing the generation.
    #[must_use]
    pub const fn index(self) -> Self {
        Self { usage: Use::Index, ..self }
    }

    /// The same, required in WHERE.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { usage: Use::Required, ..self }
    }

    /// The same, left out of `SELECT *`.
    #[must_use]
    pub const fn hidden(self) -> Self {
        Self { usage: Use::Hidden, ..self }
    }
}

/// A predicate SQLite handed over. It checks each row again, so generating too much is never wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// `column = value`, also each value of an `IN` list and of a join.
    Equal(Value),
    /// `column LIKE pattern`.
    Like(String),
}

/// What one scan of a table is asked for.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Predicates by column index.
    pub predicates: Vec<(usize, Predicate)>,
    /// Bit per column that the statement reads; bit 63 stands for all from there on.
    pub columns_used: u64,
    /// Where to say what the operator should know.
    pub warnings: Warnings,
}

impl Scan {
    /// Whether the statement reads this column.
    #[must_use]
    pub fn uses(&self, column: usize) -> bool {
        self.columns_used >> column.min(63) & 1 == 1
    }

    /// The number a column is required to equal, if it is.
    #[must_use]
    pub fn equals_int(&self, column: usize) -> Option<i64> {
        self.on(column).find_map(|predicate| match predicate {
            Predicate::Equal(Value::Int(number)) => Some(*number),
            Predicate::Equal(Value::Text(text)) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// All predicates on a column.
    pub fn on(&self, column: usize) -> impl Iterator<Item = &Predicate> {
        self.predicates.iter().filter(move |(at, _)| *at == column).map(|(_, p)| p)
    }
}

/// A table of the endpoint.
pub trait Table: Send + Sync + 'static {
    /// Its name in SQL.
    fn name(&self) -> &'static str;

    /// Its columns, in the order `SELECT *` shows them; hidden ones last.
    fn columns(&self) -> &'static [Column];

    /// Tells rows apart, also across the scans of one statement: the hash of the whole row, unless
    /// the table has a key that stays while other values change.
    fn identity(&self, row: &[Value]) -> u64 {
        hash(row)
    }

    /// The rows. What this user may not read is NULL or left out, never an error.
    fn rows(&self, scan: &Scan) -> Rows;
}

/// Hash of some values, the same in every scan of a process.
pub(crate) fn hash(values: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}

/// The `CREATE TABLE` text that declares a table to SQLite.
#[must_use]
pub fn declaration(table: &dyn Table) -> String {
    let columns: Vec<String> = table
        .columns()
        .iter()
        .map(|column| {
            let hidden = if column.usage == Use::Hidden { " HIDDEN" } else { "" };
            format!("\"{}\" {}{hidden}", column.name, column.kind.sql())
        })
        .collect();
    format!("CREATE TABLE x({})", columns.join(", "))
}

/// A table that many connections share.
pub type SharedTable = Arc<dyn Table>;
