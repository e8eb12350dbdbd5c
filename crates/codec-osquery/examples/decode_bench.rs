//! How fast log POSTs are read and decoded, on one thread.
//!
//! `cargo run --release -p muster-codec-osquery --example decode_bench`

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use muster_codec_osquery::{Body, LogRequest, OsqueryDecoder, wire};
use muster_types::{
    AgentKind, AgentNo, Body as RecordBody, Class, Decode, OrgId, Payload, Record, Timestamp,
};

const LINES: usize = 1024;
const ROUNDS: usize = 500;

fn main() {
    let columns = r#""build_distro":"centos7","build_platform":"linux","config_hash":"eed0d8296e5f90b790a23814a9db7a127b13498d","config_valid":"1","extensions":"active","instance_id":"b0f4c5d6-4b36-4c9f-8d5a-1f1d2d3e4f5a","pid":"11287","platform_mask":"9","start_time":"1412098650","uuid":"8f0c31f8-7f2b-4f1c","version":"5.23.1","watcher":"11286""#;
    let event = |n: usize| {
        format!(
            r#"{{"name":"pack/Global/osquery_info","hostIdentifier":"8F0C31F8-7F2B","calendarTime":"Tue Sep 30 17:37:30 2014 UTC","unixTime":1412098650,"epoch":0,"counter":1,"numerics":false,"columns":{{{columns},"n":"{n}"}},"action":"added"}}"#
        )
    };
    let snapshot = |n: usize| {
        format!(
            r#"{{"name":"pack/Global/info_{n}","hostIdentifier":"8F0C31F8-7F2B","calendarTime":"Tue Sep 30 17:37:30 2014 UTC","unixTime":{n},"epoch":0,"counter":0,"numerics":false,"snapshot":[{{{columns}}}],"action":"snapshot"}}"#
        )
    };
    measure("event lines of one query", &body(event));
    measure("snapshot lines, each of its own", &body(snapshot));
}

fn body(line: impl Fn(usize) -> String) -> Bytes {
    let lines: Vec<String> = (0..LINES).map(line).collect();
    let lines = lines.join(",");
    format!(r#"{{"data":[{lines}],"log_type":"result","node_key":"k"}}"#).into()
}

fn measure(what: &str, body: &Bytes) {
    let record = Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(7),
        kind: AgentKind::Osquery,
        class: Class::Scheduled,
        received_at: Timestamp(0),
        body: RecordBody::Wire(Payload::Inline(Bytes::new())),
    };
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let request =
            LogRequest::parse(&Body::whole(black_box(body).clone())).expect("it is a log");
        black_box(wire::log(request));
    }
    let front = begun.elapsed();
    let request = LogRequest::parse(&Body::whole(body.clone())).expect("it is a log");
    let payload = wire::log(request);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let facts = OsqueryDecoder.decode(&record, black_box(&payload).clone());
        black_box(facts.expect("it decodes"));
    }
    let back = begun.elapsed();
    let per = |time: std::time::Duration| time.as_secs_f64() * 1e9 / (ROUNDS * LINES) as f64;
    println!(
        "{what}: {LINES} lines of {} bytes; gateway {:.0} ns/line, worker {:.0} ns/line",
        body.len() / LINES,
        per(front),
        per(back)
    );
}
