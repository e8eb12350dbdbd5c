//! Log (section 6).

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use muster_gateway_osquery::Options;
use muster_stream::{AppendError, Stream as _};
use muster_types::{Class, Delta, Fact, Record, Repeat, Rows};
use serde_json::{Value, json};

use crate::client::{Means, Reply};
use crate::rig::{Rig, Setup};

const LOG: &str = "/api/v1/osquery/log";

fn line(n: usize) -> Value {
    json!({"name": "pack/Global/cpu", "hostIdentifier": "h", "calendarTime": "c",
        "unixTime": 1_800_000_000, "epoch": 0, "counter": n, "numerics": false,
        "action": "added", "columns": {"n": n.to_string()}})
}

/// As osqueryd writes it: the key last.
fn body(key: &str, log_type: &str, lines: &[Value]) -> String {
    let data = Value::from(lines);
    format!("{{\"data\":{data},\"log_type\":\"{log_type}\",\"node_key\":\"{key}\"}}")
}

impl Rig {
    async fn log(&self, key: &str, lines: &[Value]) -> Reply {
        self.far.post(LOG, body(key, "result", lines), &[]).await
    }

    fn rows(&self) -> Vec<Rows> {
        let rows = |fact| match fact {
            Fact::Rows(rows) => Some(rows),
            _ => None,
        };
        self.facts().into_iter().filter_map(rows).collect()
    }

    fn dropped(&self) -> Vec<(String, String)> {
        let dropped = |fact| match fact {
            Fact::Dropped { source, message } => Some((source, message)),
            _ => None,
        };
        self.facts().into_iter().filter_map(dropped).collect()
    }
}

#[tokio::test]
async fn log_lines_are_durable_before_the_empty_object() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let reply = rig.log(&key, &[line(0), line(1)]).await;
    assert_eq!((reply.status, &*reply.body), (200, &b"{}"[..]));
    let rows = rig.rows();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].source, "pack/Global/cpu", "the prefix of a pack is kept");
    assert_eq!(rows[1].delta, Delta::Added { epoch: 0, counter: 1 });
    rig.stop().await;
}

#[tokio::test]
async fn log_trouble_is_an_error_so_that_the_agent_keeps_its_lines() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    for error in [
        AppendError::Full { retry_after: Duration::from_secs(3) },
        AppendError::Unavailable("no disk".into()),
    ] {
        rig.stream.refuse(Some(error));
        let reply = rig.log(&key, &[line(0)]).await;
        assert_eq!((reply.status, reply.means()), (503, Means::KeepAndRetry));
        assert!(reply.head.to_ascii_lowercase().contains("retry-after"), "{}", reply.head);
    }
    rig.stream.refuse(None);
    assert_eq!(rig.log(&key, &[line(0)]).await.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn log_without_lines_is_fine() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    assert_eq!(rig.log(&key, &[]).await.body, b"{}");
    assert!(rig.said().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn log_of_status_lines_becomes_the_agents_log() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let lines = [
        json!({"severity": "2", "filename": "a.cpp", "line": "7", "message": "broken"}),
        json!({"severity": 1, "filename": "b.cpp", "line": 8, "message": "odd"}),
    ];
    let reply = rig.far.post(LOG, body(&key, "status", &lines), &[]).await;
    assert_eq!(reply.means(), Means::Success);
    let logged: Vec<_> = rig.facts();
    assert!(matches!(&logged[0], Fact::Log { level, message }
        if level == "error" && message == "a.cpp:7 broken"));
    assert!(matches!(&logged[1], Fact::Log { level, .. } if level == "warning"));
    rig.stop().await;
}

#[tokio::test]
async fn log_may_be_gzip() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let lines: Vec<Value> = (0..500).map(line).collect();
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(body(&key, "result", &lines).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    // The key is in the body alone: many that come at once wait for each other, and are not refused.
    let posts = (0..64).map(|_| rig.far.post(LOG, packed.clone(), &[("Content-Encoding", "gzip")]));
    let replies = futures_util::future::join_all(posts).await;
    assert!(replies.iter().all(|reply| reply.means() == Means::Success), "{replies:?}");
    assert_eq!(rig.rows().len(), 64 * 500);
    rig.stop().await;
}

#[tokio::test]
async fn log_that_is_packed_is_unpacked_for_agents_alone_and_where_there_is_room() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(body(&key, "result", &[line(0)]).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let gzip = ("Content-Encoding", "gzip");
    let all = rig.budget.try_take(usize::MAX).unwrap();
    let foreign = ("Authorization", "NodeKey foreign");
    let refused = rig.far.post(LOG, packed.clone(), &[gzip, foreign]).await;
    assert_eq!(refused.means(), Means::EnrolAgain, "by its key, not for want of room");
    let refused = rig.far.post(LOG, packed.clone(), &[gzip]).await;
    assert_eq!((refused.status, refused.means()), (503, Means::KeepAndRetry));
    drop(all);
    assert_eq!(rig.far.post(LOG, packed, &[gzip]).await.means(), Means::Success);
    assert_eq!((rig.rows().len(), rig.budget.used()), (1, 0));
    rig.stop().await;
}

#[tokio::test]
async fn log_of_status_lines_over_the_cap_loses_no_results() {
    let options = Options { log_bytes_max: 10_000, ..Options::default() };
    let rig = Rig::with(Setup { options, ..Setup::default() }).await;
    let key = rig.enrol("host-1", "a").await;
    let lines = vec![json!({"severity": 0, "filename": "a.cpp", "line": 7, "message": "m"}); 500];
    let reply = rig.far.post(LOG, body(&key, "status", &lines), &[]).await;
    assert_eq!(reply.means(), Means::Success);
    let dropped = rig.dropped();
    assert_eq!((dropped.len(), dropped[0].0.as_str()), (1, "status log"), "{dropped:?}");
    rig.stop().await;
}

#[tokio::test]
async fn log_of_status_lines_is_dropped_and_counted_while_the_stream_is_nearly_full() {
    let rig = Rig::with(Setup { quota_bytes: 100_000, ..Setup::default() }).await;
    let key = rig.enrol("host-1", "a").await;
    let status = json!({"severity": 0, "filename": "a.cpp", "line": 7, "message": "m"});
    let mut long = line(0);
    long["columns"]["n"] = "x".repeat(31_000).into();
    assert_eq!(rig.log(&key, &[long]).await.means(), Means::Success);
    // What is most precious may fill all of it.
    let precious = Record { class: Class::LifeCycle, ..rig.records()[0].clone() };
    rig.stream.append(vec![precious.clone(), precious]).await.unwrap();
    let before = rig.records().len();
    let reply = rig.far.post(LOG, body(&key, "status", &[status.clone(), status]), &[]).await;
    assert_eq!(reply.means(), Means::Success);
    assert_eq!((rig.metrics.status_dropped.get(), rig.records().len()), (2, before));
    rig.stop().await;
}

#[tokio::test]
async fn log_with_bytes_that_are_not_utf8_is_taken() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let text = body(&key, "result", &[line(0)]);
    let bytes = text.replace("\"n\":\"0\"", "\"n\":\"\u{1}BAD\"");
    let mut bytes = bytes.into_bytes();
    let at = bytes.iter().position(|byte| *byte == 1).unwrap();
    bytes[at] = 0xff;
    assert_eq!(rig.far.post(LOG, bytes, &[]).await.means(), Means::Success);
    let rows = rig.rows();
    let text = std::str::from_utf8(&rows[0].json).unwrap();
    assert!(text.contains("\u{fffd}BAD"), "{text}");
    rig.stop().await;
}

#[tokio::test]
async fn log_over_the_cap_is_taken_as_far_as_it_fits_and_the_rest_recorded() {
    let options = Options { log_bytes_max: 100_000, ..Options::default() };
    let rig = Rig::with(Setup { options, ..Setup::default() }).await;
    let key = rig.enrol("host-1", "a").await;
    let lines: Vec<Value> = (0..1024).map(line).collect();
    // The key is at the end, far behind what was kept.
    let reply = rig.log(&key, &lines).await;
    assert_eq!((reply.status, reply.means()), (200, Means::Success));
    let taken = rig.rows().len();
    assert!((400..1024).contains(&taken), "{taken}");
    let dropped = rig.dropped();
    assert_eq!((dropped.len(), dropped[0].0.as_str()), (1, "log"), "{dropped:?}");

    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(body(&key, "result", &lines).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let reply = rig.far.post(LOG, packed, &[("Content-Encoding", "gzip")]).await;
    assert_eq!(reply.means(), Means::Success);
    assert_eq!((rig.rows().len(), rig.dropped().len()), (2 * taken, 2));
    rig.stop().await;
}

#[tokio::test]
async fn log_that_cannot_be_read_is_taken_off_the_agents_hands_and_recorded() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let broken =
        format!("{{\"data\":[{{\"name\":}}],\"log_type\":\"result\",\"node_key\":\"{key}\"}}");
    assert_eq!(rig.far.post(LOG, &broken, &[]).await.means(), Means::Success);
    assert_eq!(rig.dropped().len(), 1, "it would come again for ever");
    let nobodys = broken.replace(&key, "x");
    assert_eq!(rig.far.post(LOG, &nobodys, &[]).await.means(), Means::EnrolAgain);
    assert_eq!(rig.far.post(LOG, "{\"data\":[", &[]).await.means(), Means::KeepAndRetry);
    assert_eq!(rig.dropped().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn log_sent_again_is_recognised_by_its_lines() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let lines = [line(0), line(1)];
    rig.log(&key, &lines).await;
    rig.log(&key, &[&lines[..], &[line(2)]].concat()).await;
    let hashes: Vec<Vec<u64>> = rig
        .said()
        .into_iter()
        .map(|(_, facts)| match facts.repeat {
            Repeat::Lines { lines, .. } => lines,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(hashes[1][..2], hashes[0][..], "a longer body begins like the first");
    rig.stop().await;
}

#[tokio::test]
async fn log_in_all_four_forms_becomes_rows() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let common = json!({"name": "q", "unixTime": "1800000000", "epoch": "3", "counter": "7"});
    let with = |more: Value| {
        let mut line = common.clone();
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    let lines = [
        with(json!({"action": "removed", "columns": {"a": "1"}})),
        with(json!({"diffResults": {"removed": [{"a": "2"}], "added": [{"a": "3"}, {"a": "4"}]}})),
        with(json!({"action": "snapshot", "snapshot": [{"a": "5"}]})),
        with(json!({"action": "snapshot", "columns": {"a": 6}, "numerics": true})),
    ];
    assert_eq!(rig.log(&key, &lines).await.means(), Means::Success);
    let deltas: Vec<Delta> = rig.rows().into_iter().map(|rows| rows.delta).collect();
    let (epoch, counter) = (3, 7);
    let removed = Delta::Removed { epoch, counter };
    assert!(deltas.contains(&removed) && deltas.contains(&Delta::Added { epoch, counter }));
    let snapshots = deltas.iter().filter(|delta| matches!(delta, Delta::Snapshot { .. })).count();
    assert_eq!(snapshots, 2, "{deltas:?}");
    rig.stop().await;
}

#[tokio::test]
async fn log_never_holds_a_node_key() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.log(&key, &[line(0)]).await;
    let kept = format!("{:?}", rig.records());
    assert!(!kept.contains(&key) && !kept.contains("node_key"));
    rig.stop().await;
}

#[tokio::test]
async fn flags_that_switch_queries_off_are_noted() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let flags = json!({"name": "muster.flags", "unixTime": 1, "action": "snapshot", "snapshot": [
        {"name": "disable_distributed", "value": "true"},
        {"name": "disable_carver", "value": "false"}]});
    assert_eq!(rig.log(&key, &[line(0), flags]).await.means(), Means::Success);
    let snapshot = rig.directory.refresh().await.unwrap();
    let agent = snapshot.agent(muster_types::AgentNo(1)).unwrap();
    assert_eq!(&*agent.facts.capabilities, "sql distributed:off");
    // It is on, and asks somebody else.
    let flags = json!({"name": "muster.flags", "unixTime": 2, "action": "snapshot", "snapshot": [
        {"name": "disable_distributed", "value": "false"},
        {"name": "distributed_plugin", "value": "filesystem"},
        {"name": "disable_carver", "value": "true"}]});
    assert_eq!(rig.log(&key, &[flags]).await.means(), Means::Success);
    let snapshot = rig.directory.refresh().await.unwrap();
    let agent = snapshot.agent(muster_types::AgentNo(1)).unwrap();
    assert_eq!(&*agent.facts.capabilities, "sql distributed:off carver:off");
    rig.stop().await;
}
