//! Pins, and who cannot be beside whom, on both databases.

use crate::support::{Node, World, eventually, info, options, quick};
use muster_cluster::{Cluster, Error, Facts, InstanceInfo, Job, Member, Pins, Role, instances};

fn pinned(n: u128, pins: &[(&str, &str)]) -> InstanceInfo {
    let pins: Vec<_> = pins.iter().map(|(job, pin)| (job.to_string(), pin.to_string())).collect();
    let pins = Pins::parse(pins.iter().map(|(job, pin)| (job, pin))).unwrap();
    InstanceInfo { facts: Facts { pins, ..Facts::default() }, ..info(n, &Role::ALL, 1) }
}

fn alone(n: u128) -> InstanceInfo {
    let alone = Some("its catalog is SQLite, which serves one process".to_owned());
    InstanceInfo { facts: Facts { alone, ..Facts::default() }, ..info(n, &Role::ALL, 1) }
}

async fn refused(world: &World, info: InstanceInfo) -> String {
    let (catalog, bus) = (world.temp.catalog.clone(), world.bus.clone());
    match Cluster::start(catalog, bus, info, quick()).await {
        Err(Error::Clash(clash)) => clash.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn pinned_instances_have_their_parts_and_the_rest_is_shared() {
    for world in World::both().await {
        let one = Node::start_with(&world, pinned(1, &[("shards", "1/4")]), options()).await;
        let two = Node::start_with(&world, pinned(2, &[("shards", "3/4")]), options()).await;
        assert_eq!(one.held(Job::Shards).len(), 16);
        let waiting = || one.held(Job::Shards).len() + two.held(Job::Shards).len();
        eventually("two parts of four are done", || waiting() == 32).await;
        assert!(two.held(Job::Shards).keys().all(|shard| shard % 4 == 2));
        let free = Node::start(&world, 3, options()).await;
        eventually("the rest is another's", || free.held(Job::Shards).len() == 32).await;
        assert_eq!(waiting(), 32);
        eventually("what is not pinned is shared by all", || {
            [&one, &two, &free].iter().all(|node| node.held(Job::Dispatch).len() >= 5)
        })
        .await;
        two.stop().await;
        eventually("the rest takes a part nobody is pinned to", || {
            free.held(Job::Shards).len() == 48
        })
        .await;
        for node in [one, free] {
            node.stop().await;
        }
    }
}

#[tokio::test]
async fn a_clash_names_the_other_and_says_what_to_do() {
    for world in World::both().await {
        let node = Node::start_with(&world, pinned(1, &[("shards", "2/3")]), quick()).await;
        let same = refused(&world, pinned(2, &[("shards", "2/3")])).await;
        assert!(same.contains("node-1") && same.contains("pins.shards is 2/3"), "{same}");
        let cut = refused(&world, pinned(2, &[("shards", "2/4")])).await;
        assert!(cut.contains("same number of parts"), "{cut}");
        let lonely = refused(&world, alone(2)).await;
        assert!(lonely.contains("SQLite") && lonely.contains("node-1"), "{lonely}");
        let other_job = pinned(2, &[("dispatch", "2/3")]);
        let other_job = Node::start_with(&world, other_job, quick()).await;
        for node in [node, other_job] {
            node.stop().await;
        }
        let node = Node::start_with(&world, alone(1), quick()).await;
        let beside = refused(&world, info(2, &Role::ALL, 1)).await;
        assert!(beside.contains("node-1") && beside.contains("shared stores"), "{beside}");
        node.stop().await;
    }
}

#[tokio::test]
async fn who_crashed_is_not_in_the_way_for_long_and_who_is_back_late_ends() {
    for world in World::both().await {
        let node = Node::start_with(&world, pinned(1, &[("shards", "1/1")]), quick()).await;
        drop(node.crash().await);
        let heir = Node::start_with(&world, pinned(2, &[("shards", "1/1")]), quick()).await;
        eventually("the part is taken over", || heir.held(Job::Shards).len() == 64).await;
        heir.stop().await;

        let catalog = &world.temp.catalog;
        let info = pinned(3, &[("shards", "1/2")]);
        let mut zombie = Member::register(catalog.clone(), &info, options()).await.unwrap();
        zombie.round().await.unwrap();
        world.is_late().await;
        let heir = pinned(4, &[("shards", "1/2")]);
        let mut heir = Member::register(catalog.clone(), &heir, options()).await.unwrap();
        heir.round().await.unwrap();
        assert!(matches!(zombie.round().await, Err(Error::Clash(_))));
        assert!(zombie.leases(Job::Shards).borrow().epochs.is_empty());
    }
}

/// Both would pass if registrations did not see each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_at_once_one_is_refused() {
    for world in World::both().await {
        for round in 0..8u128 {
            let start = |n: u128| {
                let (catalog, pin) = (world.temp.catalog.clone(), format!("{}/9", round + 1));
                let info = pinned(round * 2 + n + 1, &[("shards", &pin)]);
                async move { Member::register(catalog, &info, options()).await }
            };
            let (a, b) = tokio::join!(tokio::spawn(start(0)), tokio::spawn(start(1)));
            let refused = [a.unwrap(), b.unwrap()].iter().filter(|it| it.is_err()).count();
            assert_eq!(refused, 1, "round {round}");
        }
    }
}

#[tokio::test]
async fn what_is_told_of_an_instance() {
    for world in World::both().await {
        let catalog = &world.temp.catalog;
        let info = pinned(1, &[("shards", "2/3")]);
        let mut member = Member::register(catalog.clone(), &info, options()).await.unwrap();
        member.set_load(&muster_cluster::Load { connections: 7, ..Default::default() });
        member.round().await.unwrap();
        let told = instances(catalog).await.unwrap().remove(0);
        assert_eq!(told.load.connections, 7);
        assert_eq!(told.info.facts.pins, info.facts.pins);
        assert!(told.live && !told.left);
        member.leave().await.unwrap();
        let told = instances(catalog).await.unwrap().remove(0);
        assert!(!told.live && told.left);
        Member::register(catalog.clone(), &info, options()).await.unwrap();
        let told = instances(catalog).await.unwrap().remove(0);
        assert!(told.live && !told.left && told.load == Default::default());
    }
}
