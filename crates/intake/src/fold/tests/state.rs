//! State as bytes: base and deltas come to the same, and nothing that is no state is taken for one.

use std::collections::BTreeMap;

use muster_types::Shard;
use proptest::prelude::*;

use super::super::StateError;
use super::super::agent::{AgentState, Ranges};
use super::*;

const NEWEST: u8 = ShardState::FORMAT.newest;

/// Agents as values, whether packed or not.
fn all(state: &ShardState) -> BTreeMap<u32, AgentState> {
    let agent = |local| (local, state.agents.get(local).unwrap().into_owned());
    state.agents.locals().into_iter().map(agent).collect()
}

fn repeats() -> impl Strategy<Value = Repeat> {
    prop_oneof![
        (0u64..6, 1u64..20).prop_map(|(stream, seq)| Repeat::Sequence { stream, seq }),
        (0u64..3, 0u64..3, 0u64..40, 0u64..6).prop_map(|(flow, part, start, n)| {
            Repeat::RowRange { flow, part, start, end: start + n }
        }),
        any::<u8>().prop_map(|n| Repeat::Message([n; 16])),
        (0u8..3, 1u64..4).prop_map(|(log, n)| Repeat::Lines {
            log,
            lines: vec![n; 2],
            groups: Vec::new()
        }),
        Just(Repeat::Idempotent),
    ]
}

fn items() -> impl Strategy<Value = Vec<Fact>> {
    let task = (1u64..4, 1u16..3).prop_map(|(hunt, n)| attempt(hunt, n));
    let item = prop_oneof![
        task.clone().prop_map(|task| rows(task, &[1])),
        (0u32..9, any::<bool>()).prop_map(|(v, snapshot)| scheduled("pack.x", &[v], snapshot)),
        (task, 0u8..10).prop_map(|(task, code)| end_with(task, Outcome::from_code(code), "m")),
    ];
    proptest::collection::vec(item, 2)
}

fn facts() -> impl Strategy<Value = TaskFact> {
    let task = (1u64..4, 1u16..4).prop_map(|(hunt, n)| attempt(hunt, n));
    (task, 0u8..4).prop_map(|(task, kind)| match kind {
        0 => TaskFact::Delivering(task),
        1 => TaskFact::Acked(task),
        2 => TaskFact::Lost(task),
        _ => ended(task, Outcome::TimedOut),
    })
}

#[derive(Clone, Debug)]
enum Told {
    Message(Repeat, Vec<Fact>),
    Fact(TaskFact),
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        3 => (repeats(), items()).prop_map(|(repeat, items)| Told::Message(repeat, items)),
        1 => facts().prop_map(Told::Fact),
    ]
}

proptest! {
    #[test]
    fn base_and_deltas_come_to_the_state_that_was_left(
        steps in proptest::collection::vec((told(), any::<bool>(), 2..=NEWEST), 0..60),
    ) {
        let mut rig = Rig::new(AgentKind::Native);
        let mut unsaved = Rig::new(AgentKind::Native);
        let mut stored = ShardState::new(AGENT.shard());
        // The version that all instances read rises and, for a while, not everybody has heard.
        for (told, flush, version) in steps {
            for rig in [&mut rig, &mut unsaved] {
                match told.clone() {
                    Told::Message(repeat, items) => _ = rig.tell(repeat, items),
                    Told::Fact(fact) => _ = rig.fact(fact),
                }
            }
            if flush {
                stored.read(&rig.state.take_delta(version)).unwrap();
            }
        }
        stored.read(&rig.state.take_delta(NEWEST)).unwrap();
        prop_assert_eq!(all(&stored), all(&rig.state));
        prop_assert_eq!(all(&unsaved.state), all(&rig.state), "packed and brought to hand again");
        for version in 2..=NEWEST {
            let mut based = ShardState::new(AGENT.shard());
            based.read(&rig.state.encode_base(version)).unwrap();
            prop_assert_eq!(all(&based), all(&rig.state));
        }
    }

    #[test]
    fn every_hunt_has_at_most_one_end(
        steps in proptest::collection::vec((told(), any::<bool>()), 0..80),
    ) {
        let mut rig = Rig::new(AgentKind::Native);
        for (told, again) in steps {
            for _ in 0..=u8::from(again) {
                match told.clone() {
                    Told::Message(repeat, items) => _ = rig.tell(repeat, items),
                    Told::Fact(fact) => _ = rig.fact(fact),
                }
            }
        }
        for hunt in 1..4 {
            let ends = rig.sink.ends.iter().filter(|end| end.0 == hunt).count();
            prop_assert_eq!(ends, usize::from(rig.outcome(hunt).is_terminal()));
        }
    }

    #[test]
    fn a_message_told_twice_at_once_stores_its_rows_once(repeat in repeats(), items in items()) {
        let mut rig = Rig::new(AgentKind::Native);
        rig.tell(repeat.clone(), items.clone());
        let (rows, ends) = (rig.sink.rows.clone(), rig.sink.ends.clone());
        let empty = matches!(repeat, Repeat::RowRange { start, end, .. } if start == end);
        prop_assume!(!empty);
        rig.tell(repeat, items);
        prop_assert_eq!(rows, rig.sink.rows);
        prop_assert_eq!(ends, rig.sink.ends);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400), version in any::<bool>(),
    ) {
        if version && bytes.len() > 2 {
            (bytes[0], bytes[1]) = (bytes[0] % (NEWEST + 1), AGENT.shard().get());
            let sum = crc32c::crc32c(&bytes);
            bytes.extend(sum.to_le_bytes());
        }
        let _ = ShardState::new(AGENT.shard()).read(&bytes);
    }

    #[test]
    fn ranges_are_the_set_of_their_numbers(
        adds in proptest::collection::vec((0u64..60, 0u64..12), 0..40), ask in (0u64..60, 0u64..30),
    ) {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        for (start, n) in adds {
            prop_assert!(ranges.insert(start, start + n, 64));
            set.extend(start..start + n);
        }
        let missing: Vec<u64> =
            ranges.missing(ask.0, ask.0 + ask.1).into_iter().flat_map(|(a, b)| a..b).collect();
        let expected: Vec<u64> = (ask.0..ask.0 + ask.1).filter(|n| !set.contains(n)).collect();
        prop_assert_eq!(missing, expected);
        prop_assert_eq!(ranges.complete_below(ask.0), (0..ask.0).all(|n| set.contains(&n)));
        prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}

#[test]
fn another_version_or_shard_is_named() {
    let mut state = ShardState::new(Shard::new(3).unwrap());
    assert_eq!(state.read(&[9, 3]), Err(StateError::Version(9)));
    let wanted = Shard::new(3).unwrap();
    assert_eq!(state.read(&[1, 4]), Err(StateError::Shard { wanted, found: 4 }));
}

#[test]
fn what_the_first_version_wrote_is_read_and_written_while_it_suffices() {
    let shard = AGENT.shard();
    let mut bytes = vec![1, shard.get()];
    bytes.extend(AGENT.local().to_le_bytes());
    // No streams, parts, messages or logs; one snapshot; nothing open or ended.
    bytes.extend([0, 0, 0, 0, 1]);
    bytes.extend([7; 8 + 16 + 8]);
    bytes.extend([0, 0, 0, 0, 0]);
    let mut state = ShardState::new(shard);
    state.read(&bytes).unwrap();
    assert_eq!(state.agent_count(), 1);
    assert_eq!(state.encode_base(2)[0], 1, "a neighbour of the first version reads it");
    let mut rig = Rig { state, ..Rig::new(AgentKind::Native) };
    rig.tell(Repeat::Message([1; 16]), vec![scheduled("pack.x", &[1], true)]);
    assert_eq!(rig.sink.rows.len(), 1, "it has no rows in the present state yet");
    assert_eq!(rig.state.encode_base(2)[0], 2);
    assert_eq!(rig.state.encode_base(3)[0], 3);
    assert_eq!(rig.state.encode_base(NEWEST + 1)[0], NEWEST);
}

#[test]
fn an_agent_with_a_long_past_takes_few_bytes() {
    let mut rig = Rig::new(AgentKind::Native);
    let view = rig.hunts.views[&HuntNo(1)];
    for hunt in 1..=40 {
        rig.hunts.views.insert(HuntNo(hunt), view);
        rig.hunts.recruited.insert((HuntNo(hunt), AGENT));
        rig.fact(TaskFact::Delivered(attempt(hunt, 1)));
        rig.fact(ended(attempt(hunt, 1), Outcome::TimedOut));
    }
    let agent = rig.state.agents.get(AGENT.local()).unwrap();
    assert_eq!(agent.ended.len(), super::super::agent::MAX_ENDED);
    let (fixed, compact) = (rig.state.encode_base(3), rig.state.encode_base(4));
    assert!(compact.len() * 5 < fixed.len(), "{} of {} bytes", compact.len(), fixed.len());
    let mut read = ShardState::new(AGENT.shard());
    read.read(&compact).unwrap();
    assert_eq!(all(&read), all(&rig.state));
}

#[test]
fn a_mark_that_changed_in_a_store_is_not_believed() {
    let mut rig = Rig::new(AgentKind::Native);
    rig.tell(Repeat::Sequence { stream: 1, seq: 1 }, vec![scheduled("pack.x", &[1], true)]);
    let read = |bytes: Vec<u8>| ShardState::new(AGENT.shard()).read(&bytes);
    let older = rig.state.encode_base(2);
    assert_eq!(older[0], 2);
    // In the older form the number of a message is believed whatever it is.
    let mark = 2 + 4 + 1 + 8;
    let mut damaged = older.to_vec();
    damaged[mark] ^= 0x40;
    assert_eq!(read(damaged), Ok(()));
    for version in 3..=NEWEST {
        let bytes = rig.state.encode_base(version);
        assert_eq!(bytes[0], version);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                // What damages the version may make it one that has no checksum; then the rest does not fit.
                assert!(read(damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(read(bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
        assert_eq!(read(bytes.to_vec()), Ok(()));
    }
}
