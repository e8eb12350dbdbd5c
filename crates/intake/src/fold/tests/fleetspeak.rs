//! Fleetspeak with GRR: messages repeated after a reconnect, responses out of order or twice, a request
//! complete when responses 1..n-1 and the status n are there.

use super::super::{MAX_MESSAGES, MAX_RANGES};
use super::*;

/// Response `id` of request 1, from 1, as the codec words it.
fn response(id: u64) -> Repeat {
    Repeat::RowRange { flow: 0xf100, part: 1, start: id - 1, end: id }
}

#[test]
fn responses_out_of_order_wait_for_nothing_but_the_status_waits_for_them() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.fact(TaskFact::Delivering(task(1)));
    rig.tell(response(3), vec![rows(task(1), &[3])]);
    rig.tell(response(4), vec![end(task(1))]);
    rig.tell(response(1), vec![rows(task(1), &[1])]);
    rig.restart();
    rig.tell(response(3), vec![rows(task(1), &[3])]);
    rig.tell(response(4), vec![end(task(1))]);
    assert_eq!(rig.outcome(1), Outcome::Running, "response 2 is missing");
    rig.tell(response(2), vec![rows(task(1), &[2])]);
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Rows, 3, String::new())]);
    assert_eq!(rig.lates(), [false; 3]);
}

#[test]
fn an_error_status_may_follow_partial_results() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.tell(response(1), vec![rows(task(1), &[1])]);
    rig.tell(response(2), vec![end_with(task(1), Some(Outcome::Failed), "access denied")]);
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Failed, 1, "access denied".to_owned())]);
}

#[test]
fn a_status_alone_is_an_empty_answer() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.tell(response(1), vec![end(task(1))]);
    assert_eq!(rig.outcome(1), Outcome::Empty);
}

#[test]
fn a_status_whose_responses_never_come_leaves_the_end_to_the_server() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.tell(response(5), vec![end(task(1))]);
    rig.fact(ended(task(1), Outcome::TimedOut));
    rig.tell(response(1), vec![rows(task(1), &[1])]);
    assert_eq!(rig.outcome(1), Outcome::TimedOut);
    assert_eq!(rig.lates(), [true]);
}

#[test]
fn everything_not_acknowledged_is_sent_again_after_a_reconnect() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    let message = |n: u8| Repeat::Message([n; 16]);
    for n in (0..100).chain(0..100) {
        rig.tell(message(n), vec![scheduled("pack.startup", &[n.into()], false)]);
    }
    assert_eq!(rig.texts().len(), 100);
    const { assert!(MAX_MESSAGES >= 100 && MAX_RANGES >= 100) };
}

#[test]
fn not_acknowledged_and_stream_lost_means_a_new_attempt() {
    let mut rig = Rig::new(AgentKind::Fleetspeak);
    rig.fact(TaskFact::Delivering(task(1)));
    rig.fact(TaskFact::Delivered(task(1)));
    rig.fact(TaskFact::Lost(task(1)));
    rig.fact(TaskFact::Delivering(attempt(1, 2)));
    rig.fact(TaskFact::Acked(attempt(1, 2)));
    let second = Repeat::RowRange { flow: 2, part: 1, start: 0, end: 1 };
    rig.tell(second, vec![end(attempt(1, 2))]);
    assert_eq!(rig.sink.ends, [(1, 2, Outcome::Empty, 0, String::new())]);
}
