//! A shard's state that has something of everything.

use bytes::Bytes;
use muster_intake::fold::{
    Counted, HuntLookup, HuntView, Keeps, RowAt, RowSink, ShardState, StateStep, SystemRow, Target,
    apply,
};
use muster_stream::Entry;
use muster_types::{
    AgentKind, AgentNo, Body, Class, Delta, Fact, Facts, HuntNo, OrgId, Payload, Pos, Record,
    Repeat, RowFormat, Rows, Shard, Spent, TaskEnd, TaskFact, TaskId, Timestamp, UploadBlock,
    UploadNo,
};

/// Asks for everything.
struct Everything;

impl HuntLookup for Everything {
    fn hunt(&self, _: HuntNo) -> Option<HuntView> {
        Some(HuntView {
            org: OrgId::DEFAULT,
            rows_per_endpoint: 100,
            bytes_per_endpoint: 10_000,
            interactive: false,
            watched: false,
        })
    }

    fn is_recruited(&self, _: HuntNo, _: AgentNo) -> bool {
        true
    }

    fn scheduled(&self, _: OrgId, _: AgentKind, _: &str) -> Option<Keeps> {
        Some(Keeps::State)
    }
}

/// Takes everything.
struct Nowhere;

impl RowSink for Nowhere {
    fn rows(
        &mut self,
        _: Target<'_>,
        _: &RowAt,
        _: RowFormat,
        json: &[u8],
    ) -> Result<Counted, String> {
        Ok(Counted { rows: 1, bytes: json.len() as u64 })
    }

    fn state(
        &mut self,
        _: &StateStep<'_>,
        _: &RowAt,
        _: RowFormat,
        _: &[u8],
    ) -> Result<(), String> {
        Ok(())
    }

    fn mark(&mut self, _: &StateStep<'_>, _: &RowAt) {}

    fn system(&mut self, _: &RowAt, _: &SystemRow<'_>) {}
}

fn told(n: u64) -> (Repeat, Vec<Fact>) {
    let task = TaskId { hunt: HuntNo(1 + n % 5), attempt: 1 };
    let rows = |task, source: &str, delta| {
        let source = source.to_owned();
        let json = Bytes::from_static(b"[{\"a\":1}]");
        let (columns, format, endpoint_time) = (Vec::new(), RowFormat::Array, Some(Timestamp(1)));
        Fact::Rows(Rows { task, source, columns, format, json, endpoint_time, delta })
    };
    let end = TaskEnd { task, outcome: None, message: String::new(), spent: Spent::micros(5) };
    let block = UploadBlock {
        upload: UploadNo(n % 3),
        index: n as u32 * 2 % 11,
        count: 11,
        bytes: Bytes::from_static(b"12345678"),
    };
    match n % 6 {
        0 => (Repeat::Sequence { stream: n, seq: n + 1 }, vec![rows(Some(task), "", Delta::None)]),
        1 => {
            let repeat = Repeat::RowRange { flow: 1, part: n, start: 2 * n, end: 2 * n + 1 };
            (repeat, vec![rows(Some(task), "", Delta::None), Fact::End(end)])
        }
        2 => (Repeat::Message([n as u8; 16]), vec![Fact::Started(task)]),
        3 => {
            let repeat = Repeat::Lines { log: n as u8 % 3, lines: vec![n], groups: Vec::new() };
            let delta = match n % 4 {
                0 => Delta::Snapshot { run: None },
                1 => Delta::Snapshot { run: Some(n as i64) },
                _ => Delta::Added { epoch: 1, counter: n },
            };
            (repeat, vec![rows(None, &format!("pack/p/{n}"), delta)])
        }
        4 => (Repeat::Idempotent, vec![Fact::Block(block)]),
        _ => (Repeat::Idempotent, vec![Fact::End(end)]),
    }
}

pub fn shard_state() -> Vec<Vec<u8>> {
    let shard = Shard::new(0).unwrap();
    let mut state = ShardState::new(shard);
    let mut states = Vec::new();
    for n in 0..60_u64 {
        let agent = AgentNo::from_parts(shard, 1 + n as u32 % 3).unwrap();
        let (kind, class) = (AgentKind::Osquery, Class::Collected);
        let entry = |pos, body| {
            let received_at = Timestamp(1_000_000 * n as i64);
            let record = Record { org: OrgId::DEFAULT, agent, kind, class, received_at, body };
            Entry { pos: Pos(pos), record }
        };
        let task = TaskId { hunt: HuntNo(1 + n % 7), attempt: 1 };
        let delivered = entry(2 * n + 1, Body::Fact(TaskFact::Delivered(task)));
        apply(&mut state, &Everything, &delivered, None, &mut Nowhere);
        let (repeat, items) = told(n);
        let message = entry(2 * n + 2, Body::Wire(Payload::Inline(Bytes::new())));
        let facts = Some(Ok(Facts { repeat, items }));
        apply(&mut state, &Everything, &message, facts, &mut Nowhere);
        if n % 20 == 5 {
            states.push(state.encode_base(ShardState::FORMAT.newest).to_vec());
        }
    }
    for version in [ShardState::FORMAT.untold, ShardState::FORMAT.newest] {
        states.push(state.encode_base(version).to_vec());
    }
    states
}
