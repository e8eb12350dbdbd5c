//! The manifest on both databases.

mod common;

use std::ops::RangeInclusive;

use common::{NOON, ORG, flush, parts, values};
use muster_archive::manifest::{self, PartFilter};
use muster_archive::{Archive, Error};
use muster_catalog::{Priority, args};
use muster_results::{ColumnDecl, ColumnType, RowClass};
use muster_testkit::TempCatalog;
use muster_types::{AgentNo, HuntNo, Timestamp};
use uuid::Uuid;

fn archive() -> Archive {
    Archive::with_store(common::Faulty::never())
}

#[tokio::test]
async fn statements_prepare_and_scan_nothing() {
    for store in TempCatalog::both().await.unwrap() {
        let statements = muster_archive::statements();
        let problems = muster_catalog::check::problems(&store.catalog, &statements).await.unwrap();
        assert_eq!(problems, Vec::<String>::new(), "{:?}", store.catalog.database());
    }
}

#[tokio::test]
async fn parts_are_pruned_by_their_ranges() {
    for store in TempCatalog::both().await.unwrap() {
        let (catalog, archive) = (&store.catalog, archive());
        let class = RowClass::Collected;
        let later = Timestamp(NOON.0 + 5_000_000);
        flush(catalog, &archive, NOON, &[("t", class, 1, 7, 1), ("t", class, 4, 9, 2)]).await;
        flush(catalog, &archive, later, &[("t", class, 10, 12, 3), ("u", class, 1, 0, 4)]).await;
        let found = async |filter: PartFilter| {
            manifest::parts_of(catalog, ORG, "T", &filter).await.unwrap().len()
        };
        let all = PartFilter::default();
        assert_eq!(found(all.clone()).await, 2);
        let agent = |range: RangeInclusive<u32>| PartFilter {
            agent: AgentNo(*range.start())..=AgentNo(*range.end()),
            ..PartFilter::default()
        };
        assert_eq!(found(agent(2..=3)).await, 1);
        assert_eq!(found(agent(5..=9)).await, 0);
        let hunt = |n| PartFilter { hunt: HuntNo(n)..=HuntNo(n), ..PartFilter::default() };
        assert_eq!(found(hunt(8)).await, 1);
        assert_eq!(found(hunt(11)).await, 0);
        let received = NOON..=Timestamp(NOON.0 + 1);
        assert_eq!(found(PartFilter { received, ..all }).await, 1);
        assert_eq!(manifest::tables(catalog, ORG).await.unwrap(), ["t", "u"]);
        let part = &parts(catalog, "u").await[0];
        assert_eq!((part.part, part.level, part.info.row_count), (1, 0, 1));
        assert_eq!((part.info.class, part.info.day), (class, NOON.day()));
    }
}

#[tokio::test]
async fn columns_widen_in_any_order_and_keep_their_place() {
    use ColumnType::{Float, Int, Json, Text, Time};
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let add = async |kinds: &[(&str, ColumnType)]| {
            let object = muster_archive::segment_name(1, "x");
            let archive = archive();
            flush(catalog, &archive, NOON, &[("p", RowClass::Collected, 1, 1, 1)]).await;
            let mut part = parts(catalog, "p").await[0].info.clone();
            part.table = "c".into();
            part.columns = kinds
                .iter()
                .map(|(name, kind)| ColumnDecl { name: (*name).into(), kind: *kind })
                .collect();
            let mut tx = catalog.begin(Priority::Intake).await.unwrap();
            manifest::add_segment(&mut tx, &object, 0, "x", NOON, 1, &[part]).await.unwrap();
            tx.commit().await.unwrap();
        };
        add(&[("Zeta", Int), ("Alpha", Int), ("when", Time)]).await;
        add(&[("ALPHA", Float), ("zeta", Int), ("when", Int)]).await;
        add(&[("alpha", Int), ("new", Text), ("zeta", Json)]).await;
        add(&[("alpha", Int)]).await;
        let columns = manifest::columns(catalog, ORG, "c").await.unwrap();
        let columns: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        let wanted = [("zeta", Json), ("alpha", Float), ("new", Text), ("when", Text)];
        assert_eq!(columns, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_widen_at_once() {
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let archive = archive();
        let writer = |n: u32| {
            let archive = archive.clone();
            async move {
                for m in 0..10 {
                    let rows = [("t", RowClass::Collected, n, 1, i64::from(m))];
                    flush(catalog, &archive, NOON, &rows).await;
                }
            }
        };
        futures_util::future::join_all((0..8).map(writer)).await;
        assert_eq!(values(catalog, &archive, "t").await.len(), 80);
        assert_eq!(manifest::columns(catalog, ORG, "t").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn only_parts_that_are_there_are_replaced() {
    for store in TempCatalog::both().await.unwrap() {
        let (catalog, archive) = (&store.catalog, archive());
        let class = RowClass::Collected;
        let object =
            flush(catalog, &archive, NOON, &[("t", class, 1, 1, 1), ("u", class, 1, 1, 2)]).await;
        let old = parts(catalog, "t").await;
        let replace = async || {
            let mut tx = catalog.begin(Priority::Intake).await.unwrap();
            let done = manifest::replace(&mut tx, &old, None, NOON, "test").await;
            match done {
                Ok(retired) => tx.commit().await.map(|()| retired).map_err(Error::from),
                Err(error) => Err(error),
            }
        };
        assert_eq!(replace().await.unwrap(), Vec::<String>::new(), "the other part is there");
        assert!(matches!(replace().await, Err(Error::Stale)));
        assert_eq!(values(catalog, &archive, "u").await, [2]);
        let other = parts(catalog, "u").await;
        let mut tx = catalog.begin(Priority::Intake).await.unwrap();
        let retired = manifest::replace(&mut tx, &other, None, NOON, "test").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(retired, [object]);
    }
}

#[tokio::test]
async fn holds_keep_what_is_not_due() {
    for store in TempCatalog::both().await.unwrap() {
        let (catalog, archive) = (&store.catalog, archive());
        let object = flush(catalog, &archive, NOON, &[("t", RowClass::Collected, 1, 1, 1)]).await;
        let old = parts(catalog, "t").await;
        let minute = |n: i64| Timestamp(NOON.0 + n * 60_000_000);
        let id = Uuid::now_v7();
        let names = [object.clone()];
        let hold = async |id, now, until| {
            manifest::hold(catalog, id, &names, "test", now, until).await.unwrap()
        };
        assert!(hold(id, minute(0), minute(60)).await);
        let mut tx = catalog.begin(Priority::Intake).await.unwrap();
        manifest::replace(&mut tx, &old, None, minute(30), "test").await.unwrap();
        tx.commit().await.unwrap();
        let sweep = async |at| muster_archive::sweep::sweep_once(catalog, &archive, at).await;
        assert_eq!(sweep(minute(10)).await.unwrap(), 0, "not due");
        assert!(hold(Uuid::now_v7(), minute(29), minute(40)).await);
        assert!(!hold(Uuid::now_v7(), minute(30), minute(90)).await, "may be gone already");
        assert_eq!(sweep(minute(45)).await.unwrap(), 0, "held");
        assert_eq!(common::read(&archive, &old).await, [1]);
        manifest::release(catalog, id).await.unwrap();
        assert_eq!(sweep(minute(46)).await.unwrap(), 1);
        assert!(matches!(archive.get(&object).await, Err(Error::NotFound(_))));
        assert_eq!(sweep(minute(47)).await.unwrap(), 0);
        let rows = catalog
            .fetch_all(
                &muster_catalog::Statement {
                    name: "HOLDS",
                    sqlite: "SELECT id FROM segment_hold",
                    postgres: "SELECT id FROM segment_hold",
                    scans: true,
                },
                args![],
            )
            .await
            .unwrap();
        assert!(rows.is_empty(), "holds that ran out are forgotten");
    }
}
