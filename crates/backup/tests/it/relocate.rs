//! Moving to other stores.

use muster_backup::{Relocation, Standing, Target, relocate};
use muster_testkit::TempCatalog;
use muster_types::Pos;

use crate::kit::{Installation, empty, everything, folder, objects};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_are_moved_and_the_old_ones_say_so() {
    for temp in TempCatalog::both().await.unwrap() {
        let old = Installation::new(temp).await;
        let before = everything(old.catalog()).await;
        let (catalog, home) = empty(true).await;
        let archive = folder(home.path());
        let target = Target { catalog: catalog.clone(), archive: Some(archive.clone()) };
        let done = relocate(old.catalog(), &old.archive, &target, "postgres://…@new/db").await;
        let Relocation::Done(filled) = done.unwrap() else { panic!("it was not moved before") };
        assert_eq!(filled.objects, 20 + 3 + 24);
        assert_eq!(everything(&catalog).await, before);
        assert_eq!(objects(&archive).await, objects(&old.archive).await);
        let standing = Standing::read(&catalog).await.unwrap();
        standing.check().unwrap();
        assert!(standing.new_stream().unwrap().unwrap() > Pos(1002));
        assert!(muster_backup::shards::gaps(&catalog).await.unwrap().is_empty(), "nothing is lost");
        let left = Standing::read(old.catalog()).await.unwrap().check().unwrap_err().to_string();
        assert!(left.contains("was moved to postgres://…@new/db"), "{left}");
        let again = relocate(old.catalog(), &old.archive, &target, "x").await.unwrap();
        assert_eq!(again, Relocation::Before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cut_off_goes_on() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let (catalog, home) = empty(true).await;
    let archive = folder(home.path());
    // Somebody else's object is in the way of the last one.
    let last = "upload/v1/2026-11-20/2-x-9";
    archive.put_new(last, bytes::Bytes::from_static(b"other")).await.unwrap();
    let target = Target { catalog: catalog.clone(), archive: Some(archive.clone()) };
    let refused = relocate(old.catalog(), &old.archive, &target, "x").await.unwrap_err();
    assert!(refused.to_string().contains("another object upload/v1/2026-11-20/2-x-9"), "{refused}");
    assert!(Standing::read(&catalog).await.unwrap().check().is_err(), "half there");
    Standing::read(old.catalog()).await.unwrap().check().unwrap();
    // The old installation worked on meanwhile.
    archive.delete(last).await.unwrap();
    old.segment(99).await;
    relocate(old.catalog(), &old.archive, &target, "x").await.unwrap();
    assert_eq!(everything(&catalog).await, everything(old.catalog()).await);
    assert_eq!(objects(&archive).await, objects(&old.archive).await);
    // Another installation is not moved into what is this one's now.
    let other = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    assert!(relocate(other.catalog(), &other.archive, &target, "x").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_installation_is_not_moved() {
    let old = Installation::new(TempCatalog::postgres().await.unwrap()).await;
    old.instance(i64::MAX).await;
    let (catalog, home) = empty(false).await;
    let target = Target { catalog, archive: Some(folder(home.path())) };
    let refused = relocate(old.catalog(), &old.archive, &target, "x").await.unwrap_err();
    assert_eq!(refused.to_string(), "stop these instances first: alive-1");
}
