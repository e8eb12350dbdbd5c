//! Leases, on both databases: shared, handed over, taken over, fenced.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Node, World, assert_one_holder_each, eventually, options, quick};
use muster_catalog::{Priority, args, statements};
use muster_cluster::{Error, Job, Member, Role, instances};

statements! {
    CLAIM = "INSERT INTO shard_offset (shard, pos, epoch, base_object, base_pos) VALUES ($1, 0, $2, NULL, 0)
        ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch WHERE shard_offset.epoch < excluded.epoch";
    small WIPE_LEASES = "DELETE FROM partition_lease";
    small WIPE_INSTANCES = "DELETE FROM instance";
    ADVANCE = "UPDATE shard_offset SET pos = $3 WHERE shard = $1 AND epoch = $2";
}

#[tokio::test]
async fn a_lone_instance_holds_everything_at_once() {
    for world in World::both().await {
        let started = tokio::time::Instant::now();
        let node = Node::start(&world, 1, options()).await;
        println!("{}: held after {:?}", world.temp.catalog.database().name(), started.elapsed());
        for job in Job::ALL {
            assert_eq!(node.held(job).len(), usize::from(job.partitions()));
            assert!(node.cluster.leases(job).borrow().is_valid());
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn instances_share_and_leave() {
    for world in World::both().await {
        // A time to live far beyond the test: nothing here waits for expiry.
        let mut nodes = vec![Node::start(&world, 1, options()).await];
        for n in 2..=3 {
            nodes.push(Node::start(&world, n, options()).await);
            eventually("even shares", || {
                nodes
                    .iter()
                    .all(|node| node.held(Job::Shards).len().abs_diff(64 / nodes.len()) <= 1)
            })
            .await;
            assert_one_holder_each(&nodes);
        }
        let epochs = nodes[1].held(Job::Shards);
        nodes.remove(1).stop().await;
        eventually("all taken over", || {
            nodes.iter().map(|node| node.held(Job::Shards).len()).sum::<usize>() == 64
        })
        .await;
        assert_one_holder_each(&nodes);
        for (n, old) in epochs {
            let new = nodes.iter().find_map(|node| node.held(Job::Shards).get(&n).copied());
            assert!(new.unwrap() > old, "the epoch of shard {n} was not raised");
        }
        let listed = instances(&world.temp.catalog).await.unwrap();
        assert_eq!(listed.iter().map(|i| i.live).collect::<Vec<_>>(), [true, false, true]);
        for node in nodes {
            node.stop().await;
        }
    }
}

#[tokio::test]
async fn roles_decide_who_shares() {
    for world in World::both().await {
        let worker = Node::start_as(&world, 1, &[Role::Worker], 3, options()).await;
        assert!(worker.held(Job::Dispatch).is_empty());
        let scheduler =
            Node::start_as(&world, 2, &[Role::Scheduler, Role::Api], 2, options()).await;
        assert_eq!(
            (scheduler.held(Job::Dispatch).len(), scheduler.held(Job::Shards).len()),
            (16, 0)
        );
        assert_eq!(worker.held(Job::Shards).len(), 64);
        eventually("the lowest level", || worker.cluster.level() == 2).await;
        scheduler.stop().await;
        eventually("the level rises", || worker.cluster.level() == 3).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_crashed_instance_is_taken_over_and_its_zombie_is_fenced() {
    for world in World::both().await {
        let one = Node::start(&world, 1, quick()).await;
        let two = Node::start(&world, 2, quick()).await;
        let shared = || [&one, &two].iter().all(|node| node.held(Job::Shards).len() == 32);
        eventually("even shares", shared).await;
        let catalog = &world.temp.catalog;
        let zombie = two.crash().await;
        let old = zombie.leases(Job::Shards).borrow().clone();
        let (&shard, &epoch) = old.epochs.first_key_value().unwrap();
        catalog.execute(Priority::Intake, &CLAIM, args![i64::from(shard), epoch]).await.unwrap();

        eventually("taken over", || one.held(Job::Shards).len() == 64).await;
        assert!(!old.is_valid() && old.epoch(shard).is_none(), "the zombie believes in its lease");
        let raised = one.held(Job::Shards)[&shard];
        assert!(raised > epoch);
        let claimed =
            catalog.execute(Priority::Intake, &CLAIM, args![i64::from(shard), raised]).await;
        assert_eq!(claimed.unwrap(), 1);
        for (epoch, rows) in [(epoch, 0), (raised, 1)] {
            let write = args![i64::from(shard), epoch, 7];
            assert_eq!(catalog.execute(Priority::Intake, &ADVANCE, write).await.unwrap(), rows);
        }
        // A zombie that claims again with its old epoch changes nothing either.
        let again = catalog.execute(Priority::Intake, &CLAIM, args![i64::from(shard), epoch]).await;
        assert_eq!(again.unwrap(), 0);
        one.stop().await;
    }
}

#[tokio::test]
async fn a_restart_takes_its_own_leases_anew() {
    for world in World::both().await {
        let first = Node::start(&world, 1, options()).await;
        let (before, incarnation) = (first.held(Job::Shards), first.cluster.incarnation());
        drop(first.crash().await);
        let second = Node::start(&world, 1, options()).await;
        assert!(second.cluster.incarnation() > incarnation);
        let after = second.held(Job::Shards);
        assert!(before.iter().all(|(n, epoch)| after[n] > *epoch));
        second.stop().await;
    }
}

#[tokio::test]
async fn two_processes_of_one_instance_do_not_both_live() {
    for world in World::both().await {
        let info = crate::support::info(1, &Role::ALL, 1);
        let catalog = &world.temp.catalog;
        let mut first = Member::register(catalog.clone(), &info, options()).await.unwrap();
        first.round().await.unwrap();
        let mut second = Member::register(catalog.clone(), &info, options()).await.unwrap();
        second.round().await.unwrap();
        assert!(matches!(first.round().await, Err(Error::Superseded)));
        assert!(first.leases(Job::Shards).borrow().epochs.is_empty());
        second.round().await.unwrap();
        assert_eq!(second.leases(Job::Shards).borrow().epochs.len(), 64);
    }
}

/// Found by the random test: a newcomer's first leases must not look like leases of nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_starts_at_the_same_time_do_not_take_from_each_other() {
    for world in World::both().await {
        for _ in 0..6 {
            let start = async |n| {
                let (info, catalog) = (crate::support::info(n, &Role::ALL, 1), &world.temp.catalog);
                let mut member = Member::register(catalog.clone(), &info, options()).await.unwrap();
                while member.round().await.is_err() {}
                member
            };
            let (a, b, c) = tokio::join!(start(1), start(2), start(3));
            for job in Job::ALL {
                let held = [&a, &b, &c].map(|member| member.leases(job).borrow().epochs.clone());
                let count: usize = held.iter().map(BTreeMap::len).sum();
                let all: BTreeSet<_> = held.iter().flat_map(BTreeMap::keys).collect();
                assert_eq!(count, all.len(), "{job:?} taken twice: {held:?}");
            }
            for wipe in [WIPE_LEASES, WIPE_INSTANCES] {
                world.temp.catalog.execute(Priority::Api, &wipe, args![]).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_late_renewal_takes_everything_anew() {
    for world in World::both().await {
        let catalog = &world.temp.catalog;
        let one = crate::support::info(1, &Role::ALL, 1);
        let mut one = Member::register(catalog.clone(), &one, options()).await.unwrap();
        one.round().await.unwrap();
        let before = one.leases(Job::Shards).borrow().clone();
        world.is_late().await;
        one.round().await.unwrap();
        let after = one.leases(Job::Shards).borrow().clone();
        assert!(before.epochs.iter().all(|(n, epoch)| after.epochs[n] > *epoch));

        // Late again, and by then another has joined: what is not its share any more is let go.
        world.is_late().await;
        let two = crate::support::info(2, &Role::ALL, 1);
        let mut two = Member::register(catalog.clone(), &two, options()).await.unwrap();
        one.round().await.unwrap();
        two.round().await.unwrap();
        let held = two.leases(Job::Shards).borrow().epochs.len();
        assert!((32..=64).contains(&held), "{held}");
    }
}
