//! The catalog's promises, on both databases.

use muster_catalog::{Catalog, Options, conformance};
use muster_testkit::{Postgres, TempCatalog};

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let temp = super::TempCatalog::sqlite().await.unwrap();
                super::conformance::$name(&temp.catalog).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let temp = super::TempCatalog::postgres().await.unwrap();
                super::conformance::$name(&temp.catalog).await;
            })*
        }
    };
}

on_both! {
    types_round_trip nulls big_values keyset_order_is_byte_order unique_violation rollback time
    feed_order_is_commit_order compare_and_set_loses_nothing numbers_are_taken_once
}

#[tokio::test]
async fn durable_after_reopen() {
    for temp in TempCatalog::both().await.unwrap() {
        let open = async || Catalog::open(&temp.url, Options::default()).await.unwrap();
        conformance::durable_after_reopen(temp.catalog.clone(), open).await;
    }
}

#[tokio::test]
async fn migrates_once() {
    let url = Postgres::start().unwrap().database().unwrap();
    let open = async || Catalog::open(&url, Options::default()).await.unwrap();
    conformance::migrates_once(open).await;
    // A SQLite store has one writing process: there it is one catalog asked thrice.
    let temp = TempCatalog::sqlite().await.unwrap();
    conformance::migrates_once(async || temp.catalog.clone()).await;
}
