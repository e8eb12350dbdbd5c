//! Distributed write (section 7).

use std::time::Duration;

use muster_gateway::AgentRef;
use muster_gateway_osquery::Options;
use muster_hunts::HuntKind;
use muster_stream::AppendError;
use muster_types::{AgentKind, AgentNo, Fact, OrgId, Outcome, Repeat, Spent, Used};
use serde_json::{Value, json};

use crate::client::{Means, Reply};
use crate::rig::{Rig, Setup};

const ME: AgentNo = AgentNo(1);
const WRITE: &str = "/api/v1/osquery/distributed/write";

impl Rig {
    async fn write(&self, key: &str, queries: Value, statuses: Value, messages: Value) -> Reply {
        // The key is last, as agents send it.
        let body = format!(
            "{{\"queries\":{queries},\"statuses\":{statuses},\"messages\":{messages},\
             \"stats\":{{}},\"node_key\":\"{key}\"}}"
        );
        self.far.post(WRITE, body, &[]).await
    }
}

#[tokio::test]
async fn write_becomes_rows_and_the_end_of_the_task() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let hunt = rig.ask(HuntKind::Live, "SELECT 1", &[ME]).await;
    let id = rig.queries(&key).await.into_keys().next().unwrap();
    let body = json!({"queries": {&id: [{"x": "1"}, {"x": "2"}]}, "statuses": {&id: 0},
        "messages": {&id: ""}, "stats": {&id: {"wall_time_ms": 12, "user_time": 9, "system_time": 3, "memory": -4096}}, "node_key": key});
    assert_eq!(rig.far.post_json(WRITE, &body).await.body, b"{}");
    let said = rig.said();
    assert_eq!(said[0].1.repeat, Repeat::Idempotent);
    let Fact::Rows(rows) = &said[0].1.items[0] else { panic!("{said:?}") };
    assert_eq!(rows.task.map(|task| task.hunt), Some(hunt));
    let Fact::End(end) = &said[0].1.items[1] else { panic!("{said:?}") };
    let used = Used { user_micros: 9000, system_micros: 3000, memory_bytes: 0 };
    let spent = Spent { elapsed_micros: 12_000, status: Some(0), used: Some(used) };
    assert_eq!((end.outcome, end.spent), (None, spent));
    assert!(rig.queries(&key).await.is_empty(), "answered, though the fold has not seen it yet");
    rig.stop().await;
}

#[tokio::test]
async fn write_of_a_failed_query_says_why() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let statuses = json!({"h1": 1, "h2": "0", "h3": 1});
    let messages = json!({"h1": "no such table: x", "h3": "distributed query is denylisted"});
    let reply = rig.write(&key, json!({"h1": [], "h2": "", "h3": []}), statuses, messages).await;
    assert_eq!(reply.means(), Means::Success);
    let ends: Vec<_> = rig
        .facts()
        .into_iter()
        .filter_map(|fact| match fact {
            Fact::End(end) => Some((end.task.hunt.0, end.outcome, end.message)),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 3);
    assert_eq!(ends[0], (1, Some(Outcome::Failed), "no such table: x".into()));
    assert_eq!(ends[1].1, None, "agents before 3.0 send no list and statuses as text");
    assert!(ends[2].1 == Some(Outcome::Failed) && ends[2].2.contains("denylisted"), "{ends:?}");
    rig.stop().await;
}

#[tokio::test]
async fn write_trouble_is_an_error_and_the_same_answers_come_again() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.stream.refuse(Some(AppendError::Full { retry_after: Duration::from_secs(1) }));
    let write = || rig.write(&key, json!({"h1": [{"x": "1"}]}), json!({"h1": 0}), json!({}));
    assert_eq!(write().await.means(), Means::KeepAndRetry);
    rig.stream.refuse(None);
    assert_eq!(write().await.means(), Means::Success);
    assert_eq!(write().await.means(), Means::Success, "the first answer wins, in the fold");
    rig.stop().await;
}

#[tokio::test]
async fn write_over_the_cap_is_success_and_a_failed_query() {
    let options = Options { write_bytes_max: 50_000, ..Options::default() };
    let rig = Rig::with(Setup { options, ..Setup::default() }).await;
    let key = rig.enrol("host-1", "a").await;
    let big: Vec<Value> =
        (0..2_000).map(|n| json!({"path": format!("/some/where/{n:08}")})).collect();
    let queries = json!({"h1": [{"x": "1"}], "h2": big});
    let reply = rig.write(&key, queries, json!({"h1": 0, "h2": 0}), json!({})).await;
    assert_eq!((reply.status, reply.means()), (200, Means::Success), "else it comes every cycle");
    let ends: Vec<_> = rig
        .facts()
        .into_iter()
        .filter_map(|fact| match fact {
            Fact::End(end) => Some((end.task.hunt.0, end.outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(1, None), (2, Some(Outcome::Failed))]);
    assert!(rig.facts().iter().any(|fact| matches!(fact, Fact::Dropped { .. })));
    rig.stop().await;
}

#[tokio::test]
async fn write_with_bytes_that_are_not_utf8_is_taken() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let head =
        b"{\"queries\":{\"h1\":[{\"x\":\"\xff\xfe\"}]},\"statuses\":{\"h1\":0},\"node_key\":\"";
    let body = [&head[..], key.as_bytes(), b"\"}"].concat();
    assert_eq!(rig.far.post(WRITE, body, &[]).await.means(), Means::Success);
    let rows = rig.facts().into_iter().find_map(|fact| match fact {
        Fact::Rows(rows) => Some(rows),
        _ => None,
    });
    let rows = rows.unwrap();
    assert!(std::str::from_utf8(&rows.json).unwrap().contains('\u{fffd}'));
    rig.stop().await;
}

#[tokio::test]
async fn write_that_cannot_be_read_is_taken_off_the_agents_hands() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let body = format!("{{\"queries\":[[[,\"node_key\":\"{key}\"}}");
    assert_eq!(rig.far.post(WRITE, body, &[]).await.means(), Means::Success);
    assert!(
        matches!(&rig.facts()[0], Fact::Dropped { source, .. } if source == "distributed/write")
    );
    rig.stop().await;
}

#[tokio::test]
async fn write_of_vitals_updates_the_directory() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let queries = json!({
        "v7:inventory.system": [{"hostname": "renamed.example"}],
        "v7:inventory.os": [{"name": "Ubuntu", "version": "26.04", "arch": "aarch64"}],
    });
    let statuses = json!({"v7:inventory.system": 0, "v7:inventory.os": 0});
    assert_eq!(rig.write(&key, queries, statuses, json!({})).await.means(), Means::Success);
    let snapshot = rig.directory.refresh().await.unwrap();
    let agent = snapshot.agent(ME).unwrap();
    assert_eq!((&*agent.hostname, &*agent.facts.os_version), ("renamed.example", "26.04"));
    assert_eq!((&*agent.facts.arch, &*agent.facts.version), ("aarch64", "5.22.1"));
    rig.stop().await;
}

/// Stores may be away for long, and agents that repeat a query would run it at every poll.
#[tokio::test]
async fn write_that_was_taken_ends_the_query_however_late_the_fold_is() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let other = rig.enrol("host-2", "b").await;
    rig.ask(HuntKind::Hunt, "SELECT 1", &[ME, AgentNo(2)]).await;
    let id = rig.queries(&key).await.into_keys().next().unwrap();
    assert_eq!(rig.queries(&other).await.len(), 1);
    let body = json!({"queries": {&id: [{"x": "1"}]}, "statuses": {&id: 0}, "messages": {},
        "node_key": key});
    assert_eq!(rig.far.post_json(WRITE, &body).await.means(), Means::Success);
    // Nothing folds here.
    for _ in 0..10 {
        rig.clock.advance(Duration::from_secs(130));
        assert!(rig.queries(&key).await.is_empty(), "it is run once");
        assert_eq!(rig.queries(&other).await.len(), 1, "who has not answered is asked again");
    }
    rig.stop().await;
}

#[tokio::test]
async fn write_to_one_instance_ends_the_query_at_the_others() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.ask(HuntKind::Hunt, "SELECT 1", &[ME]).await;
    let id = rig.queries(&key).await.into_keys().next().unwrap();
    let me = AgentRef { no: ME, org: OrgId::DEFAULT, kind: AgentKind::Osquery };
    assert_eq!(rig.beside.take(me, 10).await.len(), 1);
    let body = json!({"queries": {&id: [{"x": "1"}]}, "statuses": {&id: 0}, "messages": {},
        "node_key": key});
    assert_eq!(rig.far.post_json(WRITE, &body).await.means(), Means::Success);
    // Each time later than what was handed over is remembered; the hint takes a moment.
    let ends = async {
        loop {
            rig.clock.advance(Duration::from_secs(130));
            if rig.beside.take(me, 10).await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ends).await.expect("it is not handed over there");
    rig.stop().await;
}
