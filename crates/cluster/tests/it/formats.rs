//! Forms that instances read of each other, on both databases: the newer one waits for the older reader.

use std::time::Duration;

use muster_catalog::{Priority, args, statements};
use muster_cluster::{Error, Options, Role, raise_formats, stored_formats};
use muster_testkit::TempCatalog;
use muster_types::{Format, InstanceId, Timestamp};
use uuid::Uuid;

use crate::support::{Node, World, eventually, info, options};

/// As the program before knows it, and as this one does.
const OLDER: Format = Format { name: "state", oldest: 1, untold: 2, newest: 2 };
const NEWER: Format = Format { newest: 3, ..OLDER };
/// Known to the newer program only.
const FRESH: Format = Format { name: "fresh", oldest: 1, untold: 0, newest: 1 };

statements! {
    /// An instance of a version from before formats were told, which renews in time for an hour.
    STRANGER = "INSERT INTO instance (id, incarnation, name, roles, version, level, addresses, load,
            started_at, heartbeat_at, expires_at, facts)
        VALUES ($1, 1, 'db-east', 'worker', '0.1.0', 1, '[]', '{}', $2, $2, $3, '{}')";
    GONE = "UPDATE instance SET expires_at = $2 WHERE id = $1";
}

fn older() -> Options {
    Options { formats: vec![OLDER], renew: Duration::from_millis(100), ..options() }
}

fn newer(settle: Duration) -> Options {
    Options { formats: vec![NEWER, FRESH], formats_settle: settle, ..older() }
}

fn written(node: &Node) -> (u8, u8) {
    let formats = node.cluster.formats();
    (formats.version(&NEWER), formats.version(&FRESH))
}

async fn noted(temp: &TempCatalog, name: &str) -> Option<(u8, u8)> {
    let all = stored_formats(&temp.catalog).await.unwrap();
    all.iter().find(|one| one.name == name).map(|one| (one.version, one.wanted))
}

async fn noted_since(temp: &TempCatalog) -> Timestamp {
    let all = stored_formats(&temp.catalog).await.unwrap();
    all.iter().find(|one| one.name == "state").unwrap().wanted_since
}

/// Waits for what is written and what is wanted.
async fn until_noted(temp: &TempCatalog, wanted: (u8, u8)) {
    let wait = async {
        while noted(temp, "state").await != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("noted in time");
}

async fn refused(world: &World, n: u128, options: Options) -> String {
    let (catalog, bus) = (world.temp.catalog.clone(), world.bus.clone());
    let started = muster_cluster::Cluster::start(catalog, bus, info(n, &Role::ALL, 1), options);
    match started.await {
        Err(error @ Error::Catalog(_)) if error.is_final() => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_newer_form_is_written_when_the_last_older_reader_is_gone() {
    for world in World::both().await {
        let settle = Duration::from_millis(700);
        let one = Node::start_with(&world, info(1, &Role::ALL, 1), older()).await;
        let two = Node::start_with(&world, info(2, &Role::ALL, 1), newer(settle)).await;
        eventually("shares", || !two.held(muster_cluster::Job::Shards).is_empty()).await;
        // Longer than it would have to wait.
        tokio::time::sleep(settle * 2).await;
        assert_eq!(written(&two), (2, 0), "while an instance lives that reads less");
        assert_eq!(noted(&world.temp, "state").await, None);
        one.stop().await;
        eventually("the newer form", || written(&two) == (3, 1)).await;

        // From then on nobody is let in who does not read it.
        let short = Options { formats: vec![OLDER, FRESH], ..older() };
        let told = refused(&world, 1, short).await;
        assert!(told.contains("state is written in version 3 here"), "{told}");
        assert!(told.contains("reads up to 2"), "{told}");
        let strange = Options { formats: vec![NEWER], ..older() };
        let told = refused(&world, 3, strange).await;
        assert!(told.contains("fresh is written in version 1 here"), "{told}");
        let three = Node::start_with(&world, info(4, &Role::ALL, 1), newer(settle)).await;
        assert_eq!(written(&three), (3, 1), "a newcomer knows at once");
        two.stop().await;
        three.stop().await;
    }
}

#[tokio::test]
async fn an_older_instance_that_comes_back_in_time_is_let_in_and_the_wait_begins_again() {
    for world in World::both().await {
        let long = Duration::from_secs(3600);
        let new = Node::start_with(&world, info(2, &Role::ALL, 1), newer(long)).await;
        let temp = &world.temp;
        until_noted(temp, (2, 3)).await;
        let since = noted_since(temp).await;
        assert_eq!(written(&new), (2, 0));
        let old = Node::start_with(&world, info(1, &Role::ALL, 1), older()).await;
        until_noted(temp, (2, 2)).await;
        old.stop().await;
        until_noted(temp, (2, 3)).await;
        assert!(noted_since(temp).await > since);
        new.stop().await;
    }
}

#[tokio::test]
async fn by_command_it_is_raised_at_once_but_not_beside_one_that_does_not_tell() {
    for world in World::both().await {
        let catalog = &world.temp.catalog;
        let new =
            Node::start_with(&world, info(2, &Role::ALL, 1), newer(Duration::from_secs(3600)));
        let new = new.await;
        let (id, now) = (InstanceId(Uuid::from_u128(9)), catalog.now().await.unwrap());
        let stranger = args![id, now, now.plus(Duration::from_secs(3600))];
        catalog.execute(Priority::Lease, &STRANGER, stranger).await.unwrap();
        let told = raise_formats(catalog, &[NEWER]).await.unwrap_err().to_string();
        assert!(told.contains("db-east (version 0.1.0, state up to version 2)"), "{told}");
        assert!(!told.contains("node-2"), "{told}");
        catalog.execute(Priority::Lease, &GONE, args![id, now]).await.unwrap();
        let raised = raise_formats(catalog, &[NEWER]).await.unwrap();
        assert_eq!((raised.len(), raised[0].version), (1, 3));
        assert_eq!(raise_formats(catalog, &[NEWER]).await.unwrap(), []);
        eventually("the newer form", || written(&new) == (3, 0)).await;
        new.stop().await;
    }
}
