//! The present state of scheduled sources follows from what agents say of it.

use muster_results::Step as Change;
use proptest::prelude::*;

use super::*;

/// A step as it was taken.
#[derive(Clone, Debug)]
pub(super) struct Stepped {
    source: String,
    generation: u32,
    step: Change,
    rows: Vec<String>,
}

impl Stepped {
    pub(super) fn new(step: &StateStep<'_>, rows: Vec<String>) -> Self {
        let StateStep { source, generation, step } = *step;
        Self { source: source.to_owned(), generation, step, rows }
    }
}

/// What the steps come to: the rows, and whether nothing is missing. `None` before the first.
fn present(rig: &Rig, source: &str) -> Option<(Vec<String>, bool)> {
    let steps = || rig.sink.steps.iter().filter(|step| step.source == source);
    let live = steps().map(|step| step.generation).max()?;
    let (mut rows, mut complete, mut marked): (Vec<String>, _, _) = (Vec::new(), true, false);
    for step in steps().filter(|step| step.generation == live) {
        match step.step {
            Change::Add => rows.extend(step.rows.clone()),
            Change::Remove => {
                for row in &step.rows {
                    let at = rows.iter().position(|known| known == row).expect("it was there");
                    rows.swap_remove(at);
                }
            }
            Change::Mark => marked = true,
            Change::Gap => (marked, complete) = (true, false),
        }
    }
    assert!(marked, "a state has a mark");
    rows.sort();
    Some((rows, complete))
}

fn state(values: &[u32], complete: bool) -> Option<(Vec<String>, bool)> {
    let mut rows: Vec<String> = values.iter().map(|v| format!("{{\"v\":{v}}}")).collect();
    rows.sort();
    Some((rows, complete))
}

/// A run of a differential query, in one message.
struct Run<'a> {
    epoch: u64,
    counter: u64,
    at: i64,
    added: &'a [u32],
    removed: &'a [u32],
}

const RUN: Run<'static> = Run { epoch: 0, counter: 0, at: 1, added: &[], removed: &[] };

impl Run<'_> {
    fn items(&self, source: &str) -> Vec<Fact> {
        let Self { epoch, counter, at, .. } = *self;
        let item = |values, delta| {
            let Fact::Rows(rows) = rows_of(None, source, values) else { unreachable!() };
            let endpoint_time = Some(Timestamp(at * 1_000_000));
            Fact::Rows(Rows { delta, endpoint_time, ..rows })
        };
        let removed = item(self.removed, Delta::Removed { epoch, counter });
        let added = item(self.added, Delta::Added { epoch, counter });
        vec![removed, added]
    }

    fn tell(&self, rig: &mut Rig, source: &str) {
        let items = self.items(source);
        let hash = rig.pos * 7 + 1;
        let lines = vec![hash, hash];
        rig.tell(Repeat::Lines { log: 1, lines, groups: Vec::new() }, items);
        rig.restart();
    }
}

const X: &str = "pack.x";

#[test]
fn differences_follow_a_base() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1, 2, 2], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[1, 2, 2], true));
    Run { counter: 1, at: 2, added: &[3], removed: &[1, 2], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[2, 3], true), "rows are a multiset");
    assert!(rig.sink.errors.is_empty(), "{:?}", rig.sink.errors);
}

#[test]
fn a_run_may_come_in_many_messages() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, X);
    Run { added: &[2], ..RUN }.tell(&mut rig, X);
    Run { counter: 1, at: 2, added: &[3], ..RUN }.tell(&mut rig, X);
    Run { counter: 1, at: 2, removed: &[1], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[2, 3], true));
}

#[test]
fn a_base_that_comes_again_replaces_and_so_does_another_epoch() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, X);
    Run { at: 5, added: &[1, 2], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[1, 2], true), "the agent's store was lost");
    Run { epoch: 9, at: 6, ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[], true), "an empty base counts");
}

#[test]
fn a_missing_run_is_shown_until_the_next_base() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, X);
    Run { counter: 3, at: 4, added: &[4], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[1, 4], false));
    assert_eq!(rig.sink.errors, ["pack.x: runs 1 to 2 never came"]);
    Run { counter: 4, at: 5, removed: &[1], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[4], false));
    Run { counter: 0, at: 6, added: &[4], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[4], true));
}

#[test]
fn lines_that_the_gateway_dropped_leave_a_gap() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, X);
    let note = Fact::Dropped { source: "log".into(), message: "9 lines over 10 MiB".into() };
    rig.tell(Repeat::Idempotent, vec![note]);
    Run { counter: 1, at: 2, added: &[2], ..RUN }.tell(&mut rig, X);
    assert_eq!(present(&rig, X), state(&[1, 2], false));
}

#[test]
fn a_state_without_base_has_no_rows() {
    let mut rig = Rig::new(AgentKind::Osquery);
    for counter in 1..5 {
        Run { counter, at: 1, added: &[7], ..RUN }.tell(&mut rig, X);
    }
    assert_eq!(present(&rig, X), state(&[], false));
    assert_eq!(rig.sink.steps.len(), 1, "an event table leaves one mark");
    assert_eq!(rig.sink.rows.len(), 4, "the rows are stored as they came");
}

#[test]
fn events_have_no_state() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, "pack.events");
    assert_eq!(present(&rig, "pack.events"), None);
    assert_eq!(rig.sink.rows.len(), 1);
}

#[test]
fn snapshots_replace_and_parts_of_one_extend() {
    let mut rig = Rig::new(AgentKind::Osquery);
    let part = |rig: &mut Rig, run, values: &[u32]| {
        let Fact::Rows(rows) = scheduled(X, values, true) else { unreachable!() };
        let lines = vec![rig.pos * 3 + 1];
        let item = Fact::Rows(Rows { delta: Delta::Snapshot { run }, ..rows });
        rig.tell(Repeat::Lines { log: 1, lines, groups: Vec::new() }, vec![item]);
        rig.restart();
    };
    part(&mut rig, None, &[1, 2]);
    part(&mut rig, None, &[3]);
    assert_eq!(present(&rig, X), state(&[3], true));
    part(&mut rig, None, &[3]);
    assert_eq!(rig.sink.unchanged, [X]);
    let last = rig.sink.steps.last().unwrap();
    assert_eq!((last.step, last.generation), (Change::Mark, 2), "it was seen again");
    part(&mut rig, Some(5), &[1]);
    part(&mut rig, Some(5), &[2]);
    assert_eq!(present(&rig, X), state(&[1, 2], true));
    part(&mut rig, Some(6), &[2]);
    assert_eq!(present(&rig, X), state(&[2], true));
}

#[test]
fn what_cannot_be_read_leaves_a_gap_or_the_state_as_it_was() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, X);
    let mut items = Run { counter: 1, at: 2, ..RUN }.items(X);
    let Fact::Rows(rows) = &mut items[1] else { unreachable!() };
    rows.json = Bytes::from_static(b"[{]");
    rig.tell(Repeat::Lines { log: 1, lines: vec![1, 2], groups: Vec::new() }, items);
    assert_eq!(present(&rig, X), state(&[1], false));
    let Fact::Rows(rows) = scheduled("pack.y", &[1], true) else { unreachable!() };
    let good = Fact::Rows(rows.clone());
    let bad = Fact::Rows(Rows { json: Bytes::from_static(b"{"), ..rows });
    rig.tell(Repeat::Lines { log: 1, lines: vec![8, 9], groups: Vec::new() }, vec![good, bad]);
    assert_eq!(present(&rig, "pack.y"), state(&[1], true));
}

#[test]
fn rows_that_nobody_here_scheduled_are_kept_for_osquery_agents_only() {
    let mut rig = Rig::new(AgentKind::Osquery);
    Run { added: &[1], ..RUN }.tell(&mut rig, "their pack");
    assert_eq!(rig.sink.rows[0].0, "other their pack added");
    assert!(rig.sink.steps.is_empty() && rig.sink.errors.is_empty());
    let mut rig = Rig::new(AgentKind::Native);
    Run { added: &[1], ..RUN }.tell(&mut rig, "their pack");
    assert!(rig.sink.rows.is_empty());
    assert_eq!(rig.state.counters.refused, 0, "since the restart");
    assert_eq!(rig.sink.errors.len(), 2);
}

#[test]
fn a_whole_state_without_identity_must_be_in_one_piece() {
    let mut rig = Rig::new(AgentKind::Osquery);
    rig.tell(Repeat::Idempotent, Run { added: &[1], ..RUN }.items(X));
    let Fact::Rows(rows) = scheduled(X, &[1], true) else { unreachable!() };
    let part = Fact::Rows(Rows { delta: Delta::Snapshot { run: Some(1) }, ..rows });
    rig.tell(Repeat::Idempotent, vec![part]);
    assert!(rig.sink.rows.is_empty() && rig.sink.steps.is_empty());
    assert_eq!(rig.state.counters.refused, 3);
}

/// What happens at an endpoint between two runs.
#[derive(Clone, Debug)]
struct Turn {
    add: Vec<u32>,
    remove: usize,
    /// The agent loses its store, or is told to begin anew.
    reset: bool,
    epoch: bool,
    again: bool,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let share = |n: u32| (0..n).prop_map(|roll| roll == 0);
    let add = proptest::collection::vec(0u32..4, 0..4);
    let turn = (add, 0usize..3, share(8), share(10), any::<bool>());
    let turn = turn.prop_map(|(add, remove, reset, epoch, again)| Turn {
        add,
        remove,
        reset,
        epoch,
        again,
    });
    proptest::collection::vec(turn, 1..30)
}

proptest! {
    #[test]
    fn the_state_is_what_the_endpoint_has(turns in turns()) {
        let mut rig = Rig::new(AgentKind::Osquery);
        let mut there: Vec<u32> = Vec::new();
        let mut run = Run { counter: u64::MAX, ..RUN };
        for (n, turn) in turns.into_iter().enumerate() {
            let removed: Vec<u32> = there.drain(..turn.remove.min(there.len())).collect();
            there.extend(&turn.add);
            run.epoch += u64::from(turn.epoch);
            let base = turn.reset || turn.epoch || n == 0;
            run.counter = if base { 0 } else { run.counter + 1 };
            let (added, removed) = if base { (there.clone(), vec![]) } else { (turn.add, removed) };
            let run = Run { at: n as i64 + 1, added: &added, removed: &removed, ..run };
            let repeat = Repeat::Lines { log: 1, lines: vec![n as u64, n as u64], groups: Vec::new() };
            for _ in 0..=u8::from(turn.again) {
                rig.tell(repeat.clone(), run.items(X));
                rig.restart();
            }
            prop_assert_eq!(present(&rig, X), state(&there, true));
        }
        prop_assert!(rig.sink.errors.is_empty());
    }
}
