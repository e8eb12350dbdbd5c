//! Backups and restores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_archive::Pause;
use muster_archive::sweep::sweep_once;
use muster_backup::{Error, Standing, TakeOptions, Target, restore, take, verify};
use muster_catalog::{Catalog, Priority, args};
use muster_testkit::{S3, TempCatalog};
use muster_types::{ArchiveAccess, Pos};

use crate::kit::{Installation, LEASES, SECRET, SECRETS, SEQ, empty, everything, folder, objects};

muster_catalog::statements! {
    BOTH = "INSERT INTO feed (topic, seq) VALUES ('a', $1), ('b', $1)
        ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq";
    RETIRE = "INSERT INTO retired_object (object, retired_at, not_before, reason)
        VALUES ($1, 1, 1, 'test')";
}

fn options() -> TakeOptions {
    TakeOptions { program: "0.0.0-test".to_owned(), secret_key: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_into_either_database() {
    let dir = tempfile::tempdir().unwrap();
    for (from, temp) in TempCatalog::both().await.unwrap().into_iter().enumerate() {
        let old = Installation::new(temp).await;
        let backups = dir.path().join(format!("of-{from}"));
        // Beside the process that has the store, as people do.
        let beside = Catalog::open_beside(&old.temp.url).await.unwrap();
        let manifest = take(&beside, &old.archive, &backups, &options()).await.unwrap();
        assert_eq!(manifest.objects.count, 20 + 3 + 24);
        assert_eq!(manifest.objects.missing_count, 0);
        verify(&backups, None).unwrap();
        for to in [true, false] {
            let (catalog, home) = empty(to).await;
            let archive = folder(home.path());
            let target = Target { catalog: catalog.clone(), archive: Some(archive.clone()) };
            let (_, filled) = restore(&backups, Some(&manifest.id), &target).await.unwrap();
            assert_eq!(filled.rows, manifest.rows());
            assert_eq!(everything(&catalog).await, everything(old.catalog()).await);
            assert_eq!(objects(&archive).await, objects(&old.archive).await);
            arrived(&catalog).await;
            let again = restore(&backups, None, &target).await;
            assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
        }
    }
}

/// What is different in a restored installation.
async fn arrived(catalog: &Catalog) {
    let seq = |topic: &'static str| async move {
        let row = catalog.fetch_optional(&SEQ, args![topic]).await.unwrap().unwrap();
        row.get::<i64>("seq").unwrap()
    };
    assert_eq!(seq("number/agent").await, 100 + 4096 + 10, "numbers go on above");
    assert_eq!(seq("hunt").await, 5, "other feeds are as they were");
    for row in catalog.fetch_all(&LEASES, args![]).await.unwrap() {
        assert_eq!(row.get::<Option<uuid::Uuid>>("holder").unwrap(), None);
        assert_eq!(row.get::<i64>("epoch").unwrap(), 7, "terms go on");
    }
    let standing = Standing::read(catalog).await.unwrap();
    standing.check().unwrap();
    assert_eq!(standing.folded(), Pos(1002));
    let floor = standing.new_stream().unwrap().unwrap();
    assert!(floor > Pos(1 << 40));
    let gaps = muster_backup::shards::gaps(catalog).await.unwrap();
    let seen: Vec<_> = gaps.iter().map(|gap| (gap.shard.get(), gap.from, gap.to)).collect();
    assert_eq!(seen, [(0, Pos(1000), floor), (1, Pos(1001), floor), (2, Pos(1002), floor)]);
    assert!(gaps[0].reason.contains("restored from backup"), "{}", gaps[0].reason);
}

/// Its feeds give numbers out again, and hints that were sealed before it would fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_installation_does_not_believe_hints_of_its_former_life() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    old.run(&SECRET, args!["bus/hint/1", vec![7_u8; 60]]).await;
    let dir = tempfile::tempdir().unwrap();
    take(old.catalog(), &old.archive, dir.path(), &options()).await.unwrap();
    for to in [true, false] {
        let (catalog, home) = empty(to).await;
        let archive = Some(folder(home.path()));
        let target = Target { catalog: catalog.clone(), archive };
        restore(dir.path(), None, &target).await.unwrap();
        let rows = catalog.fetch_all(&SECRETS, args![]).await.unwrap();
        let names: Vec<String> = rows.iter().map(|row| row.get("name").unwrap()).collect();
        assert_eq!(names, ["ca/key"], "the next start makes another key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_backup_copies_what_is_new_and_both_can_be_restored() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    let first = take(old.catalog(), &old.archive, dir.path(), &options()).await.unwrap();
    assert_eq!(first.objects.copied, first.objects.count);
    old.segment(77).await;
    let key = old.temp.dir.path().join("secret.key");
    std::fs::write(&key, [9; 32]).unwrap();
    let with_key = TakeOptions { secret_key: Some(key), ..options() };
    let second = take(old.catalog(), &old.archive, dir.path(), &with_key).await.unwrap();
    assert_eq!((second.objects.count, second.objects.copied), (first.objects.count + 1, 1));
    let key = dir.path().join("backups").join(&second.id).join("secret.key");
    assert_eq!(std::fs::read(&key).unwrap(), [9; 32]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let ids: Vec<_> =
        muster_backup::backups(dir.path()).unwrap().into_iter().map(|m| m.id).collect();
    assert_eq!(ids, [first.id.clone(), second.id.clone()]);
    for manifest in [first, second] {
        let (catalog, home) = empty(false).await;
        let target = Target { catalog, archive: Some(folder(home.path())) };
        let (_, filled) = restore(dir.path(), Some(&manifest.id), &target).await.unwrap();
        assert_eq!(filled.objects, manifest.objects.count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_of_one_moment_while_others_write() {
    for temp in TempCatalog::both().await.unwrap() {
        let old = Installation::new(temp).await;
        let (catalog, stop) = (old.catalog().clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let writer = tokio::spawn(async move {
            for n in 1_i64.. {
                if stopped.load(Ordering::Relaxed) {
                    return n;
                }
                catalog.execute(Priority::Api, &BOTH, args![n]).await.unwrap();
            }
            0
        });
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            take(old.catalog(), &old.archive, dir.path(), &options()).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.await.unwrap() > 3);
        let (catalog, home) = empty(false).await;
        let target = Target { catalog: catalog.clone(), archive: Some(folder(home.path())) };
        restore(dir.path(), None, &target).await.unwrap();
        let seq = |topic: &'static str| {
            let catalog = catalog.clone();
            async move {
                let row = catalog.fetch_optional(&SEQ, args![topic]).await.unwrap();
                row.map(|row| row.get::<i64>("seq").unwrap())
            }
        };
        assert_eq!(seq("a").await, seq("b").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_while_a_copy_is_taken() {
    for temp in TempCatalog::both().await.unwrap() {
        let old = Installation::new(temp).await;
        old.put("seg/v1/2026-11-19/replaced", 1).await;
        old.run(&RETIRE, args!["seg/v1/2026-11-19/replaced"]).await;
        let beside = Catalog::open_beside(&old.temp.url).await.unwrap();
        let pause = Pause::begin(beside, "test").await.unwrap();
        let now = old.catalog().now().await.unwrap();
        assert_eq!(sweep_once(old.catalog(), &old.archive, now).await.unwrap(), 0);
        pause.end().await.unwrap();
        assert_eq!(sweep_once(old.catalog(), &old.archive, now).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_a_restore_that_was_cut_off_goes_on() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    let manifest = take(old.catalog(), &old.archive, dir.path(), &options()).await.unwrap();
    let object = dir.path().join("objects/upload/v1/2026-11-20/2-x-3");
    let whole = std::fs::read(&object).unwrap();
    let mut damaged = whole.clone();
    damaged[500] ^= 1;
    std::fs::write(&object, &damaged).unwrap();
    let told = verify(dir.path(), None).unwrap_err().to_string();
    assert!(told.contains("2-x-3 is damaged"), "{told}");

    let (catalog, home) = empty(false).await;
    let target = Target { catalog: catalog.clone(), archive: Some(folder(home.path())) };
    assert!(restore(dir.path(), None, &target).await.is_err());
    // Nothing may run on what is half there.
    let refused = Standing::read(&catalog).await.unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("was cut off; run it again"), "{refused}");
    std::fs::write(&object, &whole).unwrap();
    restore(dir.path(), None, &target).await.unwrap();
    assert_eq!(everything(&catalog).await, everything(old.catalog()).await);

    let table = dir.path().join("backups").join(&manifest.id).join("catalog/secret.jsonl.zst");
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&table, bytes).unwrap();
    assert!(verify(dir.path(), None).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_empty_stores_are_filled_and_only_folders_of_backups_are_used() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("something"), "else").unwrap();
    let refused = take(old.catalog(), &old.archive, dir.path(), &options()).await;
    assert!(refused.unwrap_err().to_string().contains("holds something else"));
    let backups = dir.path().join("backups");
    take(old.catalog(), &old.archive, &backups, &options()).await.unwrap();
    let target = Target { catalog: old.catalog().clone(), archive: Some(old.archive.clone()) };
    let refused = restore(&backups, None, &target).await;
    assert!(refused.unwrap_err().to_string().contains("is not empty"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_object_is_named_and_the_rest_is_kept() {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    old.archive.delete("seg/v1/2026-11-20/w-003").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let manifest = take(old.catalog(), &old.archive, dir.path(), &options()).await.unwrap();
    assert_eq!(manifest.objects.missing, ["seg/v1/2026-11-20/w-003"]);
    verify(dir.path(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_on_s3_is_backed_up_and_restored() {
    let server = S3::start().unwrap();
    let access = ArchiveAccess {
        endpoint: Some(server.endpoint()),
        access_key_id: Some(S3::ACCESS_KEY.to_owned()),
        secret_access_key: Some(S3::SECRET_KEY.to_owned()),
        allow_http: true,
        ..ArchiveAccess::default()
    };
    let open =
        |prefix: &str| muster_archive::Archive::open_with(&server.url(prefix), &access).unwrap();
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let there = open("one");
    for (name, bytes) in objects(&old.archive).await {
        there.put_new(&name, bytes).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    take(old.catalog(), &there, dir.path(), &options()).await.unwrap();
    let (catalog, _home) = empty(true).await;
    let back = open("two");
    let target = Target { catalog, archive: Some(back.clone()) };
    restore(dir.path(), None, &target).await.unwrap();
    assert_eq!(objects(&back).await, objects(&old.archive).await);
}
