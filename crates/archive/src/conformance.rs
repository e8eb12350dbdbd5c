//! What every archive must do, as functions for the tests of each kind of store. They panic.

use bytes::Bytes;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::{Archive, Error};

/// All of them, on one archive.
pub async fn all(archive: &Archive) {
    objects_come_back_as_they_were(archive).await;
    one_of_many_creates(archive).await;
    nothing_is_seen_half(archive).await;
    listings_are_of_folders(archive).await;
    names_are_checked(archive).await;
}

fn fresh(folder: &str) -> String {
    format!("test/{folder}/{}", Uuid::now_v7())
}

/// Put, get, ranges, delete; an object's name is not taken twice.
pub async fn objects_come_back_as_they_were(archive: &Archive) {
    for length in [0_usize, 1, 4096, 3_000_001] {
        let name = fresh("objects");
        let bytes: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
        assert!(matches!(archive.get(&name).await, Err(Error::NotFound(_))));
        archive.put_new(&name, bytes.clone()).await.unwrap();
        assert_eq!(archive.get(&name).await.unwrap(), bytes);
        let taken = archive.put_new(&name, Bytes::from_static(b"other")).await;
        assert!(matches!(taken, Err(Error::AlreadyExists(_))), "{taken:?}");
        assert_eq!(archive.get(&name).await.unwrap(), bytes);
        let (from, to) = (length / 3, length / 2);
        let range = archive.get_range(&name, from as u64..to as u64).await.unwrap();
        assert_eq!(range, bytes.slice(from..to));
        assert!(archive.get_range(&name, 0..length as u64 + 1).await.is_err());
        archive.delete(&name).await.unwrap();
        archive.delete(&name).await.unwrap();
        assert!(matches!(archive.get(&name).await, Err(Error::NotFound(_))));
    }
}

/// Of eight writers of one name exactly one succeeds, and its bytes stay.
pub async fn one_of_many_creates(archive: &Archive) {
    for _ in 0..8 {
        let name = fresh("race");
        let put = |n: u8| {
            let (name, bytes) = (&name, Bytes::from(vec![n; 10_000]));
            async move { archive.put_new(name, bytes).await }
        };
        let results = join_all((0..8).map(put)).await;
        let won: Vec<usize> = (0..8).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for result in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(result, Error::AlreadyExists(_)), "{result}");
        }
        assert_eq!(archive.get(&name).await.unwrap(), vec![won[0] as u8; 10_000]);
    }
}

/// While an object is being put it is either not there or whole.
pub async fn nothing_is_seen_half(archive: &Archive) {
    for _ in 0..4 {
        let name = fresh("half");
        let bytes = Bytes::from(vec![7; 8 << 20]);
        let put = archive.put_new(&name, bytes.clone());
        tokio::pin!(put);
        loop {
            match archive.get(&name).await {
                Ok(seen) => assert!(seen == bytes, "{} bytes seen", seen.len()),
                Err(error) => assert!(matches!(error, Error::NotFound(_)), "{error}"),
            }
            let listed = archive.list("test/half").await.unwrap();
            assert!(listed.iter().all(|object| object.byte_count == bytes.len() as u64));
            tokio::select! {
                biased;
                done = &mut put => break done.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
        archive.delete(&name).await.unwrap();
    }
}

/// A folder's listing has what is in it and below, and no name that merely begins like it.
pub async fn listings_are_of_folders(archive: &Archive) {
    let folder = fresh("list");
    let names = ["a", "b/c", "b/d"].map(|name| format!("{folder}/{name}"));
    for name in &names {
        archive.put_new(name, Bytes::from_static(b"four")).await.unwrap();
    }
    archive.put_new(&format!("{folder}x/a"), Bytes::new()).await.unwrap();
    let mut listed = archive.list(&folder).await.unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), names);
    assert!(listed.iter().all(|object| object.byte_count == 4 && object.modified.0 > 0));
    assert!(archive.list("test/nothing/here").await.unwrap().is_empty());
}

/// Names that leave the archive are refused before the store sees them.
pub async fn names_are_checked(archive: &Archive) {
    for name in ["../x", "/etc/passwd", "a//b", "", "a/.hidden"] {
        assert!(matches!(archive.put_new(name, Bytes::new()).await, Err(Error::BadName(_))));
        assert!(matches!(archive.get(name).await, Err(Error::BadName(_))));
        assert!(matches!(archive.delete(name).await, Err(Error::BadName(_))));
    }
}
