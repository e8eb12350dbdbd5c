//! The disk buffer: order, bounds, and every kind of sudden end.

use std::fs;
use std::path::Path;

use muster_agent::buffer::{Buffer, Error, Options, Room};
use muster_codec_native::{Batch, StreamSeq};
use muster_types::{Fact, HuntNo, Spent, TaskEnd, TaskId};
use proptest::prelude::*;

fn end(n: u64, message: &str) -> Fact {
    let task = TaskId { hunt: HuntNo(n), attempt: 1 };
    Fact::End(TaskEnd { task, outcome: None, message: message.into(), spent: Spent::micros(n) })
}

fn put(buffer: &Buffer, numbers: &[u64]) -> Result<(), Error> {
    buffer
        .append(Room::Quota, |group| numbers.iter().try_for_each(|n| group.push(vec![end(*n, "")])))
}

/// What would be sent, in order.
fn contents(buffer: &Buffer) -> Vec<(u64, u64)> {
    let (mut found, mut after) = (Vec::new(), None);
    while let Some((at, frame)) = buffer.next(after).unwrap() {
        let batch = Batch::decode(frame).unwrap();
        assert_eq!((batch.stream, batch.seq), (at.stream, at.seq));
        let [Fact::End(end)] = batch.items.as_slice() else { panic!("{:?}", batch.items) };
        found.push((at.seq, end.task.hunt.0));
        after = Some(at);
    }
    found
}

fn open(dir: &Path) -> Buffer {
    Buffer::open(dir, Options::default()).unwrap()
}

#[test]
fn batches_survive_reopening_in_order_with_their_stream() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    put(&buffer, &[10]).unwrap();
    put(&buffer, &[20, 30]).unwrap();
    let first = buffer.first_waiting().unwrap();
    drop(buffer);
    let buffer = open(dir.path());
    assert_eq!(buffer.first_waiting(), Some(first));
    assert_eq!(contents(&buffer), [(1, 10), (2, 20), (3, 30)]);
    put(&buffer, &[40]).unwrap();
    assert_eq!(contents(&buffer)[3], (4, 40));
    assert_eq!(buffer.facts().unwrap().len(), 4);
}

#[test]
fn acked_batches_are_gone_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    put(&buffer, &[1, 2, 3]).unwrap();
    let stream = buffer.first_waiting().unwrap().stream;
    buffer.ack(StreamSeq { stream, seq: 2 }).unwrap();
    buffer.ack(StreamSeq { stream: stream ^ 1, seq: 3 }).unwrap();
    buffer.ack(StreamSeq { stream, seq: 99 }).unwrap();
    assert_eq!(contents(&buffer), [(3, 3)]);
    drop(buffer);
    let buffer = open(dir.path());
    assert_eq!(contents(&buffer), [(3, 3)]);
    buffer.ack(StreamSeq { stream, seq: 3 }).unwrap();
    assert_eq!(buffer.used_bytes(), 0);
    drop(buffer);
    let buffer = open(dir.path());
    assert_eq!(contents(&buffer), []);
    put(&buffer, &[4]).unwrap();
    let first = buffer.first_waiting().unwrap();
    assert_eq!((first.stream, first.seq), (stream, 4));
}

#[test]
fn segments_are_cut_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1000, ..Options::default() };
    let buffer = Buffer::open(dir.path(), options).unwrap();
    for n in 1..=100 {
        put(&buffer, &[n]).unwrap();
    }
    let files = || fs::read_dir(dir.path()).unwrap().count();
    assert!(files() > 5);
    let stream = buffer.first_waiting().unwrap().stream;
    buffer.ack(StreamSeq { stream, seq: 99 }).unwrap();
    assert_eq!(files(), 2, "the last segment and the mark");
    drop(buffer);
    assert_eq!(contents(&open(dir.path())), [(100, 100)]);
}

#[test]
fn a_full_buffer_takes_nothing_but_word_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { quota_bytes: 1000, reserve_bytes: 500, ..Options::default() };
    let buffer = Buffer::open(dir.path(), options).unwrap();
    put(&buffer, &[1, 2, 3]).unwrap();
    let before = contents(&buffer);
    let many: Vec<u64> = (0..100).collect();
    let error = put(&buffer, &many).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(contents(&buffer), before);
    let word = buffer.append(Room::Reserve, |group| group.push(vec![end(4, "buffer full")]));
    assert!(word.is_ok());
    assert_eq!(contents(&buffer).last(), Some(&(4, 4)));
}

#[test]
fn a_group_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    put(&buffer, &[1]).unwrap();
    let failed: Result<(), Error> = buffer.append(Room::Quota, |group| {
        group.push(vec![end(2, "")])?;
        group.push(vec![end(3, "")])?;
        Err(Error::Full { used: 0, quota: 0 })
    });
    assert!(failed.is_err());
    put(&buffer, &[4]).unwrap();
    assert_eq!(contents(&buffer), [(1, 1), (2, 4)]);
    drop(buffer);
    assert_eq!(contents(&open(dir.path())), [(1, 1), (2, 4)]);
}

#[test]
fn another_stream_begins_after_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    put(&buffer, &[1, 2]).unwrap();
    let stream = buffer.first_waiting().unwrap().stream;
    buffer.reset().unwrap();
    assert_eq!(contents(&buffer), []);
    put(&buffer, &[3]).unwrap();
    drop(buffer);
    let buffer = open(dir.path());
    assert_eq!(contents(&buffer), [(1, 3)]);
    assert_ne!(buffer.first_waiting().unwrap().stream, stream);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The file may end anywhere, and behind its end may be anything: whole groups stay, in order,
    /// none appears by halves, and the buffer goes on.
    #[test]
    fn a_torn_tail_takes_whole_groups_with_it(
        groups in proptest::collection::vec(1usize..4, 1..8),
        cut in 0.0f64..1.0,
        junk in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let buffer = open(dir.path());
        let path = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "batches")).unwrap();
        let (mut n, mut ends) = (0u64, vec![(fs::metadata(&path).unwrap().len(), 0u64)]);
        for size in &groups {
            let numbers: Vec<u64> = (0..*size).map(|at| n + at as u64).collect();
            put(&buffer, &numbers).unwrap();
            n += *size as u64;
            ends.push((fs::metadata(&path).unwrap().len(), n));
        }
        drop(buffer);
        let whole = fs::read(&path).unwrap();
        let header = ends[0].0 as usize;
        let keep = header + ((whole.len() - header) as f64 * cut) as usize;
        let mut bytes = whole[..keep].to_vec();
        bytes.extend(&junk);
        fs::write(&path, &bytes).unwrap();

        // Junk may begin with what was cut off.
        let same = whole.iter().zip(&bytes).take_while(|(was, is)| was == is).count() as u64;
        let expected = ends.iter().rev().find(|(end, _)| *end <= same).unwrap().1;
        let buffer = open(dir.path());
        prop_assert_eq!(contents(&buffer).len() as u64, expected);
        put(&buffer, &[1000]).unwrap();
        drop(buffer);
        let found = contents(&open(dir.path()));
        prop_assert_eq!(found.last(), Some(&(expected + 1, 1000)));
        prop_assert!(found.iter().enumerate().all(|(at, (seq, _))| *seq == at as u64 + 1));
    }
}
