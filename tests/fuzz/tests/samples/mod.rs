//! What each format looks like when it is right.

mod state;

use bytes::{Bytes, BytesMut};
use muster_hunts::ShardProgress;
use muster_results::{Cell, RowClass, RowFormat, RowMeta, SegmentBuilder, TableSpec};
use muster_types::{
    AgentKind, AgentNo, Body, Class, ColumnDecl, ColumnType, HuntNo, OrgId, Outcome, Payload, Pos,
    Record, Shard, TaskFact, TaskId, Timestamp,
};

pub use state::shard_state;

const ORG: OrgId = OrgId::DEFAULT;

pub fn artifacts() -> Vec<Vec<u8>> {
    let names = muster_artifact::builtin().iter().map(|artifact| artifact.name.as_str());
    let texts = names.step_by(8).filter_map(muster_artifact::builtin_yaml);
    texts.map(|text| text.as_bytes().to_vec()).collect()
}

pub fn conditions() -> Vec<Vec<u8>> {
    [
        "platform = 'linux'",
        "os_version LIKE '12%' AND NOT (label IN ('a', 'b') OR \"name\" <> 'c')",
        "endpoint BETWEEN 7 AND 9 AND last_seen > now() - interval '2 days' OR NOT online IS FALSE",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub fn hunt_progress() -> Vec<Vec<u8>> {
    let mut progress = ShardProgress::new();
    let agents = (0..5_000).filter_map(|local| AgentNo::from_parts(Shard::new(0)?, local));
    for (n, agent) in agents.enumerate() {
        progress.deliver(agent);
        if n % 3 > 0 {
            progress.end(agent, Outcome::ALL[2 + n % 8]);
        }
    }
    progress.row_count = 70_000;
    progress.byte_count = 9_000_000;
    vec![ShardProgress::new().encode(), progress.encode()]
}

/// Frames with headers of zero checksums: what follows is looked at all the same.
pub fn log_frames() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for record in records() {
        let length = u32::try_from(record.len()).unwrap().to_le_bytes();
        all.extend_from_slice(&[&length[..], &[0; 8], &record].concat());
    }
    vec![all]
}

pub fn native_frames() -> Vec<Vec<u8>> {
    macro_rules! samples {
        ($($name:literal),*) => {
            vec![$(include_bytes!(concat!(
                "../../../../crates/codec-native/tests/samples/", $name, ".v1"
            )).to_vec()),*]
        };
    }
    samples!(
        "ack",
        "batch",
        "bye",
        "cancel",
        "challenge",
        "hello",
        "nack",
        "pong",
        "rekey",
        "task",
        "welcome"
    )
}

pub fn osquery_messages() -> Vec<Vec<u8>> {
    [
        r#"{"enroll_secret":"s","host_identifier":"h","platform_type":"9","host_details":{"os_version":{"name":"Debian","version":"13"},"osquery_info":{"version":"5.12.1","instance_id":"i"},"system_info":{"hostname":"h","hardware_uuid":"u"}}}"#,
        r#"{"node_key":"k","config_hash":"x"}"#,
        r#"{"block_count":2,"block_size":8,"carve_size":12,"carve_id":"g","request_id":"r","node_key":"k"}"#,
        r#"{"block_id":0,"session_id":"AQ","request_id":"r","data":"MTIzNDU2Nzg="}"#,
        r#"{"node_key":"k","log_type":"result","data":[{"name":"pack/p/q","hostIdentifier":"h","calendarTime":"x","unixTime":1800000000,"epoch":0,"counter":1,"numerics":false,"columns":{"pid":"1"},"action":"added"},{"name":"d","unixTime":1,"epoch":1,"counter":0,"diffResults":{"added":[{"a":"1"}],"removed":[{"b":"2"}]}},{"name":"s","snapshot":[{"a":"1"},{"a":"2"}],"action":"snapshot","unixTime":"2"}]}"#,
        r#"{"node_key":"k","log_type":"status","data":[{"severity":"1","filename":"f.cpp","line":"7","message":"m","version":"5","unixTime":"1"}]}"#,
        r#"{"node_key":"k","queries":{"m:1:1":[{"a":"1"}],"m:2:1":""},"statuses":{"m:1:1":0,"m:2:1":1},"messages":{"m:2:1":"no such table"},"stats":{"m:1:1":{"wall_time_ms":1,"user_time":2,"system_time":3,"memory":4}}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub fn records() -> Vec<Vec<u8>> {
    let task = TaskId { hunt: HuntNo(7), attempt: 2 };
    let bodies = [
        Body::Wire(Payload::Inline(Bytes::from_static(b"{\"a\":1}"))),
        Body::Fact(TaskFact::Delivered(task)),
        Body::Fact(TaskFact::Ended { task, outcome: Outcome::Expired, reason: "late".into() }),
    ];
    let record = |body| {
        let mut bytes = BytesMut::new();
        let (agent, kind, class) = (AgentNo(70), AgentKind::Osquery, Class::Collected);
        let received_at = Timestamp(1_800_000_000_000_000);
        Record { org: ORG, agent, kind, class, received_at, body }.encode(&mut bytes);
        bytes.to_vec()
    };
    bodies.into_iter().map(record).collect()
}

pub fn segments() -> Vec<Vec<u8>> {
    let column = |name: &str, kind| ColumnDecl { name: name.to_owned(), kind };
    let table = |name: &str| {
        let columns = vec![column("pid", ColumnType::Int), column("name", ColumnType::Text)];
        TableSpec { name: name.to_owned(), class: RowClass::Collected, columns, open: false }
    };
    let meta = RowMeta {
        org: ORG,
        agent: AgentNo(1),
        agent_kind: AgentKind::Native,
        hunt: HuntNo(1),
        attempt: 1,
        late: false,
        received_at: Timestamp(1_800_000_000_000_000),
        endpoint_time: None,
        shard: AgentNo(1).shard(),
        pos: Pos(9),
    };
    let mut builder = SegmentBuilder::new();
    for name in ["linux_processes", "errors"] {
        let json = br#"[{"pid":"1","name":"init"},{"pid":2,"more":[1]}]"#;
        builder.append_json(&table(name).into(), &meta, RowFormat::Array, json).unwrap();
        let row = [("pid", Cell::Int(3)), ("name", Cell::Text("x"))];
        builder.append_row(&table(name).into(), &meta, &row);
    }
    vec![
        builder.finish().unwrap().bytes.to_vec(),
        muster_results::SegmentWriter::new().finish().0.to_vec(),
    ]
}
