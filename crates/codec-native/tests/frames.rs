//! Frames: what is written reads back, samples of earlier versions read for ever, garbage is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use muster_codec_native::{
    Ack, AgentFrame, Batch, Bye, Cancel, Cas, Challenge, Credential, EnrolRequest, Error, Hello,
    HostFacts, LinkLimits, MESSAGE_BYTES_MAX, Nack, NativeDecoder, Rekey, ServerFrame, StreamSeq,
    Task, TaskLimits, Welcome, fuzz_decode,
};
use muster_types::{
    AgentKind, AgentNo, Body, Class, ColumnDecl, ColumnType, Decode, Delta, Fact, HuntNo, OrgId,
    Outcome, Payload, Record, Repeat, RowFormat, Rows, Spent, TaskEnd, TaskId, Timestamp, Used,
};
use proptest::prelude::*;

const TASK: TaskId = TaskId { hunt: HuntNo(7), attempt: 1 };

fn rows(json: &'static [u8]) -> Fact {
    Fact::Rows(Rows {
        task: Some(TASK),
        source: String::new(),
        columns: vec![ColumnDecl { name: "pid".into(), kind: ColumnType::Int }],
        format: RowFormat::Array,
        json: Bytes::from_static(json),
        endpoint_time: Some(Timestamp(1_700_000_000_000_000)),
        delta: Delta::None,
    })
}

fn end(outcome: Option<Outcome>) -> Fact {
    Fact::End(TaskEnd { task: TASK, outcome, message: "done".into(), spent: Spent::micros(1500) })
}

fn host() -> HostFacts {
    HostFacts {
        hostname: "web-1".into(),
        platform: "linux".into(),
        os_name: "Debian GNU/Linux".into(),
        os_version: "12 (bookworm)".into(),
        arch: "x86_64".into(),
        version: "0.1.0".into(),
        capabilities: vec!["table:processes".into()],
    }
}

fn agent_samples() -> Vec<(&'static str, AgentFrame)> {
    let hello = Hello {
        agent_no: AgentNo(42),
        proof: [7; 64],
        process_nonce: [9; 16],
        boot_id: "b".into(),
        machine_id: "m".into(),
        host: host(),
        first_unacked: Some(StreamSeq { stream: u64::MAX, seq: 3 }),
    };
    let log = Fact::Log { level: "warning".into(), message: "disk buffer half full".into() };
    let scheduled = Fact::Rows(Rows {
        task: None,
        source: "linux.processes".into(),
        columns: Vec::new(),
        format: RowFormat::Lines,
        json: Bytes::from_static(b"{\"pid\":1}\n{\"pid\":2}"),
        endpoint_time: None,
        delta: Delta::SNAPSHOT,
    });
    let items = vec![Fact::Started(TASK), rows(b"[{\"pid\":1}]"), end(None), log, scheduled];
    vec![
        ("hello", AgentFrame::Hello(Box::new(hello))),
        ("batch", AgentFrame::Batch(Batch { stream: 5, seq: 1, items })),
        ("pong", AgentFrame::Pong),
    ]
}

fn server_samples() -> Vec<(&'static str, ServerFrame)> {
    let limits =
        LinkLimits { frame_bytes: 8 << 20, batches_in_flight: 8, ping_interval_ms: 30_000 };
    let task = Task {
        task: TASK,
        query: "SELECT * FROM file WHERE path = :path".into(),
        params: BTreeMap::from([("path".to_owned(), "/etc/crontab".into())]),
        limits: TaskLimits { timeout_ms: 1000, rows: 10, bytes: 1 << 20, memory_bytes: 64 << 20 },
    };
    vec![
        ("challenge", Challenge { nonce: [1; 32] }.into()),
        (
            "welcome",
            Welcome {
                server_version: "0.1.0".into(),
                agent_no: AgentNo(42),
                limits,
                server_cas: "-----BEGIN CERTIFICATE-----".into(),
                time: Timestamp(1_700_000_000_000_000),
            }
            .into(),
        ),
        ("ack", Ack { stream: 5, seq: 1 }.into()),
        ("nack", Nack { retry_after_ms: 2000 }.into()),
        ("task", task.into()),
        ("cancel", Cancel { task: TASK }.into()),
        ("rekey", Rekey { ticket: "t".into() }.into()),
        ("cas", Cas { server_cas: "-----BEGIN CERTIFICATE-----".into() }.into()),
        ("bye", Bye { reason: "restart".into(), retry_after_ms: 100 }.into()),
    ]
}

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(format!("{name}.v1"))
}

/// Run with `--ignored` after adding a sample; those that exist are never rewritten.
#[test]
#[ignore = "writes the samples that are missing"]
fn write_missing_samples() {
    let agent = agent_samples().into_iter().map(|(name, frame)| (name, frame.encode().unwrap()));
    let server = server_samples().into_iter().map(|(name, frame)| (name, frame.encode().unwrap()));
    for (name, bytes) in agent.chain(server) {
        if !sample(name).exists() {
            std::fs::write(sample(name), bytes).unwrap();
        }
    }
}

#[test]
fn samples_of_version_1_read_as_they_always_did() {
    for (name, frame) in agent_samples() {
        let bytes = std::fs::read(sample(name)).unwrap();
        assert_eq!(AgentFrame::decode(bytes.into()).unwrap(), Some(frame), "{name}");
    }
    for (name, frame) in server_samples() {
        let bytes = std::fs::read(sample(name)).unwrap();
        assert_eq!(ServerFrame::decode(bytes.into()).unwrap(), Some(frame), "{name}");
    }
}

#[test]
fn the_decoder_gives_the_facts_and_how_a_repeat_is_known() {
    let batch = Batch { stream: 5, seq: 3, items: vec![rows(b"[]"), end(Some(Outcome::Failed))] };
    let payload = batch.encode().unwrap();
    let record = Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(1),
        kind: AgentKind::Native,
        class: Class::Collected,
        received_at: Timestamp(0),
        body: Body::Wire(Payload::Inline(payload.clone())),
    };
    let facts = NativeDecoder.decode(&record, payload.clone()).unwrap();
    assert_eq!(facts.repeat, Repeat::Sequence { stream: 5, seq: 3 });
    assert_eq!(facts.items, batch.items);
    let Some(Fact::Rows(rows)) = facts.items.first() else { panic!("rows come first") };
    let range = payload.as_ptr_range();
    assert!(range.contains(&rows.json.as_ptr()), "rows share the message's memory");
    assert!(NativeDecoder.decode(&record, Bytes::from_static(b"nonsense")).is_err());
}

#[test]
fn rows_and_end_of_a_small_answer_are_one_frame_with_little_around_them() {
    let batch = Batch { stream: 5, seq: 3, items: vec![rows(b"[]"), end(None)] };
    assert!(batch.encode().unwrap().len() < 400);
}

#[test]
fn unknown_types_and_kinds_are_skipped_and_unknown_versions_named() {
    let newer_type = Bytes::from_static(b"\x01\xf0\x02\0\0\0{}payload");
    assert_eq!(AgentFrame::decode(newer_type.clone()), Ok(None));
    assert_eq!(ServerFrame::decode(newer_type), Ok(None));
    assert_eq!(AgentFrame::decode(Bytes::from_static(b"\x02\x01")), Err(Error::Version(2)));

    let header = br#"{"stream":1,"seq":1,"new":1,"items":[{"kind":"hologram","len":3,"x":[1]},
        {"kind":"log","level":"info","message":"m"}]}"#;
    let mut frame = vec![1, 2];
    frame.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(header);
    frame.extend_from_slice(b"abc");
    let Ok(Some(AgentFrame::Batch(batch))) = AgentFrame::decode(frame.into()) else {
        panic!("a batch with one unknown kind is a batch")
    };
    assert_eq!(batch.items, [Fact::Log { level: "info".into(), message: "m".into() }]);
}

#[test]
fn bounds_hold_before_anything_is_allocated() {
    let too_large = |result: Result<Option<AgentFrame>, Error>, part: &str| match result {
        Err(Error::TooLarge { what, .. }) => assert_eq!(what, part),
        other => panic!("{other:?}"),
    };
    too_large(AgentFrame::decode(vec![1; MESSAGE_BYTES_MAX + 1].into()), "frame");
    too_large(AgentFrame::decode(Bytes::from_static(b"\x01\x02\xff\xff\xff\xff")), "header");
    let short = Bytes::from_static(b"\x01\x02\x10\0\0\0{}");
    assert_eq!(AgentFrame::decode(short), Err(Error::Truncated));
    let items = vec![Fact::Started(TASK); 4097];
    too_large(Batch { stream: 1, seq: 1, items }.encode().map(|_| None), "the batch");
}

#[test]
fn an_agent_cannot_claim_what_only_the_server_knows() {
    for outcome in [Outcome::Expired, Outcome::Retired, Outcome::Waiting, Outcome::Rows] {
        let batch = Batch { stream: 1, seq: 1, items: vec![end(Some(outcome))] };
        assert!(matches!(batch.encode(), Err(Error::Invalid { .. })));
    }
    assert!(Batch { stream: 1, seq: 0, items: vec![] }.encode().is_err());
}

#[test]
fn an_enrolment_request_is_json_with_bounds() {
    let request = EnrolRequest {
        credential: Credential::Secret("s3cret".into()),
        public_key: [3; 32],
        proof: [4; 64],
        machine_id: "m".into(),
        time: Timestamp(1),
        host: host(),
    };
    let json = serde_json::to_vec(&request).unwrap();
    assert_eq!(EnrolRequest::from_json(&json), Ok(request));
    assert!(EnrolRequest::from_json(&vec![b' '; (64 << 10) + 1]).is_err());
    let refusal = r#"{"reason":"written_later","hint":"h"}"#;
    let refusal: muster_codec_native::EnrolRefusal = serde_json::from_str(refusal).unwrap();
    assert_eq!(refusal.reason, muster_codec_native::RefusalReason::Other);
}

fn facts() -> impl Strategy<Value = Fact> {
    let task = (any::<u64>(), any::<u16>())
        .prop_map(|(hunt, attempt)| TaskId { hunt: HuntNo(hunt), attempt });
    let bytes = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let outcome = prop_oneof![
        Just(None),
        Just(Some(Outcome::Failed)),
        Just(Some(Outcome::TimedOut)),
        Just(Some(Outcome::Unsupported)),
        Just(Some(Outcome::Cancelled)),
    ];
    prop_oneof![
        (task.clone(), bytes, any::<bool>(), any::<i64>()).prop_map(|(task, json, lines, at)| {
            Fact::Rows(Rows {
                task: Some(task),
                source: String::new(),
                columns: vec![ColumnDecl { name: "a".into(), kind: ColumnType::Text }],
                format: if lines { RowFormat::Lines } else { RowFormat::Array },
                json,
                endpoint_time: Some(Timestamp(at)),
                delta: if lines { Delta::SNAPSHOT } else { Delta::None },
            })
        }),
        task.clone().prop_map(Fact::Started),
        (task, outcome, ".{0,40}", any::<u64>(), any::<Option<(u64, u64, u64)>>()).prop_map(
            |(task, outcome, message, elapsed_micros, used)| {
                let used = used.map(|(user_micros, system_micros, memory)| Used {
                    user_micros,
                    system_micros,
                    memory_bytes: memory.max(1),
                });
                let spent = Spent { elapsed_micros, status: None, used };
                Fact::End(TaskEnd { task, outcome, message, spent })
            }
        ),
        (".{0,10}", ".{0,40}").prop_map(|(level, message)| Fact::Log { level, message }),
    ]
}

proptest! {
    #[test]
    fn a_batch_reads_back_as_it_was_written(
        stream in any::<u64>(), seq in 1u64.., items in proptest::collection::vec(facts(), 0..20),
    ) {
        let batch = Batch { stream, seq, items };
        let bytes = batch.encode().unwrap();
        prop_assert_eq!(Batch::decode(bytes).unwrap(), batch);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_decode(&bytes);
    }

    #[test]
    fn damaged_frames_never_panic(
        which in 0usize..11, at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let agent = agent_samples().into_iter().map(|(_, frame)| frame.encode().unwrap());
        let server = server_samples().into_iter().map(|(_, frame)| frame.encode().unwrap());
        let mut bytes = agent.chain(server).nth(which).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        fuzz_decode(&bytes);
        fuzz_decode(&bytes[..at]);
    }
}
