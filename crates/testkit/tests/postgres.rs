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

#[test]
fn a_server_stops_in_every_way_and_comes_back() {
    let server = Postgres::own().unwrap();
    server.sql("CREATE TABLE kept (n INTEGER)").unwrap();
    server.sql("INSERT INTO kept VALUES (1)").unwrap();
    server.stop().unwrap();
    assert!(server.sql("SELECT 1").is_err());
    server.restart().unwrap();
    server.sql("INSERT INTO kept VALUES (2)").unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    server.pause().unwrap();
    assert!(server.sql("SELECT 1").is_err(), "paused, it answers nobody");
    server.resume().unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM kept").unwrap(), "2");
    server.restart().unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM kept").unwrap(), "2");
}

#[test]
fn a_standby_has_all_that_was_acknowledged() {
    let primary = Postgres::own().unwrap();
    let standby = primary.standby().unwrap();
    assert_eq!(standby.sql("SELECT pg_is_in_recovery()").unwrap(), "t");
    primary.sql("CREATE TABLE kept (n INTEGER)").unwrap();
    for n in 0..20 {
        primary.sql(&format!("INSERT INTO kept VALUES ({n})")).unwrap();
    }
    primary.kill().unwrap();
    standby.promote().unwrap();
    assert_eq!(standby.sql("SELECT count(*) FROM kept").unwrap(), "20");
    standby.sql("INSERT INTO kept VALUES (20)").unwrap();
}
