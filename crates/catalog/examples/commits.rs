//! How many small durable transactions SQLite's writer does in a second, and how that compares
//! with a bare connection that commits one by one.
//!
//! `cargo run --release -p muster-catalog --example commits [SECONDS] [FOLDER]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use muster_catalog::{Catalog, Error, Options, Priority, args, statements};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinSet;

statements! {
    PUT = "INSERT INTO idempotency (principal, key, request_hash, status, body, created_at)
        VALUES ('bench', $1, $2, 200, $3, 0)";
}

const BODY: [u8; 100] = [7; 100];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let time = Duration::from_secs(arguments.next().map_or(Ok(3), |text| text.parse())?);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let bare = bare(&dir.path().join("bare.db"), time).await?;
    println!("bare connection, one commit per row: {bare:.0}/s");

    let url = format!("sqlite://{}", dir.path().join("catalog.db").display());
    let started = Instant::now();
    let catalog = Catalog::open(&url, Options::default()).await?;
    catalog.migrate().await?;
    println!("open and migrate a new store: {:?}", started.elapsed());
    let next = Arc::new(AtomicI64::new(0));
    for callers in [1, 8, 64] {
        for in_transaction in [false, true] {
            let rate = rate(&catalog, &next, callers, in_transaction, time).await?;
            let how = if in_transaction { "begin, execute, commit" } else { "execute" };
            println!("{callers:3} callers, {how}: {rate:.0}/s, {:.2} of bare", rate / bare);
        }
    }
    catalog.close().await;
    let started = Instant::now();
    let catalog = Catalog::open(&url, Options::default()).await?;
    catalog.migrate().await?;
    println!("open it again: {:?}", started.elapsed());
    catalog.close().await;
    Ok(())
}

async fn bare(path: &std::path::Path, time: Duration) -> Result<f64, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    let table = "CREATE TABLE t (key TEXT PRIMARY KEY, hash BLOB, body BLOB) STRICT, WITHOUT ROWID";
    sqlx::query(table).execute(&mut connection).await?;
    let (started, mut n) = (Instant::now(), 0_u32);
    while started.elapsed() < time {
        let insert = sqlx::query("INSERT INTO t VALUES ($1, $2, $3)").bind(n.to_string());
        insert.bind(&BODY[..32]).bind(&BODY[..]).execute(&mut connection).await?;
        n += 1;
    }
    let rate = f64::from(n) / started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

async fn rate(
    catalog: &Catalog,
    next: &Arc<AtomicI64>,
    callers: u32,
    in_transaction: bool,
    time: Duration,
) -> Result<f64, Error> {
    let (started, before) = (Instant::now(), next.load(Ordering::Relaxed));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (catalog, next) = (catalog.clone(), next.clone());
        tasks.spawn(async move {
            while started.elapsed() < time {
                let key = next.fetch_add(1, Ordering::Relaxed).to_string();
                let args = args![key, &BODY[..32], &BODY[..]];
                if in_transaction {
                    let mut tx = catalog.begin(Priority::Api).await?;
                    tx.execute(&PUT, args).await?;
                    tx.commit().await?;
                } else {
                    catalog.execute(Priority::Api, &PUT, args).await?;
                }
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::Other(error.to_string()))??;
    }
    let done = next.load(Ordering::Relaxed) - before;
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
