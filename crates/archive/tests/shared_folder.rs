//! One folder, as on NFS, and two processes that write, merge and delete in it at once.

use std::process::{Command, Stdio};
use std::time::Duration;

use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::sweep::{OrphanOptions, orphans_once, sweep_once};
use muster_archive::{Archive, Error};
use muster_catalog::{Catalog, Options};
use muster_results::RowClass;
use muster_testkit::TempCatalog;

mod common;

const CATALOG: &str = "SHARED_FOLDER_CATALOG";
const ARCHIVE: &str = "SHARED_FOLDER_ARCHIVE";
const FIRST: &str = "SHARED_FOLDER_FIRST";
const ROUNDS: i64 = 30;

/// One of the two: writes a row per round and merges and deletes what it can, from whomever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(url) = std::env::var(CATALOG) else { return };
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    let archive = Archive::open(&std::env::var(ARCHIVE).unwrap()).unwrap();
    let first: i64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let options = CompactOptions {
        min_age: Duration::ZERO,
        min_parts: 2,
        max_age: Duration::ZERO,
        grace: Duration::ZERO,
        ..CompactOptions::default()
    };
    let orphans = OrphanOptions { days: 2, ..OrphanOptions::default() };
    for n in 0..ROUNDS {
        let now = catalog.now().await.unwrap();
        let row = ("t", RowClass::Collected, 1, 1, first + n);
        common::flush(&catalog, &archive, now, &[row]).await;
        match compact_once(&catalog, &archive, &options, now).await {
            // The other one was faster: at the manifest, or at deleting what was read.
            Ok(_) | Err(Error::Stale | Error::NotFound(_)) => {}
            Err(Error::Catalog(error)) if error.is_retryable() => {}
            Err(error) => panic!("{error}"),
        }
        sweep_once(&catalog, &archive, now).await.unwrap();
        if n % 10 == 0 {
            orphans_once(&catalog, &archive, &orphans, now).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_folder() {
    let temp = TempCatalog::postgres().await.unwrap();
    let url = format!("file://{}/archive", temp.dir.path().display());
    let start = |first: i64| {
        Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CATALOG, &temp.url)
            .env(ARCHIVE, &url)
            .env(FIRST, first.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children = [start(0), start(1000)];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let archive = Archive::open(&url).unwrap();
    let wanted: Vec<i64> = (0..ROUNDS).chain(1000..1000 + ROUNDS).collect();
    assert_eq!(common::values(&temp.catalog, &archive, "t").await, wanted);
    // Nothing is left over but what a merge that lost has written, which is an orphan of today.
    let parts = common::parts(&temp.catalog, "t").await;
    let merged = parts.iter().filter(|part| part.level > 0).count();
    assert!(merged > 0, "{} parts, none merged", parts.len());
    let left = archive.list("seg").await.unwrap();
    assert!(left.len() >= parts.len());
}
