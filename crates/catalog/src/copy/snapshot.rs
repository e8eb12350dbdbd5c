//! All tables as they are at one moment.

use sqlx::Sqlite;

use super::layout::{self, Table};
use crate::postgres::PostgresTx;
use crate::store::Store;
use crate::{Args, Catalog, Error, Row, Value, sqlite};

/// Rows of one page.
const PAGE_ROWS: u32 = 256;

/// A view that stays as it is while others write. It holds a connection, and on SQLite it keeps the
/// write-ahead log from being carried over, so it is not for longer than a copy takes.
#[derive(Debug)]
pub struct Snapshot {
    inner: Inner,
    tables: Vec<Table>,
}

#[derive(Debug)]
enum Inner {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(PostgresTx),
}

impl Catalog {
    /// A view of all tables at this moment.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let inner = match self.store() {
            Store::Sqlite(store) => {
                let begun = store.readers.begin().await;
                Inner::Sqlite(begun.map_err(|error| Error::of("snapshot", &error))?)
            }
            Store::Postgres(store) => Inner::Postgres(store.snapshot().await?),
        };
        let mut snapshot = Snapshot { inner, tables: Vec::new() };
        // The first read fixes the moment.
        snapshot.tables = layout::tables(&snapshot.fetch(&layout::COLUMNS, Args::new()).await?)?;
        Ok(snapshot)
    }
}

impl Snapshot {
    /// All tables, by name.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The next rows of a table in the order of its key, after the row that was last; none at its
    /// end. At most 256.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn page(&mut self, table: &Table, last: Option<&Row>) -> Result<Vec<Row>, Error> {
        let text = table.page(last.is_some(), PAGE_ROWS);
        let key = |row: &Row| -> Result<Args, Error> {
            let names = table.key.iter().map(|at| &*table.columns[*at].name);
            names.map(|name| row.get::<Value>(name)).collect()
        };
        let args = last.map(key).transpose()?.unwrap_or_default();
        match &mut self.inner {
            Inner::Sqlite(tx) => sqlite::fetch_text(&mut **tx, text, args).await,
            Inner::Postgres(tx) => tx.fetch_text(text, args).await,
        }
    }

    /// An answer as of the same moment.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn fetch(&mut self, s: &crate::Statement, args: Args) -> Result<Vec<Row>, Error> {
        match &mut self.inner {
            Inner::Sqlite(tx) => sqlite::fetch_all(&mut **tx, s, args).await,
            Inner::Postgres(tx) => tx.fetch_all(s, args).await,
        }
    }
}
