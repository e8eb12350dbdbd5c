//! Policies: who is asked, and what a change does.

use muster_catalog::Priority;
use muster_endpoints::Agent;
use muster_inventory::policy::{self, NewPolicy, PolicyError, PolicyNo};
use muster_inventory::{Asked, Inventory, Platform, Why};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, OrgId, Timestamp};

use crate::kit::{NOW, ORG, World, later};

fn asked(inventory: &Inventory, agent: &Agent, now: Timestamp) -> (Why, Vec<PolicyNo>, usize) {
    let due = inventory.due(agent.no, now).unwrap();
    let queries = inventory.queries(agent, due);
    let policy = |query: &muster_inventory::Query| match query.asked {
        Asked::Policy(no) => Some(no),
        Asked::Detail { .. } => None,
    };
    let policies: Vec<_> = queries.iter().filter_map(policy).collect();
    inventory.handed(agent.no, due, now);
    let details = queries.len() - policies.len();
    (due.why, policies, details)
}

#[tokio::test]
async fn they_go_to_those_they_apply_to() {
    let world = World::new().await;
    let (linux, windows) = (world.agent("lin", "linux").await, world.agent("win", "windows").await);
    world.label("servers", &[linux.endpoint]).await;
    world.label("lab", &[windows.endpoint]).await;
    let all = world.policy("all", |_| {}).await;
    let win = world.policy("win", |p| p.platforms = vec![Platform::Windows]).await;
    let servers = world.policy("servers", |p| p.labels = vec!["servers".into()]).await;
    let no_lab = world.policy("no lab", |p| p.exclude_labels = vec!["lab".into()]).await;
    world.policy("off", |p| p.enabled = false).await;
    world.policy("nobody", |p| p.labels = vec!["unheard of".into()]).await;
    let inventory = world.instance(1).await;
    assert_eq!(asked(&inventory, &linux, later(1)).1, [all, servers, no_lab]);
    assert_eq!(asked(&inventory, &windows, later(1)).1, [all, win]);
    assert_eq!(inventory.policies(ORG).len(), 6);
    assert!(inventory.policies(OrgId(2)).is_empty());
}

#[tokio::test]
async fn a_new_question_is_asked_out_of_turn_and_alone() {
    let world = World::new().await;
    let agent = world.agent("one", "linux").await;
    let inventory = world.instance(1).await;
    world.policy("old", |_| {}).await;
    inventory.announce().await.unwrap();
    let (why, policies, details) = asked(&inventory, &agent, later(5));
    assert_eq!((why, policies.len()), (Why::New, 1));
    assert!(details > 5);
    assert_eq!(inventory.due(agent.no, later(6)), None);

    world.clock.advance(std::time::Duration::from_secs(10));
    let new = world.policy("new", |_| {}).await;
    inventory.announce().await.unwrap();
    assert_eq!(asked(&inventory, &agent, later(11)), (Why::Policies, vec![new], 0));
    assert_eq!(inventory.due(agent.no, later(12)), None);
}

#[tokio::test]
async fn they_are_changed_and_deleted_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let world = World::on(temp).await;
        let inventory = world.instance(1).await;
        let no = world.policy("disk", |_| {}).await;
        let known = async || {
            inventory.announce().await.unwrap();
            inventory.policies(ORG).into_iter().find(|policy| policy.no == no)
        };
        let first = known().await.unwrap();
        assert_eq!((first.asked_since, first.created_by.as_str()), (NOW, "ana"));

        let write = async |text: NewPolicy, at: Timestamp| {
            let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
            policy::change(&mut tx, ORG, no, text, "bob", at).await.unwrap();
            tx.commit().await.unwrap();
        };
        write(NewPolicy { critical: true, ..first.text.clone() }, later(5)).await;
        let second = known().await.unwrap();
        assert_eq!((second.asked_since, second.text.critical), (NOW, true), "the same question");
        write(NewPolicy { query: "SELECT 2".into(), ..second.text.clone() }, later(9)).await;
        let third = known().await.unwrap();
        assert_eq!((third.asked_since, third.updated_by.as_str()), (later(9), "bob"));

        let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
        let again = policy::create(&mut tx, ORG, first.text.clone(), "ana", NOW).await;
        assert!(matches!(again, Err(PolicyError::Exists(_))), "{again:?}");
        drop(tx);

        let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
        policy::delete(&mut tx, ORG, no, later(20)).await.unwrap();
        tx.commit().await.unwrap();
        assert!(known().await.is_none());
        let source = policy::source(no);
        let table = inventory.scheduled(ORG, AgentKind::Osquery, &source).unwrap();
        assert_eq!(table.name, policy::TABLE, "answers may still be on their way");
        assert!(inventory.scheduled(OrgId(2), AgentKind::Osquery, &source).is_none());
        assert_ne!(world.policy("disk", |_| {}).await, no, "the name is free, the number is not");
    }
}
