//! The entry of the fuzz target.

use bytes::Bytes;
use muster_types::{
    AgentKind, AgentNo, Body as RecordBody, Class, Decode, Facts, OrgId, Payload, Poison, Record,
    Repeat, Timestamp,
};

use crate::{
    Body, CarveBegin, CarveBlock, EnrolRequest, KeyOnly, LogRequest, OsqueryDecoder, QueryId,
    WriteRequest, wire,
};

/// Reads arbitrary bytes as everything this crate reads: whole, cut at several places, packed.
///
/// # Panics
/// When what was accepted cannot be read back from the stream: that is the finding.
pub fn fuzz_decode(data: &[u8]) {
    let _ = (EnrolRequest::parse(data), KeyOnly::parse(data), CarveBegin::parse(data));
    let _ = CarveBlock::parse(data).map(|block| block.bytes());
    let _ = std::str::from_utf8(data).map(QueryId::parse);
    let bytes = Bytes::copy_from_slice(data);
    bodies(&Body::whole(bytes.clone()));
    let (head, tail) = (bytes.len() / 2, bytes.len() * 2 / 3);
    bodies(&Body::cut(bytes.slice(..head), bytes.slice(tail..), bytes.len() as u64));
    bodies(&Body::unpack(data, 4096, 1 << 16));
    if let Ok(facts) = decode(bytes) {
        check(&facts);
    }
}

fn bodies(body: &Body) {
    if let Ok(log) = LogRequest::parse(body) {
        check(&decode(wire::log(log)).expect("an accepted log reads back"));
    }
    if let Ok(write) = WriteRequest::parse(body) {
        check(&decode(wire::write(&write)).expect("an accepted write reads back"));
    }
}

fn check(facts: &Facts) {
    if let Repeat::Lines { lines, groups, .. } = &facts.repeat {
        let hashes = if groups.is_empty() {
            facts.items.len()
        } else {
            assert_eq!(groups.len(), facts.items.len(), "one group for each item");
            groups.iter().map(|count| *count as usize).sum()
        };
        assert_eq!(lines.len(), hashes, "one hash for each line of each item");
    }
}

fn decode(payload: Bytes) -> Result<Facts, Poison> {
    let record = Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(1),
        kind: AgentKind::Osquery,
        class: Class::Scheduled,
        received_at: Timestamp(0),
        body: RecordBody::Wire(Payload::Inline(Bytes::new())),
    };
    OsqueryDecoder.decode(&record, payload)
}
