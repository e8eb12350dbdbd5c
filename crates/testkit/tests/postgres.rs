//! The server starts, answers on its own socket, and gives every caller a database.

use muster_testkit::{Postgres, TempCatalog};

#[test]
fn a_database_per_call() {
    let server = Postgres::start().unwrap();
    let (one, two) = (server.database().unwrap(), server.database().unwrap());
    assert_ne!(one, two);
    let made = server.sql("SELECT count(*) >= 2 FROM pg_database WHERE datname LIKE 'test_%'");
    assert_eq!(made.unwrap(), "t");
}

#[tokio::test]
async fn both_catalogs_open() {
    for catalog in TempCatalog::both().await.unwrap() {
        catalog.catalog.now().await.unwrap();
    }
}
