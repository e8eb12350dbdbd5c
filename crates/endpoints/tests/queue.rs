//! Enrolments that share transactions, on both databases.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{NOW, directory, native};
use futures_util::future::join_all;
use muster_catalog::{Catalog, Error, Options, Priority, Tx, args};
use muster_endpoints::{
    Enrol, EnrolError, EnrolNode, EnrolQueue, Enrolled, Granted, LastHeard, NewSecret,
    create_secret, enrol, enrol_node, grant_node, list_secrets,
};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, EndpointNo, OrgId};
use tokio::task::JoinHandle;

const ORG: OrgId = OrgId::DEFAULT;

muster_catalog::statements! {
    NUMBERS_TAKEN = "UPDATE feed SET seq = $2 WHERE topic = $1";
    BLOCK = "UPDATE agent SET state = 'blocked' WHERE no = $1";
    REVOKE = "UPDATE enrol_secret SET revoked_at = $1";
}

/// Both, where one may be held for as long as a slow machine needs.
async fn catalogs() -> [TempCatalog; 2] {
    let long = Duration::from_secs(60);
    let options = Options { lock_timeout: long, hold_timeout: long, ..Options::default() };
    TempCatalog::both_with(options).await.unwrap()
}

fn patient(catalog: &Catalog) -> EnrolQueue {
    EnrolQueue::new(catalog.clone()).waiting(Duration::from_secs(60))
}

type Result<T> = std::result::Result<T, EnrolError>;

/// Keeps everybody else from enrolling until it is dropped.
async fn hold(catalog: &Catalog) -> Tx {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.bump("directory").await.unwrap();
    tx
}

/// Asks for all of these while nobody may enrol, and returns when all of them wait.
async fn at_once(queue: &EnrolQueue, all: Vec<Enrol>) -> Vec<JoinHandle<Result<Enrolled>>> {
    let many = all.len();
    let ask = |one: Enrol| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.enrol(&one, None, NOW).await })
    };
    let asking = all.into_iter().map(ask).collect();
    pending(queue, many).await;
    asking
}

async fn pending(queue: &EnrolQueue, many: usize) {
    let reached = async {
        while queue.pending() != many {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
    assert!(reached.is_ok(), "{} are pending, not {many}", queue.pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_at_once_share_transactions() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let queue = patient(catalog);
        let held = hold(catalog).await;
        // Two agents on each machine, and some ask twice.
        let one = |n: u32| {
            let machine = n.div_ceil(2);
            let kind = if n.is_multiple_of(2) { AgentKind::Native } else { AgentKind::Osquery };
            let mut one = Enrol { kind, machine: Some(format!("m-{machine}")), ..native(n) };
            one.report.hostname = format!("host-{machine}");
            one
        };
        let all = (1..=80).map(one).chain((1..=20).map(one)).collect();
        let before = catalog.stats().transactions.read().count;
        let asking = at_once(&queue, all).await;
        held.rollback().await;
        let done: Vec<_> =
            join_all(asking).await.into_iter().map(|d| d.unwrap().unwrap()).collect();
        // In 32s, and in smaller numbers where the machine is slow; one with nothing to write is none.
        let took = catalog.stats().transactions.read().count - before;
        assert!((3..80).contains(&took), "{took} transactions");
        println!("{took} transactions");
        pending(&queue, 0).await;

        let mut numbers: Vec<_> = done.iter().map(|d| d.agent.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
        assert_eq!(done.iter().filter(|d| d.is_new).count(), 80);
        for (first, again) in done.iter().zip(&done[80..]) {
            assert_eq!((first.agent, first.endpoint), (again.agent, again.endpoint));
        }
        let snapshot = directory(catalog).await.snapshot();
        assert_eq!(snapshot.endpoints(ORG).count(), 40);
        assert!(snapshot.endpoints(ORG).all(|endpoint| endpoint.agents.len() == 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_stored_takes_nobody_along() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let there = enrol(catalog, &native(1), NOW).await.unwrap();
        // There is no number left for another endpoint.
        let numbers = async |taken: i64| {
            let args = args!["number/endpoint", taken];
            catalog.execute(Priority::Api, &NUMBERS_TAKEN, args).await.unwrap();
        };
        numbers(u32::MAX.into()).await;

        let queue = patient(catalog);
        let held = hold(catalog).await;
        let beside =
            |kind: AgentKind| Enrol { kind, external_id: kind.as_str().into(), ..native(1) };
        let all = vec![beside(AgentKind::Osquery), native(3), beside(AgentKind::Velociraptor)];
        let asking = at_once(&queue, all).await;
        held.rollback().await;
        let done: Vec<_> = join_all(asking).await.into_iter().map(|d| d.unwrap()).collect();
        assert!(done[0].as_ref().is_ok_and(|d| d.endpoint == there.endpoint), "{done:?}");
        assert!(matches!(&done[1], Err(EnrolError::Catalog(Error::Other(_)))), "{done:?}");
        assert!(done[2].as_ref().is_ok_and(|d| d.endpoint == there.endpoint), "{done:?}");
        // A directory would look for all of them.
        numbers(1).await;
        let snapshot = directory(catalog).await.snapshot();
        assert_eq!(snapshot.agents_of(EndpointNo(1)).len(), 3);
        assert_eq!(snapshot.agents(ORG).count(), 3, "and nobody else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_within_a_transaction_takes_nobody_along() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let new = NewSecret { name: "x".into(), ..NewSecret::default() };
        let (_, secret) = create_secret(catalog, ORG, &new, "ana", NOW).await.unwrap();
        let node = |instance: &str| EnrolNode {
            enrol: Enrol {
                kind: AgentKind::Osquery,
                external_id: "node".into(),
                secret: Some(secret.clone()),
                machine: None,
                ..native(900)
            },
            instance: instance.into(),
            environment: None,
            has_certificate: false,
        };
        let granted = async || grant_node(catalog, &node(""), NOW).await.unwrap();
        let nobody: LastHeard = Arc::new(|_| None);
        let long_ago = NOW.minus(Duration::from_secs(86_400));
        let there = granted().await;
        let there = enrol_node(catalog, &node("a"), there, nobody.clone(), long_ago).await.unwrap();
        let late = granted().await;
        let blocked = granted().await;

        let queue = patient(catalog);
        let mut held = hold(catalog).await;
        // Those behind are in the second transaction at the earliest, and share it.
        let mut asking = at_once(&queue, (1..=32).map(native).collect()).await;
        let ask = |one: Enrol, granted: Option<Granted>| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.enrol(&one, granted, NOW).await })
        };
        asking.push(ask(native(33), None));
        pending(&queue, 33).await;
        let ours = queue.clone();
        let clone =
            tokio::spawn(async move { ours.enrol_clone(AgentNo(999), &native(40), NOW).await });
        pending(&queue, 34).await;
        asking.push(ask(native(34), None));
        pending(&queue, 35).await;
        let (ours, again, nobody) = (queue.clone(), node("a"), nobody.clone());
        let again =
            tokio::spawn(async move { ours.enrol_node(&again, blocked, nobody, NOW).await });
        pending(&queue, 36).await;
        let revoked = ask(Enrol { secret: Some(secret.clone()), ..native(41) }, Some(late));
        pending(&queue, 37).await;
        asking.push(ask(native(35), None));
        pending(&queue, 38).await;
        // Meanwhile one is blocked, and the secret revoked.
        held.execute(&BLOCK, args![there.enrolled.agent]).await.unwrap();
        held.execute(&REVOKE, args![NOW]).await.unwrap();
        held.commit().await.unwrap();

        for done in join_all(asking).await {
            assert!(done.unwrap().unwrap().is_new);
        }
        let (clone, again) = (clone.await.unwrap(), again.await.unwrap());
        assert!(matches!(clone, Err(EnrolError::NoOriginal(AgentNo(999)))), "{clone:?}");
        assert!(matches!(again, Err(EnrolError::Blocked(no)) if no == there.enrolled.agent));
        let revoked = revoked.await.unwrap();
        assert!(matches!(revoked, Err(EnrolError::Secret)), "{revoked:?}");
        let snapshot = directory(catalog).await.snapshot();
        assert_eq!(snapshot.agents(ORG).count(), 1 + 35, "and nothing of those who were refused");
        assert_eq!(snapshot.endpoints(ORG).count(), 1 + 35);
        let numbers = snapshot.agents(ORG).map(|agent| agent.no.0).max();
        assert_eq!(numbers, Some(1 + 35), "no number is lost");
        assert_eq!(list_secrets(catalog, ORG).await.unwrap()[0].uses, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_told_of_a_commit_asks_again_and_is_the_same() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let queue = patient(catalog);
        catalog.lose_commit(1);
        let told = queue.enrol(&native(1), None, NOW).await;
        assert!(matches!(told, Err(EnrolError::Catalog(Error::Unavailable(_)))), "{told:?}");
        assert!(catalog.lose_commit(0), "it was the commit");
        let told = queue.enrol(&native(1), None, NOW).await.unwrap();
        assert_eq!((told.agent, told.is_new), (AgentNo(1), false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_come_to_the_turn_in_time_is_told_and_not_enrolled() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let queue = patient(catalog);
        let held = hold(catalog).await;
        let first = at_once(&queue, (1..=32).map(native).collect()).await;
        let hasty = queue.clone().waiting(Duration::from_millis(50));
        let told = hasty.enrol(&native(33), None, NOW).await;
        assert!(matches!(told, Err(EnrolError::Crowded)), "{told:?}");
        held.rollback().await;
        join_all(first).await.into_iter().for_each(|d| assert!(d.unwrap().is_ok()));
        pending(&queue, 0).await;
        assert_eq!(directory(catalog).await.snapshot().agents(ORG).count(), 32);
    }
}

/// Whoever serves may go with its runtime: nobody waits for it, and the next one is served by another.
#[test]
fn a_runtime_that_ends_takes_no_queue_along() {
    let long = tokio::runtime::Runtime::new().unwrap();
    let [temp, _] = long.block_on(catalogs());
    let queue = patient(&temp.catalog);
    let held = long.block_on(hold(&temp.catalog));
    let short = tokio::runtime::Runtime::new().unwrap();
    let ours = queue.clone();
    let asked = short.spawn(async move { ours.enrol(&native(1), None, NOW).await });
    long.block_on(pending(&queue, 1));
    short.shutdown_timeout(Duration::from_secs(10));
    // Cancelled, or told in time.
    let cut_off =
        |told: &Result<Enrolled>| matches!(told, Err(EnrolError::Catalog(Error::Unavailable(_))));
    assert!(long.block_on(asked).as_ref().map_or_else(|e| e.is_cancelled(), cut_off));
    assert_eq!(queue.pending(), 0);
    long.block_on(held.rollback());
    assert!(long.block_on(queue.enrol(&native(2), None, NOW)).unwrap().is_new);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_keys_and_secrets_are_counted_together_too() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let new = NewSecret { name: "x".into(), labels: vec!["x".into()], ..NewSecret::default() };
        let (_, secret) = create_secret(catalog, ORG, &new, "ana", NOW).await.unwrap();
        let queue = patient(catalog);
        let held = hold(catalog).await;
        // Two machines under each identifier.
        let node = |n: u32| EnrolNode {
            enrol: Enrol {
                kind: AgentKind::Osquery,
                external_id: format!("id-{}", n / 2),
                machine: None,
                secret: Some(secret.clone()),
                ..native(n)
            },
            instance: format!("instance-{n}"),
            environment: None,
            has_certificate: false,
        };
        let asking: Vec<_> = (0..20)
            .map(|n| {
                let (queue, catalog, node) = (queue.clone(), catalog.clone(), node(n));
                tokio::spawn(async move {
                    let granted = grant_node(&catalog, &node, NOW).await?;
                    queue.enrol_node(&node, granted, Arc::new(|_| None), NOW).await
                })
            })
            .collect();
        pending(&queue, 20).await;
        held.rollback().await;
        let done: Vec<_> =
            join_all(asking).await.into_iter().map(|d| d.unwrap().unwrap()).collect();
        for two in done.chunks(2) {
            let clones: Vec<_> = two.iter().filter_map(|one| one.clone_of).collect();
            let [of] = clones[..] else { panic!("{two:?}") };
            assert!(two.iter().any(|one| one.enrolled.agent == of && one.clone_of.is_none()));
        }
        assert!(done.iter().all(|one| one.key.agent == one.enrolled.agent));
        assert_eq!(list_secrets(catalog, ORG).await.unwrap()[0].uses, 20);
        let snapshot = directory(catalog).await.snapshot();
        assert_eq!(snapshot.label(ORG, "x").unwrap().members.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_before_the_turn_is_not_enrolled() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let queue = patient(catalog);
        let held = hold(catalog).await;
        // As many as share one transaction, so the next one waits for another.
        let first = at_once(&queue, (1..=32).map(native).collect()).await;
        let ours = queue.clone();
        let goes = tokio::spawn(async move { ours.enrol(&native(33), None, NOW).await });
        pending(&queue, 33).await;
        goes.abort();
        assert!(goes.await.unwrap_err().is_cancelled());
        held.rollback().await;
        join_all(first).await.into_iter().for_each(|d| assert!(d.unwrap().is_ok()));
        pending(&queue, 0).await;
        assert_eq!(directory(catalog).await.snapshot().agents(ORG).count(), 32);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_told_when_the_catalog_is_away() {
    for temp in catalogs().await {
        let catalog = &temp.catalog;
        let queue = patient(catalog);
        let held = hold(catalog).await;
        let asking = at_once(&queue, (1..=50).map(native).collect()).await;
        catalog.away_after(Some(0));
        held.rollback().await;
        for told in join_all(asking).await {
            let told = told.unwrap();
            assert!(matches!(told, Err(EnrolError::Catalog(Error::Unavailable(_)))), "{told:?}");
        }
        // And it goes on when it is back.
        catalog.away_after(None);
        assert!(queue.enrol(&native(1), None, NOW).await.unwrap().is_new);
    }
}
