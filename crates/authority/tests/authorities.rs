//! The set of CAs as instances read and change it, on both databases.

use muster_authority::{Authorities, CAS_MAX, Error, NAME, add_in, retire_in, sign_in};
use muster_catalog::{Catalog, Priority};
use muster_cluster::secrets::{self, Key};
use muster_testkit::TempCatalog;
use muster_types::SystemClock;

const SEAL: [u8; 32] = [7; 32];

async fn open(catalog: &Catalog) -> Authorities {
    Authorities::open(catalog, &Key::new(&SEAL), &SystemClock).await.unwrap()
}

fn numbers(cas: &Authorities) -> Vec<u32> {
    cas.all().iter().map(|ca| ca.no).collect()
}

macro_rules! change {
    ($catalog:expr, $change:ident, $of:expr) => {{
        let key = Key::new(&SEAL);
        let mut tx = $catalog.begin(Priority::Api).await.unwrap();
        let done = $change(&mut tx, &key, $of).await;
        tx.commit().await.unwrap();
        done
    }};
}

#[tokio::test]
async fn a_ca_comes_signs_and_goes() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        // Two servers of a new installation start at once: both have the same CA.
        let (one, other) = tokio::join!(open(catalog), open(catalog));
        assert_eq!(one.trusted_pem(), other.trusted_pem());
        assert_eq!(numbers(&one), [1]);

        assert_eq!(change!(catalog, add_in, &SystemClock).unwrap(), 2);
        let both = open(catalog).await;
        assert_eq!((numbers(&both), both.signing().no), (vec![1, 2], 1));
        assert_eq!(both.trusted_pem().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(both.trusted_pem().starts_with(&one.trusted_pem()));
        assert!(both.all()[1].added_at > both.all()[0].added_at);

        assert!(matches!(change!(catalog, retire_in, 1), Err(Error::Signs(1))));
        assert!(matches!(change!(catalog, sign_in, 3), Err(Error::Unknown(3))));
        change!(catalog, sign_in, 2).unwrap();
        assert_eq!(numbers(&open(catalog).await), [2, 1]);
        change!(catalog, retire_in, 1).unwrap();
        assert!(matches!(change!(catalog, retire_in, 1), Err(Error::Unknown(1))));
        let second = open(catalog).await;
        assert_eq!(numbers(&second), [2]);
        assert!(both.trusted_pem().ends_with(&second.trusted_pem()));
        assert_eq!(change!(catalog, add_in, &SystemClock).unwrap(), 3);
        change!(catalog, retire_in, 3).unwrap();
        assert_eq!(
            change!(catalog, add_in, &SystemClock).unwrap(),
            4,
            "numbers are not used again"
        );
        let sealed = secrets::get(catalog, &Key::new(&SEAL), NAME).await.unwrap().unwrap();
        let key = one.signing().authority.key_pem.as_bytes();
        assert!(!sealed.windows(key.len()).any(|part| part == key), "the key is forgotten");
    }
}

#[tokio::test]
async fn several_added_at_once_are_all_there_up_to_the_bound() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        open(catalog).await;
        let adding = (0..CAS_MAX).map(|_| {
            let catalog = catalog.clone();
            tokio::spawn(async move { change!(catalog, add_in, &SystemClock) })
        });
        let mut added = Vec::new();
        let mut refused = 0;
        for task in adding.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(no) => added.push(no),
                Err(Error::Full(CAS_MAX)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        added.sort_unstable();
        assert_eq!((added, refused), (vec![2, 3, 4], 1));
        assert_eq!(numbers(&open(catalog).await), [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn another_key_opens_nothing_and_makes_nothing() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let before = open(&temp.catalog).await.trusted_pem();
    let other = Authorities::open(&temp.catalog, &Key::new(&[8; 32]), &SystemClock).await;
    assert!(matches!(other, Err(Error::Secret(_))));
    assert_eq!(open(&temp.catalog).await.trusted_pem(), before);
}
