//! Answers to distributed queries.

use muster_types::{Delta, Fact, HuntNo, Outcome, Spent, TaskEnd, TaskId, Used};

use crate::kit::{rows, texts, write};

fn end(fact: &Fact) -> &TaskEnd {
    match fact {
        Fact::End(end) => end,
        other => panic!("no end: {other:?}"),
    }
}

#[test]
fn a_hunt_is_answered_with_rows_and_an_end() {
    let items = write(
        r#"{"queries":{"h12":[{"a":"1"}],"h13.2":[]},"statuses":{"h12":0,"h13.2":1},
            "messages":{"h12":"","h13.2":"no such table: x"},
            "stats":{"h12":{"wall_time_ms":12,"user_time":"10","system_time":2,"memory":4096},"h13.2":{}},"node_key":"k"}"#,
    );
    let task = TaskId { hunt: HuntNo(12), attempt: 1 };
    assert_eq!(rows(&items[0]).task, Some(task));
    assert_eq!(texts(&items[0]), [r#"{"a":"1"}"#]);
    let used = Used { user_micros: 10_000, system_micros: 2000, memory_bytes: 4096 };
    let spent = Spent { elapsed_micros: 12_000, status: Some(0), used: Some(used) };
    let ok = TaskEnd { task, outcome: None, message: String::new(), spent };
    assert_eq!(*end(&items[1]), ok);
    let failed = end(&items[2]);
    assert_eq!(failed.task, TaskId { hunt: HuntNo(13), attempt: 2 });
    assert_eq!(failed.outcome, Some(Outcome::Failed));
    assert_eq!(failed.message, "no such table: x");
    assert_eq!(failed.spent, Spent { status: Some(1), ..Spent::default() });
    assert_eq!(items.len(), 3);
}

#[test]
fn old_agents_say_nothing_in_strings() {
    let items = write(r#"{"queries":{"h1":"","h2":[{"a":"1"}]},"statuses":{"h1":"0","h2":"0"}}"#);
    assert_eq!(items.len(), 3);
    assert_eq!(end(&items[0]).outcome, None);
    assert_eq!(end(&items[2]).outcome, None);
}

#[test]
fn a_denylisted_text_says_so() {
    let items = write(
        r#"{"queries":{"h1":[]},"statuses":{"h1":1},"messages":{"h1":"distributed query is denylisted"}}"#,
    );
    assert!(end(&items[0]).message.starts_with("distributed query is denylisted: "));
    assert_eq!(end(&items[0]).outcome, Some(Outcome::Failed));
}

#[test]
fn a_status_without_a_message_has_words() {
    let items = write(r#"{"queries":{"h1":[]},"statuses":{"h1":9}}"#);
    assert_eq!(end(&items[0]).message, "osquery ended the query with status 9");
}

#[test]
fn policies_pass_fail_or_are_unknown() {
    let items = write(
        r#"{"queries":{"p1":[{"1":"1"}],"p2":[],"p3":[]},"statuses":{"p1":0,"p2":0,"p3":1},
            "messages":{"p3":"no such table: x"}}"#,
    );
    let told: Vec<_> = items.iter().map(|item| (rows(item).source.as_str(), texts(item))).collect();
    assert_eq!(told[0], ("policy/1", vec![r#"{"state":"pass","message":""}"#.to_owned()]));
    assert_eq!(told[1], ("policy/2", vec![r#"{"state":"fail","message":""}"#.to_owned()]));
    let unknown = r#"{"state":"unknown","message":"no such table: x"}"#;
    assert_eq!(told[2], ("policy/3", vec![unknown.to_owned()]));
    assert!(items.iter().all(|item| rows(item).delta == Delta::SNAPSHOT));
}

#[test]
fn of_two_rounds_of_inventory_the_newer_counts() {
    let items = write(
        r#"{"queries":{"v10:inventory.users":[{"a":"new"}],"v9:inventory.users":[{"a":"old"}],
            "v9:inventory.disk":[],"v9:inventory.os":[]},"statuses":{"v9:inventory.os":1}}"#,
    );
    assert_eq!(rows(&items[0]).source, "inventory.users");
    assert_eq!(texts(&items[0]), [r#"{"a":"new"}"#]);
    assert_eq!(rows(&items[1]).source, "inventory.disk");
    assert!(texts(&items[1]).is_empty());
    assert!(matches!(&items[2], Fact::Log { message, .. } if message.contains("inventory.os")));
    assert_eq!(items.len(), 3, "a source that failed keeps its state");
}

#[test]
fn answers_to_queries_of_others_are_told_and_nothing_else() {
    let items = write(r#"{"queries":{"fleet_label_query_1":[{"a":"1"}]},"statuses":{}}"#);
    assert!(matches!(&items[..], [Fact::Log { message, .. }] if message.contains("fleet_label")));
}

#[test]
fn a_query_that_has_only_a_status_has_ended() {
    let items = write(r#"{"queries":{},"statuses":{"h1":1},"messages":{"h1":"interrupted"}}"#);
    assert_eq!(end(&items[0]).message, "interrupted");
}
