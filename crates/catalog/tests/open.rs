//! Which stores are refused, and what is said then; what a lost connection looks like.

use muster_catalog::{Catalog, Error, Options, Priority, args, statements};
use muster_testkit::{Postgres, TempCatalog};

statements! {
    NEWER = "INSERT INTO schema_migration (version, name, hash, applied_at, kind, reader_level)
        VALUES (9999, 'later', 'x', 1, 'contract', 1000)";
    OTHER = "UPDATE schema_migration SET hash = 'other' WHERE version = 1";
    RESHARD = "UPDATE install SET shards = 32 WHERE id = 1";
    ONE = "SELECT 1 AS one";
}

async fn refusal(url: &str) -> String {
    let mut options = Options::default();
    if url.starts_with("sqlite") {
        // How long it waits for the lock of another process; elsewhere, for a connection.
        options.acquire_timeout = std::time::Duration::from_millis(50);
    }
    match Catalog::open(url, options).await {
        Err(Error::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stores_of_others_are_refused() {
    for (change, says) in [
        (NEWER, "asks for programs of level 1000 since migration later"),
        (OTHER, "another text of migration 0001_spine"),
        (RESHARD, "made with 32 shards and layout 1"),
    ] {
        for temp in TempCatalog::both().await.unwrap() {
            temp.catalog.execute(Priority::Api, &change, args![]).await.unwrap();
            assert!(temp.catalog.migrate().await.is_err());
            temp.catalog.close().await;
            let text = refusal(&temp.url).await;
            assert!(text.contains(says), "{text}");
        }
    }
}

#[tokio::test]
async fn one_process_writes_to_a_sqlite_store() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let text = refusal(&temp.url).await;
    let me = std::process::id();
    assert!(text.contains(&format!("in use by process {me}; stop it first")), "{text}");

    let reader = Catalog::open_read_only(&temp.url).await.unwrap();
    assert!(reader.fetch_optional(&ONE, args![]).await.unwrap().is_some());
    assert!(reader.begin(Priority::Api).await.is_err());
    assert!(reader.execute(Priority::Api, &RESHARD, args![]).await.is_err());
    reader.close().await;
    temp.catalog.close().await;
    let alone = Catalog::open_read_only(&temp.url).await.unwrap();
    assert!(alone.fetch_optional(&ONE, args![]).await.unwrap().is_some());
    alone.close().await;
    Catalog::open(&temp.url, Options::default()).await.unwrap().close().await;
    let missing = Catalog::open_read_only("sqlite:///nowhere/at/all.db").await;
    assert!(matches!(missing, Err(Error::Refused(_))), "{missing:?}");
}

#[tokio::test]
async fn reading_never_writes() {
    for temp in TempCatalog::both().await.unwrap() {
        let reader = Catalog::open_read_only(&temp.url).await.unwrap();
        assert!(reader.fetch_all(&RESHARD, args![]).await.is_err());
    }
    let temp = TempCatalog::sqlite().await.unwrap();
    assert!(temp.catalog.fetch_all(&RESHARD, args![]).await.is_err());
}

#[tokio::test]
async fn urls_are_judged() {
    assert!(refusal("mysql://x").await.contains("must begin with sqlite:// or postgres://"));
    assert!(refusal("sqlite://relative.db").await.contains("is not absolute"));
    assert!(refusal("sqlite:///nowhere/at/all.db").await.contains("cannot open"));
}

#[tokio::test]
async fn a_lost_connection_may_be_retried() {
    let temp = TempCatalog::postgres().await.unwrap();
    let server = Postgres::start().unwrap();
    let name = temp.url.rsplit('/').next().unwrap();
    let kill =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    let mut tx = temp.catalog.begin(Priority::Api).await.unwrap();
    tx.bump("x").await.unwrap();
    server.sql(&kill).unwrap();
    let lost = tx.bump("x").await.unwrap_err();
    assert!(lost.is_retryable(), "{lost:?}");
    drop(tx);
    assert!(temp.catalog.fetch_optional(&ONE, args![]).await.unwrap().is_some());

    let down = Catalog::open(
        "postgres://localhost:1/none",
        Options { acquire_timeout: std::time::Duration::from_millis(200), ..Options::default() },
    );
    assert!(down.await.unwrap_err().is_retryable());
}
