//! What a catalog promises, as test functions. Each takes a fresh, migrated catalog and panics
//! with the reason when a promise is broken. Run on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests")]

mod concurrent;
mod values;

pub use concurrent::{
    compare_and_set_loses_nothing, feed_order_is_commit_order, numbers_are_taken_once,
};
pub use values::{big_values, keyset_order_is_byte_order, nulls, types_round_trip};

use crate::{Catalog, Priority, args};

crate::statements! {
    INSERT = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, $3)";
    GET = "SELECT name, sealed, created_at FROM secret WHERE name = $1";
    small COUNT = "SELECT count(*) AS n FROM secret";
}

pub(crate) const ALL: &[&[&crate::Statement]] =
    &[STATEMENTS, concurrent::STATEMENTS, values::STATEMENTS];

async fn count(catalog: &Catalog) -> i64 {
    catalog.fetch_optional(&COUNT, args![]).await.unwrap().unwrap().get("n").unwrap()
}

/// A clash is told as such, and spoils its transaction and no other.
pub async fn unique_violation(catalog: &Catalog) {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&INSERT, args!["one", b"a", 1]).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&INSERT, args!["two", b"b", 1]).await.unwrap();
    let clash = tx.execute(&INSERT, args!["one", b"b", 1]).await.unwrap_err();
    assert!(clash.is_unique_violation() && !clash.is_retryable(), "{clash:?}");
    assert!(tx.execute(&INSERT, args!["three", b"c", 1]).await.is_err(), "spent");
    assert!(tx.commit().await.is_err(), "a spent transaction commits");
    assert_eq!(count(catalog).await, 1);

    let clash = catalog.execute(Priority::Api, &INSERT, args!["one", b"b", 1]).await.unwrap_err();
    assert!(clash.is_unique_violation(), "{clash:?}");
}

/// What is not committed has not happened.
pub async fn rollback(catalog: &Catalog) {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&INSERT, args!["dropped", b"", 1]).await.unwrap();
    drop(tx);
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&INSERT, args!["rolled back", b"", 1]).await.unwrap();
    assert!(tx.fetch_optional(&GET, args!["rolled back"]).await.unwrap().is_some());
    assert!(catalog.fetch_optional(&GET, args!["rolled back"]).await.unwrap().is_none());
    tx.rollback().await;
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&INSERT, args!["half", b"", 1]).await.unwrap();
    let dropped_half_way = {
        let mut half = std::pin::pin!(tx.execute(&INSERT, args!["way", b"", 1]));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        half.as_mut().poll(&mut context).is_pending()
    };
    if dropped_half_way {
        assert!(tx.commit().await.is_err(), "a statement's outcome is unknown, yet it commits");
    } else {
        drop(tx);
    }
    assert_eq!(count(catalog).await, 0);
}

/// What is committed is there after a restart.
pub async fn durable_after_reopen(catalog: Catalog, open: impl AsyncFn() -> Catalog) {
    catalog.execute(Priority::Api, &INSERT, args!["kept", b"x", 7]).await.unwrap();
    let mut tx = catalog.begin(Priority::Presence).await.unwrap();
    tx.execute(&INSERT, args!["kept too", b"y", 8]).await.unwrap();
    tx.commit().await.unwrap();
    let mut open_at_the_end = catalog.begin(Priority::Api).await.unwrap();
    open_at_the_end.execute(&INSERT, args!["lost", b"z", 9]).await.unwrap();
    drop(open_at_the_end);
    catalog.close().await;
    assert!(catalog.begin(Priority::Api).await.unwrap_err().is_retryable(), "closed");

    let catalog = open().await;
    catalog.migrate().await.unwrap();
    assert_eq!(count(&catalog).await, 2);
    let row = catalog.fetch_optional(&GET, args!["kept"]).await.unwrap().unwrap();
    assert_eq!(row.get::<Vec<u8>>("sealed").unwrap(), b"x");
    catalog.close().await;
}

/// Any number of processes may migrate at once; one does.
pub async fn migrates_once(open: impl AsyncFn() -> Catalog) {
    let catalogs = [open().await, open().await, open().await];
    let [a, b, c] = &catalogs;
    let (a, b, c) = tokio::join!(a.migrate(), b.migrate(), c.migrate());
    a.and(b).and(c).unwrap();
    assert_eq!(count(&catalogs[0]).await, 0);
}

/// Database time moves on and is the same kind of time everywhere.
pub async fn time(catalog: &Catalog) {
    let outside = catalog.now().await.unwrap();
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    let inside = tx.now().await.unwrap();
    tx.commit().await.unwrap();
    assert!(inside >= outside && outside.seconds() > 1_700_000_000, "{outside:?} {inside:?}");
}
