//! Limits of several instances together: never above, at most a share below.

use std::time::Duration;

use crate::support::{Node, World, eventually, options};
use muster_cluster::limit::{Limit, Meter, Owed, SHARES};
use muster_cluster::{Job, Member, Options, Role};
use muster_types::Timestamp;

const LIMIT: Limit = Limit { per_second: 1.0, burst: 480.0 };
const NOW: Timestamp = Timestamp(1_000_000_000);

fn quick() -> Options {
    Options { share_ttl: Duration::from_secs(10), ..crate::support::quick() }
}

fn meter(node: &Node) -> (Meter, Option<Owed>) {
    (Meter::new(LIMIT, node.cluster.share(Job::Enrolments), NOW), None)
}

fn admitted(meters: &mut [(Meter, Option<Owed>)], now: Timestamp) -> usize {
    let all = |(meter, key): &mut (Meter, Option<Owed>)| {
        (0..10_000).take_while(|_| meter.take(key, now).is_ok()).count()
    };
    meters.iter_mut().map(all).sum()
}

fn shares(nodes: &[Node]) -> Vec<usize> {
    nodes.iter().map(|node| node.held(Job::Enrolments).len()).collect()
}

#[tokio::test]
async fn three_instances_admit_what_one_would() {
    for world in World::both().await {
        let mut nodes = vec![Node::start(&world, 1, options()).await];
        let mut meters = vec![meter(&nodes[0])];
        assert_eq!(admitted(&mut meters, NOW), 480, "alone it is the whole limit");
        for n in 2..=3 {
            let node = Node::start(&world, n, options()).await;
            meters.push(meter(&node));
            nodes.push(node);
        }
        let third = usize::from(SHARES / 3);
        eventually("thirds", || shares(&nodes) == [third; 3]).await;
        assert_eq!(admitted(&mut meters, NOW), 0, "what moved was used up before it moved");
        let rested = NOW.plus(Duration::from_secs(600));
        assert_eq!(admitted(&mut meters, rested), 480);

        nodes.remove(1).stop().await;
        meters.remove(1);
        let half = usize::from(SHARES / 2);
        eventually("halves", || shares(&nodes) == [half; 2]).await;
        assert_eq!(admitted(&mut meters, rested), 0);
        let rested = rested.plus(Duration::from_secs(600));
        assert_eq!(admitted(&mut meters, rested), 480);
        for node in nodes {
            node.stop().await;
        }
    }
}

/// As where a start is slow: the others let shares go before it looks for the first time.
#[tokio::test]
async fn what_is_held_after_the_first_look_is_empty_beside_others() {
    for world in World::both().await {
        let one = Node::start(&world, 1, options()).await;
        let mut meters = vec![meter(&one)];
        assert_eq!(admitted(&mut meters, NOW), 480);
        let info = crate::support::info(2, &Role::ALL, 1);
        let catalog = &world.temp.catalog;
        let mut before = Member::register(catalog.clone(), &info, options()).await.unwrap();
        let half = usize::from(SHARES / 2);
        while before.leases(Job::Enrolments).borrow().epochs.len() < half {
            tokio::time::sleep(Duration::from_millis(20)).await;
            before.round().await.unwrap();
        }
        let two = Node::start(&world, 2, options()).await;
        assert_eq!(two.held(Job::Enrolments).len(), half, "it has them at once");
        meters.push(meter(&two));
        assert_eq!(admitted(&mut meters, NOW), 0, "what was used up before it started");
        one.stop().await;
        two.stop().await;
    }
}

/// Who lost sight of the catalog goes on with its share, which nobody takes; then it is over for it
/// before it begins for others.
#[tokio::test]
async fn without_sight_of_the_others_a_share_is_kept_and_not_taken() {
    for world in World::both().await {
        let one = Node::start(&world, 1, quick()).await;
        let two = Node::start(&world, 2, quick()).await;
        let half = usize::from(SHARES / 2);
        eventually("halves", || {
            [&one, &two].iter().all(|node| node.held(Job::Enrolments).len() == half)
        })
        .await;
        let blind = two.crash().await;
        eventually("work is taken over", || one.held(Job::Shards).len() == 64).await;
        assert_eq!(one.held(Job::Enrolments).len(), half, "a share was taken too early");
        assert!((blind.share(Job::Enrolments).now() - 0.5).abs() < 1e-9, "it lost its share");
        let mut overlap = false;
        eventually("the share is taken over", || {
            let taken = one.held(Job::Enrolments).len() > half;
            overlap |= taken && blind.share(Job::Enrolments).now() > 0.0;
            taken
        })
        .await;
        assert!(!overlap, "two had it");
        eventually("all of it", || (one.cluster.share(Job::Enrolments).now() - 1.0).abs() < 1e-9)
            .await;
        one.stop().await;
    }
}
