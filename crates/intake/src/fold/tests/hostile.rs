//! What an agent may not do, and that it costs nobody else anything.

use super::*;

fn batch(seq: u64) -> Repeat {
    Repeat::Sequence { stream: 1, seq }
}

#[test]
fn rows_nobody_asked_for_are_refused_and_recorded() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(9), &[1]), end(task(9)), rows(task(77), &[1])]);
    rig.tell(batch(2), vec![rows(attempt(1, 4), &[1]), Fact::Started(attempt(1, 0))]);
    assert!(rig.sink.rows.is_empty() && rig.sink.ends.is_empty());
    assert_eq!(
        rig.sink.errors,
        [
            "rows: this agent was not asked",
            "task: this agent was not asked",
            "rows: there is no such hunt",
            "rows: this attempt was never handed out",
            "task: this attempt was never handed out",
        ]
    );
    assert_eq!(rig.outcome(9), Outcome::Waiting);
    assert_eq!(rig.state.counters.refused, 5);
}

#[test]
fn a_hunt_of_another_organisation_does_not_exist() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.hunts.views.get_mut(&HuntNo(1)).unwrap().org = OrgId(2);
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    assert_eq!(rig.sink.errors, ["rows: there is no such hunt"]);
}

#[test]
fn a_schedule_nobody_made_is_refused() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![scheduled("evil.table", &[1], true)]);
    assert_eq!(rig.sink.errors, ["rows: nothing is scheduled under the name \"evil.table\""]);
}

#[test]
fn rows_without_identity_need_the_end_of_their_task() {
    let mut rig = Rig::new(AgentKind::Osquery);
    rig.tell(Repeat::Idempotent, vec![rows(task(1), &[1]), scheduled("pack.x", &[1], false)]);
    assert!(rig.sink.rows.is_empty());
    assert_eq!(rig.sink.errors.len(), 2);
}

#[test]
fn more_of_everything_than_is_remembered_stays_bounded() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    for n in 0..3_000_u64 {
        let rows = vec![rows(task(1), &[1])];
        rig.hunts.views.get_mut(&HuntNo(1)).unwrap().rows_per_endpoint = u64::MAX;
        rig.hunts.views.get_mut(&HuntNo(1)).unwrap().bytes_per_endpoint = u64::MAX;
        let repeat = match n % 5 {
            0 => Repeat::Sequence { stream: n, seq: 1 },
            1 => Repeat::RowRange { flow: n, part: 0, start: 0, end: 1 },
            2 => Repeat::RowRange { flow: 1, part: 0, start: 2 * n, end: 2 * n + 1 },
            3 => Repeat::Message(u128::from(n).to_le_bytes()),
            _ => Repeat::Lines { log: (n % 256) as u8, lines: vec![n], groups: Vec::new() },
        };
        rig.tell(repeat, rows);
        let name = format!("pack.{n}");
        rig.tell(Repeat::Message([n as u8; 16]), vec![scheduled(&name, &[1], true)]);
    }
    let bytes = rig.state.encode_base(ShardState::FORMAT.newest);
    assert!(bytes.len() < 20_000, "{} bytes for one agent", bytes.len());
    rig.restart();
}

#[test]
fn a_range_that_runs_backwards_and_a_batch_zero_are_refused() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(0), vec![rows(task(1), &[1])]);
    let backwards = Repeat::RowRange { flow: 1, part: 1, start: 5, end: 2 };
    rig.tell(backwards, vec![rows(task(1), &[1])]);
    let repeat = Repeat::Lines { log: 0, lines: vec![1, 2], groups: Vec::new() };
    rig.tell(repeat, vec![rows(task(1), &[1])]);
    assert!(rig.sink.rows.is_empty());
    assert_eq!(rig.sink.errors.len(), 3);
}

#[test]
fn endless_texts_are_cut_between_characters() {
    let mut rig = Rig::new(AgentKind::Native);
    let long = "ß".repeat(100_000);
    let log = Fact::Log { level: long.clone(), message: long.clone() };
    rig.tell(batch(1), vec![log, end_with(task(1), Some(Outcome::Failed), &long)]);
    assert_eq!(rig.sink.logs[0].len(), 16 << 10);
    assert_eq!(rig.sink.ends[0].4.len(), 16 << 10);
}
