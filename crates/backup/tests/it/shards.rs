//! Shards that are moved on by a person, and streams that are given up.

use muster_backup::shards::{gaps, give_up_stream, list, skip};
use muster_backup::{Error, Standing};
use muster_catalog::args;
use muster_testkit::TempCatalog;
use muster_types::{Pos, Shard};

use crate::kit::{Installation, LEASES};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_moved_on_and_the_gap_recorded() {
    for temp in TempCatalog::both().await.unwrap() {
        let here = Installation::new(temp).await;
        let catalog = here.catalog();
        let shard = Shard::new(1).unwrap();
        let gap = skip(catalog, shard, Pos(5000), "ana", "disk died").await.unwrap();
        assert_eq!((gap.from, gap.to), (Pos(1001), Pos(5000)));
        let stands: Vec<_> = list(catalog).await.unwrap().iter().map(|info| info.pos.0).collect();
        assert_eq!(stands, [1000, 5000, 1002]);
        assert_eq!(gaps(catalog).await.unwrap(), [gap]);
        // Only its holder has to take it anew.
        let leases = catalog.fetch_all(&LEASES, args![]).await.unwrap();
        let held: Vec<_> = leases
            .iter()
            .map(|row| row.get::<Option<uuid::Uuid>>("holder").unwrap().is_some())
            .collect();
        assert_eq!(held, [true, false, true]);
        let back = skip(catalog, shard, Pos(5000), "ana", "again").await;
        assert!(matches!(back, Err(Error::Refused(_))), "{back:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_stream_is_told_and_given_up_once() {
    for temp in TempCatalog::both().await.unwrap() {
        let fresh = Standing::read(&temp.catalog).await.unwrap();
        assert_eq!(fresh.new_stream().unwrap(), None, "nothing was folded yet");
        let here = Installation::new(temp).await;
        let standing = Standing::read(here.catalog()).await.unwrap();
        let refused = standing.new_stream().unwrap_err().to_string();
        assert!(refused.contains("muster shard skip --all"), "{refused}");
        assert_eq!(give_up_stream(here.catalog(), "ana", "disk died").await.unwrap(), 3);
        let standing = Standing::read(here.catalog()).await.unwrap();
        let floor = standing.new_stream().unwrap().unwrap();
        assert!(gaps(here.catalog()).await.unwrap().iter().all(|gap| gap.to == floor));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_statements_are_prepared_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let statements = muster_backup::statements();
        let problems = muster_catalog::check::problems(&temp.catalog, &statements).await.unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
