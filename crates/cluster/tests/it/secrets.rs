//! Secrets and the key file; and every statement of the crate on both databases.

use std::os::unix::fs::PermissionsExt;

use muster_catalog::{Priority, check};
use muster_cluster::secrets::{self, Key};
use muster_testkit::TempCatalog;

#[tokio::test]
async fn sealed_in_the_catalog() {
    for temp in TempCatalog::both().await.unwrap() {
        let (key, other) = (Key::new(&[7; 32]), Key::new(&[8; 32]));
        let catalog = &temp.catalog;
        assert!(secrets::get(catalog, &key, "ca").await.unwrap().is_none());
        let (a, b) = tokio::join!(
            secrets::get_or_create(catalog, &key, "ca", || b"one".to_vec()),
            secrets::get_or_create(catalog, &key, "ca", || b"two".to_vec()),
        );
        let kept = a.unwrap();
        assert_eq!(kept, b.unwrap(), "two starts, two secrets");
        assert!(secrets::get(catalog, &other, "ca").await.is_err());
        let mut tx = catalog.begin(Priority::Api).await.unwrap();
        secrets::put(&mut tx, &key, "ca", b"rotated").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(secrets::get(catalog, &key, "ca").await.unwrap().unwrap(), b"rotated");
    }
}

#[test]
fn sealing_binds_the_name_and_every_byte() {
    let key = Key::new(&[7; 32]);
    let sealed = key.seal("ca", b"secret");
    assert_eq!(key.open("ca", &sealed).unwrap(), b"secret");
    assert_ne!(sealed, key.seal("ca", b"secret"), "the nonce is random");
    assert!(key.open("token", &sealed).is_err());
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(key.open("ca", &damaged).is_err(), "byte {at}");
        assert!(key.open("ca", &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn key_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let sealed = Key::load_or_create(&path).unwrap().seal("x", b"y");
    assert_eq!(Key::load_or_create(&path).unwrap().open("x", &sealed).unwrap(), b"y");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the draft is gone");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = Key::load_or_create(&path).unwrap_err().to_string();
    assert!(open.contains("others can read it"), "{open}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, b"short").unwrap();
    let short = Key::load_or_create(&path).unwrap_err().to_string();
    assert!(short.contains("not a key of 32 bytes"), "{short}");
}

#[tokio::test]
async fn statements_are_sound() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_cluster::statements()).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}
