//! Removing old backups.

use std::path::Path;

use muster_backup::{Error, Manifest, TakeOptions, Target, prune, restore, surplus, take, verify};
use muster_testkit::TempCatalog;

use crate::kit::{Installation, empty, everything, folder, objects};

muster_catalog::statements! {
    FORGET = "DELETE FROM segment WHERE object = $1";
}

/// Three backups: of the first segments, with one more, and without some that both others have.
async fn three(dir: &Path) -> (Installation, Vec<Manifest>) {
    let old = Installation::new(TempCatalog::sqlite().await.unwrap()).await;
    let options = TakeOptions { program: "0.0.0-test".to_owned(), secret_key: None };
    let mut taken = vec![take(old.catalog(), &old.archive, dir, &options).await.unwrap()];
    old.segment(77).await;
    taken.push(take(old.catalog(), &old.archive, dir, &options).await.unwrap());
    for n in 0..5 {
        let name = format!("seg/v1/2026-11-20/w-{n:03}");
        old.run(&FORGET, muster_catalog::args![name.as_str()]).await;
        old.archive.delete(&name).await.unwrap();
    }
    taken.push(take(old.catalog(), &old.archive, dir, &options).await.unwrap());
    (old, taken)
}

fn ids(dir: &Path) -> Vec<String> {
    muster_backup::backups(dir).unwrap().into_iter().map(|manifest| manifest.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_kept_backup_needs_goes_and_the_kept_ones_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (old, taken) = three(dir.path()).await;
    let segments = dir.path().join("objects/seg/v1/2026-11-20");
    // What was cut off is swept up too.
    std::fs::write(segments.join("w-099.part"), "half").unwrap();

    assert_eq!(surplus(dir.path(), 2).unwrap(), taken[..1]);
    let pruned = prune(dir.path(), 2).unwrap();
    assert_eq!((pruned.backups, pruned.objects), (vec![taken[0].id.clone()], 1));
    verify(dir.path(), Some(&taken[1].id)).unwrap();
    verify(dir.path(), Some(&taken[2].id)).unwrap();

    let pruned = prune(dir.path(), 1).unwrap();
    assert_eq!((pruned.backups, pruned.objects), (vec![taken[1].id.clone()], 5));
    assert_eq!(pruned.bytes, (1000..1005).sum::<u64>());
    assert_eq!(ids(dir.path()), [taken[2].id.clone()]);
    assert!(!segments.join("w-000").exists() && segments.join("w-005").exists());
    let (catalog, home) = empty(false).await;
    let archive = folder(home.path());
    let target = Target { catalog: catalog.clone(), archive: Some(archive.clone()) };
    restore(dir.path(), None, &target).await.unwrap();
    assert_eq!(everything(&catalog).await, everything(old.catalog()).await);
    assert_eq!(objects(&archive).await, objects(&old.archive).await);

    let pruned = prune(dir.path(), 1).unwrap();
    assert_eq!((pruned.backups.len(), pruned.objects), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_cut_off_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_old, taken) = three(dir.path()).await;
    // The names are gone, the objects are not.
    for manifest in &taken[..2] {
        let backup = dir.path().join("backups").join(&manifest.id);
        std::fs::rename(&backup, backup.with_extension("partial")).unwrap();
    }
    let pruned = prune(dir.path(), 1).unwrap();
    assert_eq!((pruned.backups.len(), pruned.objects), (0, 5));
    assert_eq!(std::fs::read_dir(dir.path().join("backups")).unwrap().count(), 1);
    verify(dir.path(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_while_a_backup_is_taken_or_a_list_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_old, taken) = three(dir.path()).await;
    let refused = |keep| prune(dir.path(), keep).unwrap_err().to_string();
    assert!(refused(0).contains("at least one"));
    {
        let _taking = muster_backup::Folder::open(dir.path()).unwrap();
        assert!(refused(1).contains("another backup"), "{}", refused(1));
    }
    let list = dir.path().join("backups").join(&taken[2].id).join("objects.jsonl.zst");
    let whole = std::fs::read(&list).unwrap();
    let other = dir.path().join("backups").join(&taken[1].id).join("objects.jsonl.zst");
    std::fs::copy(other, &list).unwrap();
    assert!(matches!(prune(dir.path(), 1), Err(Error::Damaged { .. })));
    assert_eq!(ids(dir.path()).len(), 3);
    std::fs::write(&list, whole).unwrap();
    for manifest in &taken {
        verify(dir.path(), Some(&manifest.id)).unwrap();
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(prune(nothing.path(), 1).is_err());
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}
