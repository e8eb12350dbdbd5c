//! Labels by rule, with answers made up in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_catalog::Priority;
use muster_cluster::Held;
use muster_inventory::rule::{self, Ask, AskError, Evaluator, Rule};
use muster_testkit::TempCatalog;
use muster_types::{Access, EndpointNo, Epoch, OrgId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kit::{NOW, ORG, World};

/// Answers each query that it knows with these endpoints.
#[derive(Default)]
struct Answers {
    known: Mutex<HashMap<String, Result<Vec<i64>, AskError>>>,
    owner_gone: Mutex<bool>,
    asked: Mutex<usize>,
    /// Before the first answer another instance asks and writes, and the lease comes back with this epoch.
    meanwhile: Mutex<Option<(Evaluator, watch::Sender<Held>, u64)>>,
}

impl Answers {
    fn put(&self, query: &str, answer: Result<Vec<i64>, AskError>) {
        self.known.lock().insert(query.to_owned(), answer);
    }
}

#[async_trait]
impl Ask for Answers {
    async fn access(&self, org: OrgId, _: i64) -> Result<Access, AskError> {
        match *self.owner_gone.lock() {
            true => Err(AskError::Owner("gone".to_owned())),
            false => Ok(Access::all(org)),
        }
    }

    async fn pairs(&self, _: &Access, sql: &str, _: u64) -> Result<Vec<(i64, i64)>, AskError> {
        *self.asked.lock() += 1;
        let meanwhile = self.meanwhile.lock().take();
        if let Some((other, lease, epoch)) = meanwhile {
            other.evaluate().await.unwrap();
            lease.send_replace(held(epoch));
        }
        let mut pairs = Vec::new();
        let parts = sql.split("\nUNION ALL\n").enumerate();
        for (n, part) in parts {
            let query = part.split("(\n").nth(1).unwrap().split("\n)").next().unwrap();
            let answer = self.known.lock().get(query).cloned();
            let numbers =
                answer.unwrap_or_else(|| Err(AskError::Query(format!("what is {query}?"))))?;
            pairs.extend(numbers.into_iter().map(|no| (n as i64, no)));
        }
        Ok(pairs)
    }
}

fn held(epoch: u64) -> Held {
    let valid_until = Instant::now() + Duration::from_secs(600);
    Held { epochs: [(0, Epoch(epoch))].into(), valid_until }
}

fn evaluator(world: &World, ask: &Arc<Answers>, epoch: u64) -> Evaluator {
    evaluator_under(world, ask, watch::channel(held(epoch)).1)
}

fn evaluator_under(world: &World, ask: &Arc<Answers>, leases: watch::Receiver<Held>) -> Evaluator {
    let ask: Arc<dyn Ask> = ask.clone();
    Evaluator::new(
        world.catalog.clone(),
        world.bus.clone(),
        world.directory.clone(),
        world.clock.clone(),
        ask,
        leases,
    )
}

async fn set(world: &World, label: &str, query: &str) {
    let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
    rule::set(&mut tx, ORG, label, query, (1, "ana"), NOW).await.unwrap();
    tx.commit().await.unwrap();
}

async fn rule_of(world: &World, label: &str) -> Rule {
    rule::find(&world.catalog, ORG, label).await.unwrap().unwrap()
}

async fn members(world: &World, label: &str) -> Vec<u32> {
    let snapshot = world.directory.refresh().await.unwrap();
    snapshot.label(ORG, label).unwrap().members.iter().collect()
}

#[tokio::test]
async fn members_follow_the_answer_and_history_is_kept() {
    for temp in TempCatalog::both().await.unwrap() {
        let world = World::on(temp).await;
        for name in ["a", "b", "c"] {
            world.agent(name, "linux").await;
        }
        world.label("openssl", &[EndpointNo(3)]).await;
        let ask = Arc::new(Answers::default());
        let evaluator = evaluator(&world, &ask, 1);
        set(&world, "openssl", "SELECT openssl; ").await;
        ask.put("SELECT openssl", Ok(vec![1, 2, 2, 99, -4]));
        evaluator.evaluate().await.unwrap();
        assert_eq!(members(&world, "openssl").await, [1, 2]);
        evaluator.evaluate().await.unwrap();
        ask.put("SELECT openssl", Ok(vec![2]));
        evaluator.evaluate().await.unwrap();
        assert_eq!(members(&world, "openssl").await, [2]);
        let rule = rule_of(&world, "openssl").await;
        assert_eq!((rule.evaluated_at, rule.error), (Some(NOW), None));

        let history = rule::history(&world.catalog, rule.label_no, i64::MAX, 10).await.unwrap();
        let seen: Vec<(Vec<u32>, Vec<u32>, u64)> = history
            .iter()
            .map(|c| (c.added.iter().collect(), c.removed.iter().collect(), c.member_count))
            .collect();
        assert_eq!(seen, [(vec![], vec![1], 1), (vec![1, 2], vec![3], 2)], "newest first");
    }
}

#[tokio::test]
async fn a_rule_that_fails_keeps_its_members_and_says_why() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.agent(name, "linux").await;
    }
    for label in ["good", "bad"] {
        world.label(label, &[EndpointNo(1)]).await;
        set(&world, label, &format!("SELECT {label}")).await;
    }
    let ask = Arc::new(Answers::default());
    let evaluator = evaluator(&world, &ask, 1);
    ask.put("SELECT good", Ok(vec![2]));
    evaluator.evaluate().await.unwrap();
    assert_eq!(*ask.asked.lock(), 3, "together first, then each for itself");
    assert_eq!(members(&world, "good").await, [2]);
    assert_eq!(members(&world, "bad").await, [1]);
    let bad = rule_of(&world, "bad").await;
    assert_eq!(bad.error.as_deref(), Some("what is SELECT bad?"));
    assert_eq!(bad.failing_since, Some(NOW));

    *ask.owner_gone.lock() = true;
    evaluator.evaluate().await.unwrap();
    assert_eq!(rule_of(&world, "good").await.error.as_deref(), Some("gone"));
    assert_eq!(members(&world, "good").await, [2]);

    *ask.owner_gone.lock() = false;
    ask.put("SELECT good", Err(AskError::Unavailable("busy".into())));
    ask.put("SELECT bad", Ok(vec![]));
    set(&world, "bad", "SELECT bad").await;
    assert_eq!(rule_of(&world, "bad").await.error, None, "another text, another chance");
}

#[tokio::test]
async fn a_former_holder_and_a_former_text_change_nothing() {
    let world = World::new().await;
    world.agent("a", "linux").await;
    world.label("l", &[]).await;
    set(&world, "l", "SELECT 1").await;
    let ask = Arc::new(Answers::default());
    ask.put("SELECT 1", Ok(vec![]));
    evaluator(&world, &ask, 5).evaluate().await.unwrap();
    ask.put("SELECT 1", Ok(vec![1]));
    evaluator(&world, &ask, 4).evaluate().await.unwrap();
    assert_eq!(members(&world, "l").await, [0u32; 0], "its lease was taken over");
    evaluator(&world, &ask, 6).evaluate().await.unwrap();
    assert_eq!(members(&world, "l").await, [1]);

    let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
    rule::remove(&mut tx, ORG, "l").await.unwrap();
    tx.commit().await.unwrap();
    ask.put("SELECT 1", Ok(vec![]));
    evaluator(&world, &ask, 7).evaluate().await.unwrap();
    assert_eq!(members(&world, "l").await, [1], "members stay when the rule goes");
}

/// Found by the test that stops a scheduler: it had its lease back before it wrote.
#[tokio::test]
async fn an_old_answer_is_not_written_under_a_new_lease() {
    for temp in TempCatalog::both().await.unwrap() {
        let world = World::on(temp).await;
        for name in ["a", "b"] {
            world.agent(name, "linux").await;
        }
        world.label("found", &[]).await;
        set(&world, "found", "SELECT found").await;
        let (old, new) = (Arc::new(Answers::default()), Arc::new(Answers::default()));
        old.put("SELECT found", Ok(vec![1]));
        new.put("SELECT found", Ok(vec![1, 2]));
        let (lease, leases) = watch::channel(held(1));
        let stopped = evaluator_under(&world, &old, leases);
        *old.meanwhile.lock() = Some((evaluator(&world, &new, 2), lease, 3));
        stopped.evaluate().await.unwrap();
        assert_eq!(members(&world, "found").await, [1, 2]);
        let label = rule_of(&world, "found").await.label_no;
        let history = rule::history(&world.catalog, label, i64::MAX, 10).await.unwrap();
        assert_eq!(history.len(), 1, "{history:?}");
        // Under the new lease it asks anew.
        stopped.evaluate().await.unwrap();
        assert_eq!(members(&world, "found").await, [1]);
    }
}

#[tokio::test]
async fn rules_of_deleted_labels_go_with_them() {
    let world = World::new().await;
    world.label("l", &[]).await;
    set(&world, "l", "SELECT 1").await;
    let mut tx = world.catalog.begin(Priority::Api).await.unwrap();
    muster_endpoints::delete_label_in(&mut tx, ORG, "l", NOW).await.unwrap();
    rule::remove_deleted(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    world.label("l", &[]).await;
    assert!(rule::find(&world.catalog, ORG, "l").await.unwrap().is_none());
    assert!(rule::list(&world.catalog).await.unwrap().is_empty());
}
