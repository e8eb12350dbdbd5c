//! Helpers.

use bytes::Bytes;
use muster_codec_osquery::{Body, LogRequest, OsqueryDecoder, WriteRequest, wire};
use muster_types::{
    AgentKind, AgentNo, Body as RecordBody, Class, Decode, Fact, Facts, OrgId, Payload, Poison,
    Record, Repeat, RowFormat, Rows, Timestamp,
};

pub fn decode(payload: Bytes) -> Result<Facts, Poison> {
    let record = Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(7),
        kind: AgentKind::Osquery,
        class: Class::Scheduled,
        received_at: Timestamp(0),
        body: RecordBody::Wire(Payload::Inline(Bytes::new())),
    };
    OsqueryDecoder.decode(&record, payload)
}

pub fn whole(body: impl AsRef<[u8]>) -> Body {
    Body::whole(Bytes::copy_from_slice(body.as_ref()))
}

/// Facts of a result log with these lines.
pub fn results(lines: &[String]) -> Facts {
    log("result", lines)
}

pub fn log(log_type: &str, lines: &[String]) -> Facts {
    let body =
        format!(r#"{{"data":[{}],"log_type":"{log_type}","node_key":"k"}}"#, lines.join(","));
    decode(wire::log(LogRequest::parse(&whole(body)).unwrap())).unwrap()
}

pub fn write(body: &str) -> Vec<Fact> {
    let facts = decode(wire::write(&WriteRequest::parse(&whole(body)).unwrap())).unwrap();
    assert_eq!(facts.repeat, Repeat::Idempotent);
    facts.items
}

pub fn rows(fact: &Fact) -> &Rows {
    match fact {
        Fact::Rows(rows) => rows,
        other => panic!("no rows: {other:?}"),
    }
}

/// The rows of a fact, one JSON text each.
pub fn texts(fact: &Fact) -> Vec<String> {
    let Rows { json, format, .. } = rows(fact);
    let values: Vec<serde_json::Value> = match format {
        RowFormat::Array => serde_json::from_slice(json).unwrap(),
        RowFormat::Lines => std::str::from_utf8(json)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    };
    values.into_iter().map(|value| value.to_string()).collect()
}
