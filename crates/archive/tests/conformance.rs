//! The archive on its stores.

use std::sync::Arc;

use bytes::Bytes;
use muster_archive::{Archive, Error, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_folder_is_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/archive", dir.path().display());
    let archive = Archive::open(&url).unwrap();
    assert!(format!("{archive:?}").contains("fsync: true"), "{archive:?}");
    conformance::all(&archive).await;
    let reopened = Archive::open(&url).unwrap();
    assert!(!reopened.list("test").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_is_an_archive() {
    let archive = Archive::with_store(Arc::new(object_store::memory::InMemory::new()));
    conformance::all(&archive).await;
}

#[test]
fn other_urls_are_refused() {
    for url in ["ftp://host", "s3://", "s3:///prefix", "file://relative", "/no/url", ""] {
        assert!(matches!(Archive::open(url), Err(Error::Store(_))), "{url}");
    }
}

#[tokio::test]
async fn a_full_volume_says_so() {
    // A volume that is really full is not to be had in a test; a store that answers ENOSPC is.
    let archive = Archive::with_store(Arc::new(common::Faulty::full()));
    let put = archive.put_new("seg/v1/a", Bytes::from_static(b"x")).await;
    assert!(matches!(put, Err(Error::Full)), "{put:?}");
}

mod common;
