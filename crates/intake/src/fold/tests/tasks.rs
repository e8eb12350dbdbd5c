//! One outcome per recruited agent, whatever the order.

use super::*;

fn batch(seq: u64) -> Repeat {
    Repeat::Sequence { stream: 1, seq }
}

#[test]
fn an_end_is_what_was_counted_unless_it_went_wrong() {
    type Case = (&'static str, Option<Outcome>, &'static [u32], Outcome);
    const CASES: [Case; 10] = [
        ("rows", None, &[1, 2], Outcome::Rows),
        ("nothing", None, &[], Outcome::Empty),
        ("claimed rows without any", Some(Outcome::Rows), &[], Outcome::Empty),
        ("claimed empty with some", Some(Outcome::Empty), &[1], Outcome::Rows),
        ("failed", Some(Outcome::Failed), &[1], Outcome::Failed),
        ("timed out", Some(Outcome::TimedOut), &[], Outcome::TimedOut),
        ("unsupported", Some(Outcome::Unsupported), &[], Outcome::Unsupported),
        ("cancelled", Some(Outcome::Cancelled), &[1], Outcome::Cancelled),
        ("not the agent's to say", Some(Outcome::Retired), &[], Outcome::Failed),
        ("no end at all", Some(Outcome::Running), &[], Outcome::Failed),
    ];
    for (name, claimed, values, outcome) in CASES {
        let mut rig = Rig::new(AgentKind::Native);
        rig.tell(batch(1), vec![rows(task(1), values), end_with(task(1), claimed, "")]);
        assert_eq!(rig.outcome(1), outcome, "{name}");
        assert_eq!(rig.sink.ends[0].3, values.len() as u64, "{name}");
    }
}

#[test]
fn the_first_terminal_fact_wins_and_later_rows_are_late() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.fact(TaskFact::Delivered(task(1)));
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    rig.fact(ended(task(1), Outcome::Cancelled));
    rig.restart();
    rig.tell(batch(2), vec![rows(task(1), &[2]), end(task(1))]);
    rig.fact(ended(task(1), Outcome::Expired));
    assert_eq!(rig.outcome(1), Outcome::Cancelled);
    assert_eq!(rig.lates(), [false, true]);
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Cancelled, 1, "by the server".to_owned())]);
}

#[test]
fn a_task_that_was_never_delivered_can_end() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.fact(ended(task(1), Outcome::Expired));
    rig.fact(TaskFact::Delivered(task(1)));
    assert_eq!(rig.outcome(1), Outcome::Expired);
    assert_eq!(rig.state.open_tasks().count(), 0);
}

#[test]
fn the_servers_end_of_an_older_attempt_does_not_end_the_newer() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.fact(TaskFact::Delivering(task(1)));
    rig.fact(TaskFact::Lost(task(1)));
    rig.fact(TaskFact::Delivering(attempt(1, 2)));
    rig.fact(ended(task(1), Outcome::TimedOut));
    assert_eq!(rig.outcome(1), Outcome::Running);
    rig.fact(ended(attempt(1, 2), Outcome::TimedOut));
    assert_eq!(rig.outcome(1), Outcome::TimedOut);
}

#[test]
fn too_many_rows_cut_the_task_off() {
    let mut rig = Rig::new(AgentKind::Native);
    let many: Vec<u32> = (0..60).collect();
    for seq in 1..=4 {
        rig.tell(batch(seq), vec![rows(task(1), &many)]);
    }
    rig.tell(batch(5), vec![end(task(1))]);
    assert_eq!(rig.texts().len(), 120, "what follows the batch that went over is dropped");
    let message = "more than 100 rows; the rest is dropped".to_owned();
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Failed, 120, message)]);
}

#[test]
fn too_many_bytes_cut_the_task_off() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.hunts.views.get_mut(&HuntNo(1)).unwrap().bytes_per_endpoint = 20;
    rig.tell(batch(1), vec![rows(task(1), &[1, 2, 3]), end(task(1))]);
    assert_eq!(rig.sink.ends[0].4, "more than 20 bytes of rows; the rest is dropped");
}

#[test]
fn rows_that_cannot_be_read_fail_the_task() {
    let mut rig = Rig::new(AgentKind::Native);
    let Fact::Rows(good) = rows(task(1), &[1]) else { unreachable!() };
    let bad = Fact::Rows(Rows { json: Bytes::from_static(b"[{"), ..good });
    rig.tell(batch(1), vec![bad, rows(task(1), &[2])]);
    rig.restart();
    rig.tell(batch(2), vec![end(task(1))]);
    assert_eq!(rig.outcome(1), Outcome::Failed);
    assert_eq!(rig.texts(), ["{\"v\":2}"]);
    assert_eq!(rig.sink.errors.len(), 1);
}

#[test]
fn whoever_watches_is_told_rows_and_end() {
    let mut rig = Rig::new(AgentKind::Native);
    let effects = rig.tell(batch(1), vec![rows(task(1), &[1, 2]), end(task(1))]);
    assert!(effects.progressed && !effects.urgent);
    assert_eq!(effects.live.len(), 2);
    assert_eq!((effects.live[0].rows, effects.live[0].end.clone()), (2, None));
    assert_eq!(effects.live[1].end.as_ref().unwrap().outcome, Outcome::Rows);
}

#[test]
fn progress_counts_what_was_stored() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(1), &[1, 2]), end(task(1)), rows(task(1), &[3])]);
    let changed = rig.state.take_changed_progress();
    let progress = &changed[&HuntNo(1)];
    assert_eq!((progress.row_count, progress.terminal_count()), (3, 1));
    assert!(rig.state.take_changed_progress().is_empty());
}
