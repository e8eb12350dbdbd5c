//! Whatever comes, nothing panics; and a POST that comes again, longer, is recognised.

use bytes::Bytes;
use muster_codec_osquery::fuzz_decode;
use muster_types::Repeat;
use proptest::prelude::*;

use crate::kit::{decode, results};

/// Text that is near to what is read, with bytes changed.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let samples = prop::sample::select(vec![
        r#"{"data":[{"name":"q","action":"added","counter":1,"columns":{"a":"]}"}},{"diffResults":{"added":[]}}],"log_type":"result","node_key":"k"}"#,
        r#"{"queries":{"h1":[{"a":"1"}],"p1":[],"v1:x":[]},"statuses":{"h1":0,"p1":"1"},"messages":{"h1":"m"},"stats":{"h1":{}},"node_key":"k"}"#,
        r#"{"enroll_secret":"s","platform_type":"9","host_details":{"os_version":{"name":"x"}}}"#,
        r#"{"block_count":1,"block_size":8,"carve_size":8,"carve_id":"c","data":"aGk=","session_id":"s"}"#,
        "\u{1}\u{1}[{\"name\":\"q\",\"snapshot\":[{}],\"decorations\":{\"a\":1}}]",
        "\u{1}\u{3}[{\"id\":\"h1\",\"rows\":[{}]}]",
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (samples, changes, any::<prop::sample::Index>()).prop_map(|(sample, changes, end)| {
        let mut bytes = sample.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        bytes
    })
}

/// Lines of any form, some alike.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let line = prop::sample::select(vec![
        r#"{"name":"a","action":"added","counter":1,"columns":{"x":"1"}}"#,
        r#"{"name":"a","action":"added","counter":1,"columns":{"x":"2"}}"#,
        r#"{"name":"a","action":"removed","counter":1,"columns":{"x":"2"}}"#,
        r#"{"name":"b","action":"snapshot","snapshot":[{"x":"1"},{"x":"1"}]}"#,
        r#"{"name":"c","counter":2,"diffResults":{"removed":[{"x":"1"}],"added":[{"x":"1"}]}}"#,
        "3",
    ]);
    prop::collection::vec(line.prop_map(str::to_owned), 0..20)
}

fn hashes(lines: &[String]) -> Vec<u64> {
    match results(lines).repeat {
        Repeat::Lines { lines, .. } => lines,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_decode(&bytes);
        let mut payload = vec![1, bytes.first().copied().unwrap_or(1) % 6];
        payload.extend_from_slice(&bytes);
        let _ = decode(Bytes::from(payload));
    }

    #[test]
    fn bodies_that_are_nearly_right(bytes in bodies()) {
        fuzz_decode(&bytes);
    }

    #[test]
    fn a_longer_body_begins_with_the_hashes_of_the_first(first in lines(), more in lines()) {
        let short = hashes(&first);
        let long = hashes(&[first, more].concat());
        prop_assert!(long.starts_with(&short));
    }

    #[test]
    fn there_is_a_hash_for_each_row_of_a_group(lines in lines()) {
        let facts = results(&lines);
        let Repeat::Lines { lines, groups, .. } = facts.repeat else { panic!() };
        if groups.is_empty() {
            prop_assert_eq!(lines.len(), facts.items.len());
        } else {
            prop_assert_eq!(groups.len(), facts.items.len());
            prop_assert_eq!(groups.iter().sum::<u32>() as usize, lines.len());
        }
    }
}
