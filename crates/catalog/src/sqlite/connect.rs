//! How connections are opened.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};

use crate::{Error, Options};

fn base(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(512)
        .row_buffer_size(256)
        .thread_name(|n| format!("catalog-{n}"))
}

pub(super) async fn writer(path: &Path) -> Result<SqliteConnection, Error> {
    base(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .pragma("journal_size_limit", "67108864")
        // The checkpoint has its own connection; this is for when it does not keep up (64 MiB).
        .pragma("wal_autocheckpoint", "16384")
        .connect()
        .await
        .map_err(|error| refused(path, &error))
}

pub(super) async fn checkpoint(path: &Path) -> Result<SqliteConnection, Error> {
    base(path).connect().await.map_err(|error| refused(path, &error))
}

/// Durable like the writer's, and never the one that makes the file.
pub(super) async fn beside(path: &Path) -> Result<SqliteConnection, Error> {
    let connect = base(path).synchronous(SqliteSynchronous::Full).foreign_keys(false);
    connect.connect().await.map_err(|error| refused(path, &error))
}

pub(super) async fn readers(
    path: &Path,
    options: &Options,
    read_only: bool,
) -> Result<SqlitePool, Error> {
    let connect = base(path).read_only(read_only).pragma("query_only", "ON");
    SqlitePoolOptions::new()
        .max_connections(options.connections_max.min(4))
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect)
        .await
        .map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &sqlx::Error) -> Error {
    match Error::from_sqlx(error) {
        Error::Other(text) => Error::Refused(format!("cannot open {}: {text}", path.display())),
        other => other,
    }
}
