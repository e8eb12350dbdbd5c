//! The four forms of a result, and status lines.

use muster_types::{Delta, Fact, Repeat, RowFormat, Timestamp};

use crate::kit::{log, results, rows, texts};

fn event(name: &str, action: &str, counter: u32, columns: &str) -> String {
    format!(
        r#"{{"name":"{name}","hostIdentifier":"h","calendarTime":"Tue Sep 30 17:37:30 2014 UTC","unixTime":1412098650,"epoch":314159265,"counter":{counter},"numerics":false,"columns":{columns},"action":"{action}"}}"#
    )
}

#[test]
fn event_form_is_one_row_added_or_removed() {
    let facts = results(&[
        event("pack/a/b", "added", 3, r#"{"x":"1"}"#),
        event("pack/a/b", "removed", 3, r#"{"x":"2"}"#),
    ]);
    let (added, removed) = (rows(&facts.items[0]), rows(&facts.items[1]));
    assert_eq!(added.source, "pack/a/b");
    assert_eq!(added.delta, Delta::Added { epoch: 314_159_265, counter: 3 });
    assert_eq!(removed.delta, Delta::Removed { epoch: 314_159_265, counter: 3 });
    assert_eq!(added.endpoint_time, Some(Timestamp(1_412_098_650_000_000)));
    assert_eq!(texts(&facts.items[0]), [r#"{"x":"1"}"#]);
    assert!(added.task.is_none());
}

#[test]
fn lines_that_differ_only_in_their_row_are_one_item() {
    let mut lines: Vec<_> =
        (0..5).map(|n| event("q", "added", 1, &format!("{{\"x\":\"{n}\"}}"))).collect();
    lines.push(event("q", "added", 2, r#"{"x":"9"}"#));
    let facts = results(&lines);
    assert_eq!(facts.items.len(), 2);
    assert_eq!(rows(&facts.items[0]).json.iter().filter(|byte| **byte == b'\n').count(), 5);
    assert_eq!(texts(&facts.items[0])[4], r#"{"x":"4"}"#);
    let Repeat::Lines { log: 1, lines: hashes, groups } = &facts.repeat else { panic!() };
    assert_eq!((hashes.len(), &groups[..]), (6, &[5, 1][..]));
}

#[test]
fn a_longer_body_begins_with_the_hashes_of_the_shorter() {
    let batch =
        r#"{"name":"q","counter":1,"diffResults":{"removed":[{"x":"1"}],"added":[{"x":"2"}]}}"#;
    let mut lines = vec![event("q", "added", 1, r#"{"x":"1"}"#), batch.to_owned()];
    let hashes = |lines: &[String]| match results(lines).repeat {
        Repeat::Lines { lines, .. } => lines,
        _ => panic!(),
    };
    let before = hashes(&lines);
    lines.push(event("q", "added", 1, r#"{"x":"2"}"#));
    let after = hashes(&lines);
    assert_eq!((before.len(), after.len()), (3, 4));
    assert!(after.starts_with(&before));
}

#[test]
fn batch_form_is_what_left_and_what_came() {
    let facts = results(&[
        r#"{"name":"q","epoch":"0","counter":"4","unixTime":"1412098650","diffResults":{"removed":[{"x":"1"}],"added":[{"x":"2"},{"x":"3"}]}}"#.to_owned(),
        r#"{"name":"q","epoch":0,"counter":0,"diffResults":{"removed":"","added":""}}"#.to_owned(),
    ]);
    let deltas: Vec<_> = facts.items.iter().map(|item| rows(item).delta).collect();
    assert_eq!(
        deltas,
        [
            Delta::Removed { epoch: 0, counter: 4 },
            Delta::Added { epoch: 0, counter: 4 },
            Delta::Added { epoch: 0, counter: 0 },
        ]
    );
    assert_eq!(texts(&facts.items[1]), [r#"{"x":"2"}"#, r#"{"x":"3"}"#]);
    assert!(texts(&facts.items[2]).is_empty(), "an empty result is told");
}

#[test]
fn snapshot_forms_are_a_whole_state_or_parts_of_one_run() {
    let facts = results(&[
        r#"{"name":"s","action":"snapshot","unixTime":9,"snapshot":[{"x":"1"},{"x":"2"}]}"#
            .to_owned(),
        r#"{"name":"s","action":"snapshot","unixTime":9,"snapshot":[]}"#.to_owned(),
        event("e", "snapshot", 0, r#"{"x":"1"}"#),
        event("e", "snapshot", 0, r#"{"x":"2"}"#),
    ]);
    assert_eq!(rows(&facts.items[0]).delta, Delta::SNAPSHOT);
    assert_eq!(texts(&facts.items[0]).len(), 2);
    assert!(texts(&facts.items[1]).is_empty());
    assert_eq!(rows(&facts.items[2]).delta, Delta::Snapshot { run: Some(1_412_098_650) });
    assert_eq!(texts(&facts.items[2]).len(), 2);
}

#[test]
fn numbers_stay_numbers_and_rows_share_the_payload() {
    let facts = results(&[event("q", "added", 1, r#"{"pid":12,"share":0.5}"#)]);
    assert_eq!(&rows(&facts.items[0]).json[..], br#"{"pid":12,"share":0.5}"#);
    assert_eq!(rows(&facts.items[0]).format, RowFormat::Lines);
}

#[test]
fn decorations_become_a_column_of_each_row() {
    let facts = results(&[
        r#"{"name":"s","snapshot":[{"x":"1"},{}],"decorations":{"site":"hq"}}"#.to_owned(),
        r#"{"name":"e","action":"added","columns":{"x":"1"},"decorations":{"site":"hq"}}"#
            .to_owned(),
        r#"{"name":"n","action":"added","columns":{"x":"1"},"decorations":{}}"#.to_owned(),
    ]);
    let decorated = r#"{"x":"1","_decorations":{"site":"hq"}}"#;
    assert_eq!(texts(&facts.items[0]), [decorated, r#"{"_decorations":{"site":"hq"}}"#]);
    assert_eq!(texts(&facts.items[1]), [decorated]);
    assert_eq!(texts(&facts.items[2]), [r#"{"x":"1"}"#]);
}

#[test]
fn many_rows_with_long_decorations_stay_within_a_bound() {
    let rows: Vec<_> = (0..100_000).map(|_| "{}").collect();
    let long = "d".repeat(200_000);
    let line =
        format!(r#"{{"name":"s","snapshot":[{}],"decorations":{{"d":"{long}"}}}}"#, rows.join(","));
    let facts = results(&[line]);
    let size: usize = facts
        .items
        .iter()
        .map(|item| if let Fact::Rows(rows) = item { rows.json.len() } else { 0 })
        .sum();
    assert!(size < 400_000, "{size}");
    assert!(matches!(&facts.items[1], Fact::Log { message, .. } if message.contains("left out")));
}

#[test]
fn a_line_that_cannot_be_read_does_not_hurt_its_neighbours() {
    let facts = results(&[
        event("q", "added", 1, r#"{"x":"1"}"#),
        "17".to_owned(),
        r#"{"name":"q"}"#.to_owned(),
        event("q", "added", 1, "7"),
        event("q", "added", 1, r#"{"x":"2"}"#),
    ]);
    assert_eq!(facts.items.len(), 5);
    assert!(matches!(&facts.items[1], Fact::Log { level, .. } if level == "error"));
    assert!(matches!(&facts.items[2], Fact::Log { level, .. } if level == "error"));
    assert_eq!(&rows(&facts.items[3]).json[..], b"7");
    assert_eq!(texts(&facts.items[4]), [r#"{"x":"2"}"#]);
}

#[test]
fn line_breaks_between_the_parts_of_a_row_do_not_split_it() {
    let facts = results(&[
        event("q", "added", 1, "{\n\"x\":\"a\\nb\"\r\n}"),
        event("q", "added", 1, r#"{"x":"2"}"#),
    ]);
    assert_eq!(texts(&facts.items[0]), [r#"{"x":"a\nb"}"#, r#"{"x":"2"}"#]);
}

#[test]
fn status_lines_are_log_rows() {
    let line = |severity: &str| {
        format!(
            r#"{{"hostIdentifier":"h","severity":{severity},"filename":"scheduler.cpp","line":"107","message":"Executing","version":"5.23.1"}}"#
        )
    };
    let facts = log("status", &[line("0"), line("\"1\""), line("2"), line("3")]);
    let levels: Vec<_> = facts
        .items
        .iter()
        .map(|item| match item {
            Fact::Log { level, message } => {
                assert_eq!(message, "scheduler.cpp:107 Executing");
                level.as_str()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(levels, ["info", "warning", "error", "error"]);
    assert!(matches!(facts.repeat, Repeat::Lines { log: 2, .. }));
}
