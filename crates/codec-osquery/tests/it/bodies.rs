//! Bodies that are broken, packed, too long or not UTF-8.

use std::io::Write;

use bytes::Bytes;
use muster_codec_osquery::{
    Body, CarveBegin, CarveBlock, EnrolRequest, Error, LINES_MAX, LogRequest, LogType, Platform,
    TAIL_BYTES, WriteRequest, wire,
};
use muster_types::{Fact, Outcome, Repeat, UploadBlock, UploadNo};

use crate::kit::{decode, texts, whole};

const LINE: &str = r#"{"name":"q","action":"snapshot","snapshot":[{"path":"/a]},\"b"}]}"#;

fn log_of(lines: usize) -> String {
    let lines = vec![LINE; lines].join(",");
    format!(r#"{{"data":[{lines}],"log_type":"result","node_key":"key"}}"#)
}

fn cut(text: &str, at: usize, tail: usize) -> Body {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let tail = bytes.slice(bytes.len() - tail..);
    Body::cut(bytes.slice(..at), tail, bytes.len() as u64)
}

#[test]
fn bytes_that_are_not_utf8_cost_a_character_and_nothing_else() {
    let body = b"{\"data\":[{\"name\":\"q\",\"action\":\"snapshot\",\"snapshot\":[{\"p\":\"a\xff\xfeb\"}]}],\"log_type\":\"result\",\"node_key\":\"k\"}";
    let log = LogRequest::parse(&whole(body)).unwrap();
    assert_eq!((log.line_count, &*log.node_key), (1, "k"));
    let facts = decode(wire::log(log)).unwrap();
    assert_eq!(texts(&facts.items[0]), ["{\"p\":\"a\u{fffd}\u{fffd}b\"}"]);
}

#[test]
fn an_empty_log_is_a_log() {
    for data in ["[]", "null"] {
        let body = format!(r#"{{"data":{data},"log_type":"status","node_key":"k"}}"#);
        let log = LogRequest::parse(&whole(body)).unwrap();
        assert_eq!((log.log_type, log.line_count), (LogType::Status, 0));
        assert!(decode(wire::log(log)).unwrap().items.is_empty());
    }
}

#[test]
fn a_stored_log_holds_no_node_key() {
    let log = LogRequest::parse(&whole(log_of(3))).unwrap();
    let payload = wire::log(log);
    assert!(!payload.windows(4).any(|window| window == b"\"key"));
    assert_eq!(payload[..2], [wire::VERSION, wire::Kind::ResultLog as u8]);
}

#[test]
fn a_payload_stands_where_its_body_stood() {
    let spaced = format!(" {{ \"data\" : [\n {LINE} , {LINE} ] , \"log_type\":\"result\"}}");
    for text in [log_of(3), spaced, format!(r#"{{"log_type":"result","data":[{LINE}]}}"#)] {
        let body = whole(text);
        let (from, to) = (body.head.as_ptr(), body.head.as_ptr_range().end);
        let copied = wire::log(LogRequest::parse(&body).unwrap());
        assert!(!(from..to).contains(&copied.as_ptr()), "somebody else has the body");
        let request = LogRequest::parse(&body).unwrap();
        drop(body);
        let payload = wire::log(request);
        assert!((from..to).contains(&payload.as_ptr()), "nobody else has it");
        assert_eq!(payload, copied);
    }
}

#[test]
fn of_a_log_over_the_cap_the_whole_lines_are_taken() {
    let text = log_of(10);
    let body = cut(&text, 9 + 4 * (LINE.len() + 1) + 20, 60);
    let log = LogRequest::parse(&body).unwrap();
    assert_eq!((log.line_count, &*log.node_key, log.log_type), (4, "key", LogType::Result));
    assert!(log.dropped.as_deref().unwrap().contains("4 lines were taken"), "{log:?}");
    assert_eq!(decode(wire::log(log)).unwrap().items.len(), 4);
}

#[test]
fn lines_that_only_look_whole_do_not_spoil_those_before_them() {
    let text = format!(r#"{{"data":[{LINE},{{bad}},{LINE},{LINE}"#);
    let log = LogRequest::parse(&Body::cut(text.into(), Bytes::new(), 1 << 20)).unwrap();
    assert_eq!(log.line_count, 1);
    assert_eq!(decode(wire::log(log)).unwrap().items.len(), 1);
}

#[test]
fn without_the_end_the_key_is_missing_and_the_lines_are_not() {
    let text = log_of(10);
    let log = LogRequest::parse(&cut(&text, 300, 0)).unwrap();
    assert_eq!(&*log.node_key, "");
    assert!(log.line_count > 0);
}

#[test]
fn too_many_lines_are_cut_and_told() {
    let lines = vec!["{}"; LINES_MAX as usize + 5].join(",");
    let body = format!(r#"{{"data":[{lines}],"log_type":"result","node_key":"k"}}"#);
    let log = LogRequest::parse(&whole(body)).unwrap();
    assert_eq!(log.line_count, LINES_MAX);
    assert!(log.dropped.as_deref().unwrap().starts_with("5 lines"));
    let facts = decode(wire::log(log)).unwrap();
    assert!(
        matches!(facts.repeat, Repeat::Lines { lines, .. } if lines.len() == LINES_MAX as usize)
    );
}

#[test]
fn of_a_write_over_the_cap_only_the_answer_that_did_not_fit_is_lost() {
    let long = format!("[{}]", vec![r#"{"path":"/some/file"}"#; 500].join(","));
    let text = format!(
        r#"{{"queries":{{"h1":[{{"a":"1"}}],"h2":{long},"h3":[]}},"statuses":{{"h1":0,"h2":0,"h3":0}},"messages":{{"h1":""}},"stats":{{}},"node_key":"key"}}"#
    );
    let write = WriteRequest::parse(&cut(&text, 2000, 200)).unwrap();
    assert_eq!(write.node_key, "key");
    let cut_off: Vec<_> = write.answers.iter().map(|a| (a.id.as_str(), a.is_cut)).collect();
    assert_eq!(cut_off, [("h1", false), ("h2", true), ("h3", true)]);
    let items = decode(wire::write(&write)).unwrap().items;
    let ends: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Fact::End(end) => Some((end.task.hunt.0, end.outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(1, None), (2, Some(Outcome::Failed)), (3, Some(Outcome::Failed))]);
    assert!(write.dropped.unwrap().contains("2 queries"));
}

#[test]
fn packed_bodies_are_unpacked_within_bounds() {
    let text = log_of(1000);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(text.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();

    let body = Body::unpack(&packed, 1 << 20, 1 << 30);
    assert!(!body.is_cut());
    assert_eq!(LogRequest::parse(&body).unwrap().line_count, 1000);

    let body = Body::unpack(&packed, 5000, 1 << 30);
    assert!(body.is_cut());
    assert_eq!(body.byte_count, text.len() as u64);
    assert!(body.tail.len() <= 2 * TAIL_BYTES);
    let log = LogRequest::parse(&body).unwrap();
    assert_eq!(&*log.node_key, "key");
    assert!((50..100).contains(&log.line_count), "{}", log.line_count);

    let guarded = Body::unpack(&packed, 5000, 6000);
    assert!(guarded.is_cut());
    let broken = Body::unpack(&packed[..packed.len() / 2], 1 << 20, 1 << 30);
    assert!(broken.is_cut());
    assert!(Body::unpack(b"no gzip", 100, 100).is_cut());
}

#[test]
fn an_enrolment_tells_of_the_host() {
    let body = r#"{"enroll_secret":"s","host_identifier":"id","platform_type":"9","host_details":{
        "os_version":{"name":"Ubuntu","version":"22.04","platform":"ubuntu","arch":"x86_64"},
        "osquery_info":{"version":"5.23.1","instance_id":"i","pid":17},
        "system_info":{"hostname":"web1","uuid":"u","hardware_serial":"x"}}}"#;
    let request = EnrolRequest::parse(body.as_bytes()).unwrap();
    let details = &request.host_details;
    assert_eq!(request.platform(), Platform::Linux);
    assert_eq!((details.hostname(), details.uuid(), details.instance_id()), ("web1", "u", "i"));
    assert_eq!((details.version(), details.serial(), details.arch()), ("5.23.1", "x", "x86_64"));
    assert_eq!((details.os_name(), details.os_version()), ("Ubuntu", "22.04"));
    assert_eq!(details.osquery_info["pid"], "17");
    let masks = ["21", "2", "37"].map(|mask| {
        let body = format!(r#"{{"platform_type":"{mask}"}}"#);
        EnrolRequest::parse(body.as_bytes()).unwrap().platform()
    });
    assert_eq!(masks, [Platform::Darwin, Platform::Windows, Platform::FreeBsd]);
    assert_eq!(EnrolRequest::parse(b"{}").unwrap(), EnrolRequest::default());
    assert!(EnrolRequest::parse(b"hello").is_err());
}

#[test]
fn a_carve_begins_and_its_blocks_come() {
    let begin = r#"{"block_count":"2","block_size":8,"carve_size":12,"carve_id":"c","request_id":"r","node_key":"k"}"#;
    let begin = CarveBegin::parse(begin.as_bytes()).unwrap();
    assert_eq!((begin.block_count, begin.block_size, begin.carve_size), (2, 8, 12));
    let too_large = r#"{"block_count":1,"block_size":8,"carve_size":12,"carve_id":"c"}"#;
    assert_eq!(CarveBegin::parse(too_large.as_bytes()), Err(Error::Member("carve_size")));
    let none = r#"{"block_count":0,"block_size":8,"carve_size":0,"carve_id":"c"}"#;
    assert_eq!(CarveBegin::parse(none.as_bytes()), Err(Error::Member("block_count")));

    let block = r#"{"block_id":1,"session_id":"s","request_id":"r","data":"aGVsbG8="}"#;
    let block = CarveBlock::parse(block.as_bytes()).unwrap();
    assert_eq!((block.block_id, &*block.session_id), (1, "s"));
    assert_eq!(block.bytes().unwrap(), b"hello");
    assert!(block.bytes_max() >= 5);
    let facts = decode(wire::block(UploadNo(9), 1, 2, b"he\xff")).unwrap();
    let bytes = Bytes::from_static(b"he\xff");
    assert_eq!(
        facts.items,
        [Fact::Block(UploadBlock { upload: UploadNo(9), index: 1, count: 2, bytes })]
    );
}

#[test]
fn a_dropped_note_is_kept() {
    let facts = decode(wire::dropped("log", "a \"lot\"")).unwrap();
    let note = Fact::Dropped { source: "log".into(), message: "a \"lot\"".into() };
    assert_eq!(facts.items, [note]);
}

#[test]
fn payloads_of_others_are_poison() {
    for payload in [&b""[..], b"\x01", b"\x02\x01[]", b"\x01\x09[]", b"\x01\x01{", b"\x01\x04short"]
    {
        assert!(decode(Bytes::copy_from_slice(payload)).is_err(), "{payload:?}");
    }
}
