//! Distributed read (section 7).

use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_artifact::Value as Parameter;
use muster_gateway_osquery::Question;
use muster_hunts::HuntKind;
use muster_types::{AgentNo, HuntNo, Outcome, TaskFact, TaskId};
use serde_json::json;

use crate::client::Means;
use crate::rig::Rig;

const ME: AgentNo = AgentNo(1);
const READ: &str = "/api/v1/osquery/distributed/read";
const WRITE: &str = "/api/v1/osquery/distributed/write";

fn task(hunt: HuntNo) -> TaskId {
    TaskId { hunt, attempt: 1 }
}

#[tokio::test]
async fn read_of_an_idle_agent_is_an_empty_list() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    for path in ["/api/osquery/distributed/read", "/api/v1/osquery/distributed/read", "/e/read"] {
        let reply = rig.far.post_json(path, &json!({"node_key": key})).await;
        assert_eq!((reply.status, &*reply.body), (200, &br#"{"queries":{}}"#[..]), "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn read_of_an_idle_agent_asks_no_catalog_and_appends_nothing() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.store.catalog.close().await;
    for _ in 0..20 {
        assert_eq!(rig.read(&key).await.means(), Means::Success);
    }
    assert!(rig.records().is_empty());
    assert!(rig.presence.is_online(ME));
    rig.stop().await;
}

#[tokio::test]
async fn read_hands_over_a_hunts_query_and_says_so_once_it_left() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let hunt = rig.ask(HuntKind::Hunt, "SELECT * FROM processes", &[ME]).await;
    let queries = rig.queries(&key).await;
    assert_eq!(queries, [(format!("h{hunt}"), "SELECT * FROM processes".to_owned())].into());
    assert_eq!(rig.task_facts(1).await, [TaskFact::Delivered(task(hunt))]);
    assert!(rig.queries(&key).await.is_empty(), "it is at work on it");
    rig.stop().await;
}

#[tokio::test]
async fn read_repeats_a_query_under_the_same_name_until_it_is_answered() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let hunt = rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    let first = rig.queries(&key).await;
    rig.clock.advance(Duration::from_secs(121));
    assert_eq!(rig.queries(&key).await, first);
    assert!(first.contains_key(&format!("h{hunt}")));
    rig.stop().await;
}

#[tokio::test]
async fn read_is_gzip_only_for_agents_that_take_it_and_only_where_it_is_long() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let body = json!({"node_key": key}).to_string();
    let read = async || {
        rig.clock.advance(Duration::from_secs(121));
        rig.far.post(READ, &body, &[("Accept-Encoding", "gzip")]).await
    };
    assert!(!read().await.is_packed(), "there is nothing to do");
    // One that is packed at once, and one that is packed aside.
    for (hunt, long) in [10, 1_000].into_iter().enumerate() {
        let sql = format!("SELECT '{}' AS long", "0123456789".repeat(long * 30));
        rig.ask(HuntKind::Hunt, &sql, &[ME]).await;
        let packed = read().await;
        let said: serde_json::Value = serde_json::from_slice(&packed.unpacked()).unwrap();
        assert_eq!(said["queries"].as_object().unwrap().len(), hunt + 1);
        assert!(said["queries"].as_object().unwrap().values().any(|asked| *asked == sql));
        // The first is handed over once more with the second.
        let left = [1, 3][hunt];
        assert_eq!(rig.task_facts(left).await.len(), left, "it is known to have left");
        let plain = rig.far.post(READ, &body, &[]).await;
        assert!(!plain.is_packed());
    }
    rig.stop().await;
}

#[tokio::test]
async fn read_binds_parameters_as_literals() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let sql = "SELECT :name AS name, ':name' AS kept";
    let bound = [("name".to_owned(), Parameter::Text("o'neil".into()))].into();
    rig.ask_with(HuntKind::Hunt, sql, bound, &[ME]).await;
    let queries = rig.queries(&key).await;
    assert_eq!(queries.values().next().unwrap(), "SELECT 'o''neil' AS name, ':name' AS kept");
    rig.stop().await;
}

#[tokio::test]
async fn read_never_sends_an_empty_query() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let hunt = rig.ask(HuntKind::Hunt, " \n ", &[ME]).await;
    assert!(rig.queries(&key).await.is_empty());
    let facts = rig.task_facts(1).await;
    assert!(matches!(&facts[0], TaskFact::Ended { task: ended, outcome: Outcome::Unsupported, .. }
        if *ended == task(hunt)));
    rig.stop().await;
}

#[tokio::test]
async fn read_accelerates_while_somebody_waits() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    assert!(rig.read(&key).await.json().get("accelerate").is_none());
    rig.ask(HuntKind::Live, "SELECT 2", &[ME]).await;
    let answer = rig.read(&key).await.json();
    assert_eq!(answer["accelerate"], 60, "an integer");
    rig.stop().await;
}

#[tokio::test]
async fn read_names_run_hunts_before_policies_before_inventory() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    *rig.given.questions.lock() = [("v7:inventory.users", None), ("p3", None)]
        .map(|(id, needs)| Question { id: id.into(), sql: "SELECT 1".into(), needs })
        .into();
    let hunt = rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    // Agents run them in the order of their names.
    let names: Vec<String> = rig.queries(&key).await.into_keys().collect();
    assert_eq!(names, [format!("h{hunt}"), "p3".into(), "v7:inventory.users".into()]);
    assert_eq!(rig.given.handed.load(Ordering::SeqCst), 1);
    rig.stop().await;
}

#[tokio::test]
async fn read_probes_for_a_table_and_then_probes_every_query() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    *rig.given.questions.lock() = vec![
        Question { id: "p1".into(), sql: "SELECT 1".into(), needs: None },
        Question { id: "v7:x".into(), sql: "SELECT 2".into(), needs: Some("deb_packages") },
    ];
    let answer = rig.read(&key).await.json();
    assert_eq!(answer["discovery"]["p1"], "SELECT 1", "before 5.8 one without would be skipped");
    let probe = answer["discovery"]["v7:x"].as_str().unwrap();
    assert!(probe.contains("FROM osquery_registry") && probe.contains("'deb_packages'"), "{probe}");
    rig.given.questions.lock().remove(1);
    assert!(rig.read(&key).await.json().get("discovery").is_none());
    rig.stop().await;
}

#[tokio::test]
async fn read_makes_an_agent_present_and_its_interval_known() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    assert_eq!(rig.presence.next_poll(ME), None);
    for _ in 0..3 {
        rig.read(&key).await;
        rig.clock.advance(Duration::from_secs(40));
    }
    assert_eq!(rig.presence.next_poll(ME), Some(Duration::ZERO));
    rig.read(&key).await;
    rig.clock.advance(Duration::from_secs(6));
    assert_eq!(rig.presence.next_poll(ME), Some(Duration::from_secs(34)));
    assert!(rig.presence.is_online(ME));
    rig.stop().await;
}

#[tokio::test]
async fn an_agent_whose_flags_disable_queries_says_how_to_mend_it() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let flags = json!({"data": [{"name": "muster.flags", "action": "snapshot", "snapshot":
        [{"name": "disable_distributed", "value": "true"}]}], "log_type": "result",
        "node_key": key});
    rig.far.post_json("/api/osquery/log", &flags).await;
    rig.directory.refresh().await.unwrap();
    rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    // It never asks for queries; it does ask for its configuration.
    let config = rig.far.post_json("/api/osquery/config", &json!({"node_key": key})).await;
    assert_eq!(config.means(), Means::Success);
    let facts = rig.task_facts(1).await;
    let TaskFact::Ended { outcome: Outcome::Unsupported, reason, .. } = &facts[0] else {
        panic!("{facts:?}")
    };
    assert!(reason.contains("--disable_distributed=false"), "{reason}");
    // When it is mended its first poll is noticed.
    rig.read(&key).await;
    let snapshot = rig.directory.refresh().await.unwrap();
    assert_eq!(&*snapshot.agent(ME).unwrap().facts.capabilities, "sql");
    rig.stop().await;
}

#[tokio::test]
async fn an_agent_whose_flags_disable_carving_says_how_to_mend_it() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let flags = json!({"data": [{"name": "muster.flags", "action": "added", "columns":
        {"name": "disable_carver", "value": "true"}}], "log_type": "result", "node_key": key});
    rig.far.post_json("/api/osquery/log", &flags).await;
    rig.directory.refresh().await.unwrap();
    rig.ask(HuntKind::Hunt, "SELECT * FROM carves WHERE path = '/x' AND carve = 1", &[ME]).await;
    let other = rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    assert_eq!(rig.queries(&key).await.into_keys().collect::<Vec<_>>(), [format!("h{other}")]);
    let facts = rig.task_facts(2).await;
    assert!(
        facts.iter().any(|fact| matches!(fact, TaskFact::Ended { reason, .. }
        if reason.contains("--disable_carver=false"))),
        "{facts:?}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn read_hands_over_no_more_than_fits_an_answer_and_the_rest_next_time() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let long = "x".repeat(900 << 10);
    for n in 0..6 {
        rig.ask(HuntKind::Live, &format!("SELECT {n}, '{long}'"), &[ME]).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut sizes = Vec::new();
    while seen.len() < 6 {
        let reply = rig.read(&key).await;
        assert!(reply.body.len() <= (4 << 20) + (64 << 10), "{}", reply.body.len());
        let asked = reply.json()["queries"].as_object().unwrap().clone();
        assert!(!asked.is_empty(), "{} of 6 came", seen.len());
        sizes.push(asked.len());
        let statuses: serde_json::Map<_, _> =
            asked.keys().map(|id| (id.clone(), json!(0))).collect();
        let queries: serde_json::Map<_, _> =
            asked.keys().map(|id| (id.clone(), json!([]))).collect();
        seen.extend(asked.into_iter().map(|(id, _)| id));
        let body = json!({"node_key": key, "queries": queries, "statuses": statuses});
        assert_eq!(rig.far.post_json(WRITE, &body).await.means(), Means::Success);
    }
    assert_eq!(sizes, [4, 2]);
    rig.stop().await;
}
