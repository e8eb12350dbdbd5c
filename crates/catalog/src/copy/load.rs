//! Rows into a catalog.

use super::layout::{self, Table};
use crate::tx::Inner;
use crate::{Args, Catalog, Error, Kind, Priority, Tx, Value};

/// Parameters of one statement: SQLite takes 32,766 and PostgreSQL 65,535.
const PARAMETERS_MAX: usize = 16_384;

/// Puts rows into tables of a catalog that nobody else uses.
#[derive(Debug)]
pub struct Loader {
    catalog: Catalog,
    tables: Vec<Table>,
}

impl Loader {
    /// Over a migrated catalog.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn new(catalog: Catalog) -> Result<Self, Error> {
        let tables = layout::tables(&catalog.fetch_all(&layout::COLUMNS, Args::new()).await?)?;
        Ok(Self { catalog, tables })
    }

    /// The table of this name, as it is here.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Removes all rows of a table.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn clear(&self, table: &str) -> Result<(), Error> {
        let table = self.known(table)?;
        let mut tx = self.catalog.begin(Priority::Api).await?;
        execute(&mut tx, format!("DELETE FROM {}", table.name), Args::new()).await?;
        tx.commit().await
    }

    /// Adds rows, whose values are in the order of `columns`. All or none of them.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Other`] when a column is not there or a value does not fit.
    pub async fn add(
        &self,
        table: &str,
        columns: &[String],
        rows: Vec<Vec<Value>>,
    ) -> Result<(), Error> {
        let table = self.known(table)?;
        let kind = |name: &String| {
            let column = table.columns.iter().find(|column| column.name == *name);
            column.map(|column| column.kind).ok_or_else(|| {
                Error::Other(format!("table {} has no column {name} here", table.name))
            })
        };
        let kinds = columns.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        let at_once = (PARAMETERS_MAX / columns.len().max(1)).max(1);
        let mut tx = self.catalog.begin(Priority::Api).await?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let some: Vec<_> = rows.by_ref().take(at_once).collect();
            let text = insert(&table.name, columns, some.len());
            let mut args = Args::with_capacity(some.len() * columns.len());
            for row in some {
                if row.len() != kinds.len() {
                    return Err(Error::Other(format!("a row of {} is torn", table.name)));
                }
                for (value, kind) in row.into_iter().zip(&kinds) {
                    args.push(fit(value, *kind)?);
                }
            }
            execute(&mut tx, text, args).await?;
        }
        tx.commit().await
    }

    fn known(&self, name: &str) -> Result<&Table, Error> {
        self.table(name).ok_or_else(|| Error::Other(format!("there is no table {name} here")))
    }
}

fn insert(table: &str, columns: &[String], rows: usize) -> String {
    let width = columns.len();
    let row = |n: usize| {
        let places: Vec<String> = (1..=width).map(|at| format!("${}", n * width + at)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), rows.join(", "))
}

/// A value as the column wants it: identifiers are bytes on one database and a type on the other.
fn fit(value: Value, kind: Kind) -> Result<Value, Error> {
    Ok(match (value, kind) {
        (Value::Null(_), kind) => Value::Null(kind),
        (Value::Bytes(bytes), Kind::Uuid) => {
            let id = uuid::Uuid::from_slice(&bytes);
            Value::Uuid(id.map_err(|error| Error::Other(format!("an identifier: {error}")))?)
        }
        (Value::Uuid(id), Kind::Bytes) => Value::Bytes(id.as_bytes().to_vec()),
        (value, _) => value,
    })
}

async fn execute(tx: &mut Tx, text: String, args: Args) -> Result<u64, Error> {
    match &mut tx.inner {
        Inner::Sqlite(tx) => tx.execute_text(text, args).await,
        Inner::Postgres(tx) => tx.execute_text(text, args).await,
    }
}
