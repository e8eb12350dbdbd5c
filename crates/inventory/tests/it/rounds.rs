//! Who is asked when, by one instance and by several.

use std::time::Duration;

use muster_catalog::Priority;
use muster_inventory::{Asked, Inventory, Why, refetch};
use muster_types::{AgentKind, AgentNo, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::kit::{NOW, ORG, World, later};

/// The sources a turn asks for.
fn sources(
    inventory: &Inventory,
    agent: &muster_endpoints::Agent,
    now: Timestamp,
) -> Vec<&'static str> {
    let due = inventory.due(agent.no, now).unwrap();
    let queries = inventory.queries(agent, due);
    let source = |asked| match asked {
        Asked::Detail { round, source } => {
            assert_eq!(round, due.round);
            source
        }
        Asked::Policy(no) => panic!("policy {no}"),
    };
    queries.iter().map(|query| source(query.asked)).collect()
}

#[tokio::test]
async fn each_platform_is_asked_its_own() {
    let world = World::new().await;
    let inventory = world.instance(1).await;
    for (platform, has, has_not) in [
        ("linux", "inventory.software.deb", "inventory.software.programs"),
        ("darwin", "inventory.software.apps", "inventory.software.deb"),
        ("windows", "inventory.software.programs", "inventory.software.rpm"),
        ("plan9", "inventory.software.python", "inventory.disk"),
    ] {
        let agent = world.agent(platform, platform).await;
        let asked = sources(&inventory, &agent, NOW);
        assert!(asked.contains(&has) && !asked.contains(&has_not), "{platform}: {asked:?}");
        for source in asked {
            let table = inventory.scheduled(ORG, AgentKind::Osquery, source).unwrap();
            assert!(table.name.starts_with("inventory_"));
            assert!(inventory.scheduled(ORG, AgentKind::Native, source).is_none());
        }
    }
    assert!(inventory.scheduled(ORG, AgentKind::Osquery, "nothing").is_none());
    assert!(inventory.scheduled(ORG, AgentKind::Osquery, "muster.flags").is_some());
}

#[tokio::test]
async fn once_an_hour_and_at_once_when_somebody_wants_it() {
    let world = World::new().await;
    let inventory = world.instance(1).await;
    let agent = world.agent("one", "linux").await;
    let due = inventory.due(agent.no, NOW).unwrap();
    assert_eq!(due.why, Why::New);
    inventory.handed(agent.no, due, NOW);
    let turns: Vec<u64> =
        (1..7_200).filter(|n| inventory.due(agent.no, later(*n)).is_some()).take(1).collect();
    assert!(turns[0] <= 3_600);
    assert_eq!(inventory.due(agent.no, later(turns[0])).unwrap().why, Why::Round);

    let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
    refetch::want(&mut tx, ORG, &[agent.no], "ana", NOW).await.unwrap();
    tx.commit().await.unwrap();
    inventory.announce().await.unwrap();
    let due = inventory.due(agent.no, NOW).unwrap();
    assert_eq!(due.why, Why::Wanted);
    inventory.handed(agent.no, due, later(1));
    assert_eq!(inventory.due(agent.no, later(1)), None);
}

#[tokio::test]
async fn after_an_outage_they_come_a_few_at_a_time() {
    let world = World::new().await;
    let inventory = world.instance(1).await;
    let mut given = 0;
    for no in 1..=1_000 {
        if let Some(due) = inventory.due(AgentNo(no), NOW) {
            inventory.handed(AgentNo(no), due, NOW);
            inventory.answered();
            given += 1;
        }
    }
    assert_eq!(given, 20, "what one second lets through");
    let mut left: Vec<u32> = (21..=1_000).collect();
    for second in 1..=49 {
        left.retain(|no| match inventory.due(AgentNo(*no), later(second)) {
            Some(due) => {
                inventory.handed(AgentNo(*no), due, later(second));
                inventory.answered();
                false
            }
            None => true,
        });
    }
    assert_eq!(left.len(), 0);
}

#[tokio::test]
async fn nobody_is_asked_while_too_many_have_not_answered() {
    let world = World::new().await;
    let inventory = world.instance(1).await;
    let mut no = 0;
    let mut asked = |second: u64| {
        let mut asked = 0;
        for _ in 0..500 {
            no += 1;
            if let Some(due) = inventory.due(AgentNo(no), later(second)) {
                inventory.handed(AgentNo(no), due, later(second));
                asked += 1;
            }
        }
        asked
    };
    let all: u32 = (0..20).map(&mut asked).sum();
    assert_eq!(all, 128, "20 a second, until so many have not answered");
    inventory.answered();
    assert_eq!(asked(20), 1);
}

#[tokio::test]
async fn instances_tell_each_other_and_a_restart_forgets_nothing() {
    let world = World::new().await;
    let agent = world.agent("one", "linux").await;
    let (first, second) = (world.instance(1).await, world.instance(2).await);
    let stop = CancellationToken::new();
    let runs = [first.clone(), second.clone()].map(|instance| {
        let stop = stop.clone();
        tokio::spawn(async move { instance.run(stop).await })
    });
    let due = first.due(agent.no, NOW).unwrap();
    first.handed(agent.no, due, NOW);
    let told = async {
        while second.due(agent.no, NOW).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    stop.cancel();
    for run in runs {
        run.await.unwrap();
    }
    let again = world.instance(1).await;
    assert_eq!(again.due(agent.no, NOW), None, "written when it stopped");
    let other = world.instance(3).await;
    assert_eq!(other.due(agent.no, NOW), None);
}
