//! Native: numbered batches of one stream, resent from the disk buffer until acknowledged.

use super::*;

fn batch(seq: u64) -> Repeat {
    Repeat::Sequence { stream: 0xabc, seq }
}

#[test]
fn a_batch_whose_ack_was_lost_is_sent_again_and_counts_once() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.fact(TaskFact::Delivered(task(1)));
    rig.tell(batch(1), vec![Fact::Started(task(1)), rows(task(1), &[1, 2])]);
    rig.tell(batch(1), vec![Fact::Started(task(1)), rows(task(1), &[1, 2])]);
    rig.tell(batch(2), vec![rows(task(1), &[3]), end(task(1))]);
    rig.restart();
    rig.tell(batch(1), vec![Fact::Started(task(1)), rows(task(1), &[1, 2])]);
    rig.tell(batch(2), vec![rows(task(1), &[3]), end(task(1))]);
    assert_eq!(rig.texts(), ["{\"v\":1}", "{\"v\":2}", "{\"v\":3}"]);
    assert_eq!(rig.lates(), [false; 3]);
    assert_eq!(rig.sink.ends, [(1, 1, Outcome::Rows, 3, String::new())]);
    assert!(rig.sink.errors.is_empty());
}

#[test]
fn a_hole_in_the_numbers_is_recorded_and_the_batch_is_taken() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    rig.tell(batch(4), vec![rows(task(1), &[4])]);
    rig.tell(batch(3), vec![rows(task(1), &[3])]);
    assert_eq!(rig.texts(), ["{\"v\":1}", "{\"v\":4}"]);
    assert_eq!(
        rig.sink.errors,
        ["sequence: 2 batches of stream 0000000000000abc never came: 2 to 3"]
    );
    assert_eq!((rig.state.counters.gaps, rig.state.counters.repeats), (1, 1));
}

#[test]
fn a_batch_that_could_not_be_read_leaves_a_hole_that_is_recorded() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    rig.poison("not a frame");
    rig.tell(batch(3), vec![rows(task(1), &[3])]);
    assert_eq!(rig.sink.errors.len(), 2);
    assert_eq!(rig.sink.errors[0], "message: not a frame");
    assert_eq!(rig.texts().len(), 2);
}

#[test]
fn a_new_buffer_is_a_new_stream() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    rig.tell(Repeat::Sequence { stream: 5, seq: 1 }, vec![rows(task(1), &[2])]);
    rig.tell(batch(1), vec![rows(task(1), &[1])]);
    assert_eq!(rig.texts(), ["{\"v\":1}", "{\"v\":2}"]);
}

#[test]
fn an_answer_may_come_before_the_fact_that_it_was_delivered() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(batch(1), vec![rows(task(1), &[1]), end(task(1))]);
    rig.fact(TaskFact::Delivered(task(1)));
    assert_eq!(rig.outcome(1), Outcome::Rows);
    assert_eq!(rig.state.open_tasks().count(), 0);
    assert_eq!(rig.sink.ends.len(), 1);
}

#[test]
fn a_task_handed_over_twice_runs_once_or_its_second_answer_is_late() {
    // Redelivery repeats the task under its identifier; an agent that forgot it answers again in new batches.
    let mut rig = Rig::new(AgentKind::Native);
    rig.fact(TaskFact::Delivered(task(1)));
    rig.fact(TaskFact::Delivered(task(1)));
    rig.tell(batch(1), vec![rows(task(1), &[1]), end(task(1))]);
    rig.tell(batch(2), vec![rows(task(1), &[1]), end(task(1))]);
    assert_eq!(rig.lates(), [false, true]);
    assert_eq!(rig.sink.ends.len(), 1);
}
