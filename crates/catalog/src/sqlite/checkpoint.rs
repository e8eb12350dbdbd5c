//! Carries what is committed from SQLite's log into the store, beside the writer.
//!
//! Left to itself SQLite does this within the commit that makes the log a thousand pages long, and
//! whoever waits for that commit waits for two more flushes of the disk. On a connection of its own
//! it holds nobody up: a passive checkpoint takes no lock that the writer or readers need.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{connect, run};
use crate::Error;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);
/// With so many commits since the last time it is done at once.
const COMMITS: u64 = 64;
/// With fewer it is done this long after.
const AFTER: Duration = Duration::from_secs(30);

/// Runs until `closing`. What is left then the closing of the last connection does.
pub(super) async fn start(
    mut connection: SqliteConnection,
    commits: Arc<AtomicU64>,
    mut closing: watch::Receiver<bool>,
) {
    let (mut done, mut at) = (0, Instant::now());
    loop {
        tokio::select! {
            changed = closing.changed() => if changed.is_err() || *closing.borrow() { break },
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = commits.load(Ordering::Relaxed);
        let due = now - done >= COMMITS || (now > done && at.elapsed() >= AFTER);
        if !due {
            continue;
        }
        match run(&mut connection, "PRAGMA wal_checkpoint(PASSIVE)").await {
            Ok(()) => done = now,
            // A full disk, mostly: the log keeps what is committed, and it is tried again.
            Err(error) => tracing::warn!(%error, "the catalog's log cannot be carried over now"),
        }
        at = Instant::now();
    }
    if let Err(error) = sqlx::Connection::close(connection).await {
        tracing::debug!(%error, "closing the checkpoint's connection failed");
    }
}

pub(super) async fn open(path: &Path) -> Result<SqliteConnection, Error> {
    connect::checkpoint(path).await
}
