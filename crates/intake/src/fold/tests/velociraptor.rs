//! Velociraptor: rows by (flow, part, first row), resent byte for byte; cumulative statistics whose
//! `flow_complete` is sticky; log rows may follow it; an unknown flow means a new attempt under a new flow.

use super::*;

fn range(part: u64, start: u64, end: u64) -> Repeat {
    Repeat::RowRange { flow: 0xf1, part, start, end }
}

#[test]
fn a_resent_response_counts_once_whatever_came_in_between() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    rig.tell(range(1, 0, 2), vec![rows(task(1), &[0, 1])]);
    rig.tell(range(2, 0, 1), vec![rows(task(1), &[50])]);
    rig.tell(range(1, 2, 3), vec![rows(task(1), &[2])]);
    rig.restart();
    rig.tell(range(1, 0, 2), vec![rows(task(1), &[0, 1])]);
    rig.tell(range(1, 2, 3), vec![rows(task(1), &[2])]);
    assert_eq!(rig.texts().len(), 4);
    assert_eq!(rig.state.counters.repeats, 2);
}

#[test]
fn flow_complete_is_sticky_and_log_rows_after_it_are_late() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    rig.fact(TaskFact::Delivering(task(1)));
    rig.tell(range(1, 0, 1), vec![rows(task(1), &[0])]);
    rig.tell(Repeat::Idempotent, vec![end(task(1))]);
    rig.tell(Repeat::Idempotent, vec![end_with(task(1), Some(Outcome::Failed), "again")]);
    rig.tell(range(7, 0, 1), vec![rows(task(1), &[90])]);
    rig.tell(Repeat::Idempotent, vec![end(task(1))]);
    assert_eq!(rig.lates(), [false, true]);
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Rows, 1, String::new())]);
    assert_eq!(rig.outcome(1), Outcome::Rows);
}

#[test]
fn an_unknown_flow_is_lost_and_its_second_attempt_is_the_accepted_one() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    rig.fact(TaskFact::Delivering(task(1)));
    rig.tell(range(1, 0, 1), vec![rows(task(1), &[1])]);
    assert_eq!(rig.outcome(1), Outcome::Running);
    rig.fact(TaskFact::Lost(task(1)));
    assert_eq!(rig.outcome(1), Outcome::Waiting);
    rig.fact(TaskFact::Delivering(attempt(1, 2)));
    let second = |start, end| Repeat::RowRange { flow: 0xf2, part: 1, start, end };
    rig.tell(second(0, 2), vec![rows(attempt(1, 2), &[1, 2])]);
    rig.tell(range(1, 1, 2), vec![rows(task(1), &[3])]);
    rig.tell(Repeat::Idempotent, vec![end(task(1))]);
    assert_eq!(rig.outcome(1), Outcome::Running, "the first attempt's end is of no account");
    rig.tell(Repeat::Idempotent, vec![end(attempt(1, 2))]);
    assert_eq!(rig.lates(), [false, false, false, true]);
    assert_eq!(rig.sink.ends, [(1, 2, Outcome::Rows, 2, String::new())]);
}

#[test]
fn a_range_of_which_a_part_was_here_adds_the_rest() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    rig.tell(range(1, 2, 4), vec![rows(task(1), &[2, 3])]);
    rig.tell(range(1, 0, 6), vec![rows(task(1), &[0, 1, 2]), rows(task(1), &[3, 4, 5])]);
    assert_eq!(rig.texts().len(), 6);
    rig.tell(range(1, 5, 8), vec![rows(task(1), &[5])]);
    assert_eq!(rig.texts().len(), 6);
    assert_eq!(rig.sink.errors.len(), 1, "rows that cannot be told apart are refused");
}

#[test]
fn monitoring_rows_are_recognised_by_their_message() {
    let mut rig = Rig::new(AgentKind::Velociraptor);
    for id in [1, 2, 1, 2, 3] {
        rig.tell(Repeat::Message([id; 16]), vec![scheduled("pack.dns", &[id.into()], false)]);
    }
    assert_eq!(rig.texts().len(), 3);
}
