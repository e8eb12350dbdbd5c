//! The store opens, migrates and keeps what was committed.
use muster_catalog::{Catalog, Options, Priority, args, statements};

statements! {
    LABEL = "INSERT INTO label (no, org, name, description, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, '', $4, 'x', $5, $6)";
    small NAMES = "SELECT no, name, deleted_at FROM label ORDER BY no";
}

#[tokio::test]
async fn keeps_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/catalog.db", dir.path().display());
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    catalog.migrate().await.unwrap();
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    let change = tx.bump("directory").await.unwrap();
    let now = tx.now().await.unwrap();
    tx.execute(&LABEL, args![1, 1, "servers", now, None::<i64>, change]).await.unwrap();
    tx.commit().await.unwrap();
    let dropped = catalog.begin(Priority::Api).await.unwrap();
    drop(dropped);
    catalog.execute(Priority::Intake, &LABEL, args![2, 1, "b", now, now, 2]).await.unwrap();
    let clash = catalog.execute(Priority::Intake, &LABEL, args![2, 1, "c", now, now, 2]).await;
    assert!(clash.unwrap_err().is_unique_violation());
    let refused = Catalog::open(&url, Options::default()).await.unwrap_err();
    assert!(refused.to_string().contains("in use by process"), "{refused}");
    let reading = Catalog::open_read_only(&url).await.unwrap();
    assert_eq!(reading.fetch_all(&NAMES, args![]).await.unwrap().len(), 2);
    assert!(reading.begin(Priority::Api).await.is_err());
    catalog.close().await;
    let again = Catalog::open(&url, Options::default()).await.unwrap();
    assert_eq!(again.fetch_all(&NAMES, args![]).await.unwrap().len(), 2);
    again.close().await;
}
