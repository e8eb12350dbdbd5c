//! The archive on a real S3 server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_archive::{Archive, Error, conformance};
use muster_testkit::S3;
use muster_types::ArchiveAccess;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn access(endpoint: String) -> ArchiveAccess {
    ArchiveAccess {
        endpoint: Some(endpoint),
        access_key_id: Some(S3::ACCESS_KEY.to_owned()),
        secret_access_key: Some(S3::SECRET_KEY.to_owned()),
        allow_http: true,
        ..ArchiveAccess::default()
    }
}

fn open(server: &S3, prefix: &str) -> Archive {
    Archive::open_with(&server.url(prefix), &access(server.endpoint())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_is_an_archive() {
    let server = S3::start().unwrap();
    let archive = open(&server, "");
    archive.probe().await.unwrap();
    assert!(archive.list("probe").await.unwrap().is_empty());
    conformance::all(&archive).await;
    // Two installations in one bucket do not see each other.
    let (one, two) = (open(&server, "one"), open(&server, "two/deep"));
    conformance::all(&one).await;
    two.put_new("seg/v1/a", Bytes::from_static(b"two")).await.unwrap();
    assert!(matches!(one.get("seg/v1/a").await, Err(Error::NotFound(_))));
    assert_eq!(archive.get("two/deep/seg/v1/a").await.unwrap(), "two");
    assert_eq!(two.size("seg/v1/a").await.unwrap(), Some(3));
    assert_eq!(one.size("seg/v1/a").await.unwrap(), None);
    assert!(!format!("{one:?}").contains(S3::SECRET_KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_more_than_a_page_is_listed_whole() {
    let server = S3::start().unwrap();
    let archive = open(&server, "many");
    let puts = (0..1100).map(|n| {
        let archive = archive.clone();
        async move { archive.put_new(&format!("seg/v1/day/{n:04}"), Bytes::new()).await }
    });
    let mut puts = futures_util::stream::iter(puts);
    futures_util::StreamExt::for_each_concurrent(&mut puts, 16, |put| async { put.await.unwrap() })
        .await;
    assert_eq!(archive.list("seg/v1/day").await.unwrap().len(), 1100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_told_in_bounded_time() {
    let mut server = S3::start().unwrap();
    let archive = open(&server, "");
    let name = "seg/v1/away";
    archive.put_new("seg/v1/there", Bytes::from_static(b"there")).await.unwrap();
    server.kill().unwrap();
    let away = Instant::now();
    let put = archive.put_new(name, Bytes::from_static(b"x")).await;
    assert!(put.as_ref().is_err_and(Error::is_retryable), "{put:?}");
    println!("a dead store was told after {:?}", away.elapsed());
    // What was durable before it died is there when it is back, and the next call works.
    server.restart().unwrap();
    assert_eq!(archive.get("seg/v1/there").await.unwrap(), "there");
    archive.put_new(name, Bytes::from_static(b"x")).await.unwrap();

    server.pause().unwrap();
    let paused = Instant::now();
    let (put, get, list) = tokio::join!(
        archive.put_new("seg/v1/paused", Bytes::from_static(b"x")),
        archive.get(name),
        archive.list("seg"),
    );
    println!("a store that does not answer was told after {:?}", paused.elapsed());
    assert!(put.is_err_and(|error| error.is_retryable()));
    assert!(get.is_err_and(|error| error.is_retryable()));
    assert!(list.is_err_and(|error| error.is_retryable()));
    assert!(paused.elapsed() < Duration::from_secs(40), "{:?}", paused.elapsed());
    server.resume().unwrap();
    assert_eq!(archive.get(name).await.unwrap(), "x");
}

/// Passes everything on, but for the answer to the first request that puts: the connection is cut when
/// it comes.
async fn lossy(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut lost = false;
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&to).await.unwrap();
            let mut head = vec![0; 64 * 1024];
            let n = client.read(&mut head).await.unwrap();
            server.write_all(&head[..n]).await.unwrap();
            if head.starts_with(b"PUT") && !lost {
                lost = true;
                let mut answer = [0; 1];
                let (mut up, mut down) = (client.split(), server.split());
                tokio::select! {
                    _ = tokio::io::copy(&mut up.0, &mut down.1) => {}
                    _ = down.0.read(&mut answer) => {}
                }
                continue;
            }
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_is_no_other_object() {
    let server = S3::start().unwrap();
    let endpoint = lossy(server.address()).await;
    let archive = Archive::open_with(&server.url(""), &access(endpoint)).unwrap();
    let bytes = Bytes::from(vec![7; 1 << 20]);
    archive.put_new("seg/v1/lost", bytes.clone()).await.unwrap();
    assert_eq!(archive.get("seg/v1/lost").await.unwrap(), bytes);
    let other = archive.put_new("seg/v1/lost", Bytes::from_static(b"other")).await;
    assert!(matches!(other, Err(Error::AlreadyExists(_))), "{other:?}");
}

#[test]
fn the_google_and_azure_kinds_are_opened_by_their_urls() {
    // Opened only: whether they work was never tried.
    let azure = Archive::open("az://container/prefix");
    assert!(azure.is_err_and(|error| !error.to_string().contains("is no archive")));
    let google = Archive::open("gs://bucket/prefix");
    assert!(google.is_ok() || google.is_err_and(|e| !e.to_string().contains("is no archive")));
}
