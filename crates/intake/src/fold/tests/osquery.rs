//! osquery: log lines without identity (a resent body may be longer than the first), and
//! answers to distributed queries that are sent whole again until the server took them.

use super::*;

fn log(rig: &mut Rig, log: u8, lines: std::ops::Range<u32>) {
    let items = lines.clone().map(|v| scheduled("pack.cpu", &[v], false)).collect();
    let lines = lines.map(u64::from).collect();
    rig.tell(Repeat::Lines { log, lines, groups: Vec::new() }, items);
}

fn stored(rig: &Rig) -> Vec<u32> {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["v"].clone();
    rig.texts().iter().map(|text| value(text).as_u64().unwrap() as u32).collect()
}

#[test]
fn a_resent_post_that_is_longer_than_the_first_adds_only_what_is_new() {
    let mut rig = Rig::new(AgentKind::Osquery);
    log(&mut rig, 0, 1..11);
    log(&mut rig, 0, 1..13);
    rig.restart();
    log(&mut rig, 0, 1..13);
    log(&mut rig, 0, 1..15);
    log(&mut rig, 0, 15..17);
    assert_eq!(stored(&rig), (1..17).collect::<Vec<_>>());
    assert_eq!(rig.state.counters.repeats, 2, "since the restart");
}

#[test]
fn the_double_send_on_a_closed_connection_counts_once() {
    let mut rig = Rig::new(AgentKind::Osquery);
    log(&mut rig, 0, 1..3);
    log(&mut rig, 0, 1..3);
    assert_eq!(stored(&rig), [1, 2]);
}

#[test]
fn result_and_status_logs_are_told_apart() {
    let mut rig = Rig::new(AgentKind::Osquery);
    log(&mut rig, 0, 1..3);
    log(&mut rig, 1, 5..7);
    log(&mut rig, 0, 1..4);
    log(&mut rig, 1, 5..7);
    assert_eq!(stored(&rig), [1, 2, 5, 6, 3]);
}

#[test]
fn another_post_that_only_begins_alike_is_new() {
    let mut rig = Rig::new(AgentKind::Osquery);
    log(&mut rig, 0, 1..4);
    let items = [1, 2, 9].map(|v| scheduled("pack.cpu", &[v], false)).to_vec();
    rig.tell(Repeat::Lines { log: 0, lines: vec![1, 2, 9], groups: Vec::new() }, items);
    assert_eq!(stored(&rig), [1, 2, 3, 1, 2, 9]);
}

#[test]
fn a_failed_write_is_repeated_whole_and_the_first_answer_wins() {
    let mut rig = Rig::new(AgentKind::Osquery);
    rig.tell(Repeat::Idempotent, vec![rows(task(1), &[1]), end(task(1))]);
    let again = vec![
        rows(task(1), &[1]),
        end(task(1)),
        rows(task(2), &[2]),
        end_with(task(2), Some(Outcome::Failed), "no such table: x"),
    ];
    rig.tell(Repeat::Idempotent, again.clone());
    rig.restart();
    rig.tell(Repeat::Idempotent, again);
    assert_eq!(stored(&rig), [1, 2]);
    assert_eq!(rig.lates(), [false, false]);
    let outcomes: Vec<_> = rig.sink.ends.iter().map(|end| (end.0, end.2)).collect();
    assert_eq!(outcomes, [(1, Outcome::Rows), (2, Outcome::Failed)]);
}

#[test]
fn an_answer_after_the_servers_end_is_stored_late_and_once() {
    let mut rig = Rig::new(AgentKind::Osquery);
    rig.fact(TaskFact::Delivered(task(1)));
    rig.fact(ended(task(1), Outcome::TimedOut));
    for _ in 0..2 {
        rig.tell(Repeat::Idempotent, vec![rows(task(1), &[1]), end(task(1))]);
    }
    assert_eq!(rig.lates(), [true]);
    assert_eq!(rig.outcome(1), Outcome::TimedOut);
}

#[test]
fn an_unchanged_snapshot_is_recorded_and_not_stored() {
    let mut rig = Rig::new(AgentKind::Osquery);
    for (n, value) in [1, 1, 2, 2, 1].into_iter().enumerate() {
        let items = vec![scheduled("pack.users", &[value], true)];
        let lines = vec![100 + n as u64];
        rig.tell(Repeat::Lines { log: 0, lines, groups: Vec::new() }, items);
        rig.restart();
    }
    assert_eq!(stored(&rig), [1, 2, 1]);
    assert_eq!(rig.sink.unchanged, ["pack.users", "pack.users"]);
}

/// One item of several rows, as a codec that joins lines makes it.
fn joined(values: std::ops::Range<u32>) -> Fact {
    let Fact::Rows(rows) = scheduled("pack.cpu", &[], false) else { unreachable!() };
    let json: String = values.map(|v| format!("{{\"v\":{v}}}\n")).collect();
    Fact::Rows(Rows { format: RowFormat::Lines, json: json.into(), ..rows })
}

#[test]
fn a_repeat_may_end_in_the_middle_of_a_group_of_lines() {
    let mut rig = Rig::new(AgentKind::Osquery);
    let tell = |rig: &mut Rig, groups: &[std::ops::Range<u32>]| {
        let lines = groups.iter().cloned().flatten().map(u64::from).collect();
        let counts = groups.iter().map(|group| group.len() as u32).collect();
        let items = groups.iter().cloned().map(joined).collect();
        rig.tell(Repeat::Lines { log: 0, lines, groups: counts }, items);
    };
    tell(&mut rig, &[1..4, 4..6]);
    tell(&mut rig, &[1..4, 4..6]);
    tell(&mut rig, &[1..4, 4..9]);
    tell(&mut rig, &[1..4, 4..9, 9..10]);
    tell(&mut rig, std::slice::from_ref(&(1..11)));
    assert_eq!(stored(&rig), (1..11).collect::<Vec<_>>());
    let short = Repeat::Lines { log: 0, lines: vec![50], groups: vec![2] };
    rig.tell(short, vec![joined(50..52)]);
    assert_eq!(rig.state.counters.refused, 1);
}
