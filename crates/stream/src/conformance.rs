//! What every stream must do, as test functions. They panic on a breach.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_types::{
    AgentKind, AgentNo, Body, Class, OrgId, Payload, Pos, Record, SHARDS, Shard, Timestamp,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{AppendError, Entry, Pressure, ReadError, Reader, Stream};

const DEADLINE: Duration = Duration::from_secs(20);

/// Makes the streams that are tested.
#[async_trait]
pub trait Harness: Send + Sync {
    /// An empty stream of its own with room for about `quota_bytes`.
    async fn open(&self, quota_bytes: u64) -> Arc<dyn Stream>;

    /// Closes the stream and opens the same again, as a restart of the process does.
    async fn reopen(&self, stream: Arc<dyn Stream>) -> Arc<dyn Stream>;
}

const ROOMY: u64 = 1 << 30;

/// Runs all of them.
pub async fn all(harness: &dyn Harness) {
    keeps_what_it_acknowledged(harness).await;
    keeps_the_order_of_each_shard(harness.open(ROOMY).await).await;
    reads_from_the_middle(harness.open(ROOMY).await).await;
    readers_do_not_disturb_each_other(harness.open(ROOMY).await).await;
    survives_cancelled_reads(harness.open(ROOMY).await).await;
    trims(harness).await;
    refuses_by_class_when_full(harness.open(1 << 20).await).await;
}

/// What was acknowledged is there after a restart, once and in order, and positions go on rising.
pub async fn keeps_what_it_acknowledged(harness: &dyn Harness) {
    let stream = harness.open(ROOMY).await;
    assert_eq!(stream.append(Vec::new()).await.expect("nothing is no error"), []);
    let mut acknowledged = Vec::new();
    for round in 0..3u32 {
        let records: Vec<Record> = (0..70).map(|n| record(n, &format!("{round}/{n}"))).collect();
        let positions = stream.append(records.clone()).await.expect("an append");
        acknowledged.extend(entries(positions, records));
    }
    let stream = harness.reopen(stream).await;
    let records = vec![record(0, "after the restart")];
    let positions = stream.append(records.clone()).await.expect("an append after a restart");
    acknowledged.extend(entries(positions, records));
    let acknowledged = by_shard(acknowledged);
    for entries in acknowledged.values() {
        assert!(entries.is_sorted_by(|a, b| a.pos < b.pos), "one appender, rising positions");
    }
    let count = acknowledged.values().map(Vec::len).sum();
    assert_eq!(by_shard(read_all(&*stream, count).await), acknowledged);
}

/// Many appenders at once: each one's records stay in its order within their shard.
pub async fn keeps_the_order_of_each_shard(stream: Arc<dyn Stream>) {
    const APPENDERS: u32 = 8;
    const APPENDS: u32 = 25;
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let stream = stream.clone();
        appenders.spawn(async move {
            for n in 0..APPENDS {
                // Two shards, each shared by all appenders; two records of each per append.
                let records = [0, 1, 0, 1].map(|shard| {
                    record(shard + u32::from(SHARDS) * appender, &format!("{appender}/{n:03}"))
                });
                stream.append(records.to_vec()).await.expect("an append");
            }
        });
    }
    while let Some(done) = appenders.join_next().await {
        done.expect("an appender");
    }
    let all = read_all(&*stream, (APPENDERS * APPENDS * 4) as usize).await;
    let mut by_agent: BTreeMap<AgentNo, Vec<Bytes>> = BTreeMap::new();
    let mut last = [Pos(0); SHARDS as usize];
    for entry in all {
        let last = &mut last[entry.record.shard().index()];
        assert!(*last < entry.pos, "positions of a shard rise");
        *last = entry.pos;
        by_agent.entry(entry.record.agent).or_default().push(content(&entry));
    }
    assert_eq!(by_agent.len(), APPENDERS as usize * 2);
    for contents in by_agent.values() {
        assert_eq!(contents.len(), APPENDS as usize * 2);
        assert!(contents.is_sorted(), "{contents:?}");
    }
}

/// Each shard is read from its own place, and nothing of other shards comes along.
pub async fn reads_from_the_middle(stream: Arc<dyn Stream>) {
    let records: Vec<Record> = (0..40).map(|n| record(n % 4, &format!("{n:02}"))).collect();
    let positions = stream.append(records.clone()).await.expect("an append");
    let all = entries(positions, records);
    let after = vec![(shard(1), all[1].pos), (shard(2), all[30].pos), (shard(3), Pos(0))];
    let expected: Vec<Entry> = all
        .iter()
        .filter(|entry| {
            let from = after.iter().find(|(shard, _)| *shard == entry.record.shard());
            from.is_some_and(|(_, after)| entry.pos > *after)
        })
        .cloned()
        .collect();
    let mut reader = stream.reader(after).await.expect("a reader");
    assert_eq!(by_shard(read(&mut *reader, expected.len()).await), by_shard(expected));
}

/// Several readers, one of them waiting, in small and in large steps.
pub async fn readers_do_not_disturb_each_other(stream: Arc<dyn Stream>) {
    let from_start = || Shard::all().map(|shard| (shard, Pos(0))).collect::<Vec<_>>();
    let mut waiting = stream.reader(from_start()).await.expect("a reader");
    let waits = tokio::spawn(async move { read(&mut *waiting, 100).await });
    let mut all = Vec::new();
    for n in 0..10 {
        let records: Vec<Record> = (0..10).map(|m| record(m, &format!("{n}/{m}"))).collect();
        let positions = stream.append(records.clone()).await.expect("an append");
        all.extend(entries(positions, records));
    }
    let mut small = stream.reader(from_start()).await.expect("a reader");
    let mut one_by_one = Vec::new();
    for _ in 0..all.len() {
        let one = timeout(DEADLINE, small.next(1)).await.expect("in time").expect("a read");
        assert_eq!(one.len(), 1, "at least one, and not more than asked for");
        one_by_one.extend(one);
    }
    let all = by_shard(all);
    assert_eq!(by_shard(one_by_one), all);
    assert_eq!(by_shard(waits.await.expect("the waiting reader")), all);
    assert_eq!(by_shard(read_all(&*stream, 100).await), all);
}

/// A dropped read loses nothing.
pub async fn survives_cancelled_reads(stream: Arc<dyn Stream>) {
    let mut reader = stream.reader(vec![(shard(5), Pos(0))]).await.expect("a reader");
    for n in 0..5 {
        // The call finds nothing and is dropped while it waits.
        assert!(timeout(Duration::from_millis(1), reader.next(1 << 20)).await.is_err());
        let records = vec![record(4, "other"), record(5, &n.to_string())];
        let positions = stream.append(records.clone()).await.expect("an append");
        let expected = Entry { pos: positions[1], record: records[1].clone() };
        assert_eq!(read(&mut *reader, 1).await, [expected]);
    }
}

/// What is trimmed is an error to ask for, before and after a restart, and never comes back; the
/// other shards keep theirs.
pub async fn trims(harness: &dyn Harness) {
    let stream = harness.open(ROOMY).await;
    let mut positions = Vec::new();
    // One by one: what was appended at once may also be forgotten at once, when all of it is trimmed.
    for n in 0..20 {
        let records = vec![record(n % 2, &n.to_string())];
        positions.extend(stream.append(records).await.expect("an append"));
    }
    let upto = positions[10];
    let mut behind = stream.reader(vec![(shard(0), Pos(0))]).await.expect("a reader");
    stream.trim(shard(0), upto).await;
    stream.trim(shard(0), positions[2]).await;
    // A shard that never had a record cannot be trimmed below anything.
    stream.trim(shard(9), Pos(u64::MAX)).await;
    refuses_trimmed(behind.next(1).await.err().as_ref());
    let stream = harness.reopen(stream).await;
    for after in [Pos(0), positions[8]] {
        refuses_trimmed(stream.reader(vec![(shard(0), after)]).await.err().as_ref());
    }
    let after = vec![(shard(0), upto), (shard(1), Pos(0)), (shard(9), Pos(0))];
    let mut reader = stream.reader(after).await.expect("a reader of what is kept");
    let expected = (0..20).filter(|n| n % 2 == 1 || *n > 10).map(|n| positions[n]).collect();
    assert_eq!(sorted_positions(read(&mut *reader, 14).await), sorted(expected));
    let all = [0, 1].map(|n| stream.trim(shard(n), Pos(u64::MAX)));
    futures_util::future::join_all(all).await;
    let stream = harness.reopen(stream).await;
    let fresh = stream.append(vec![record(0, "x"), record(9, "y")]).await.expect("an append");
    assert!(fresh[0] > positions[18], "a position is never used again");
    let after = vec![(shard(0), positions[18]), (shard(9), Pos(0))];
    let mut reader = stream.reader(after).await.expect("a reader of what is new");
    assert_eq!(sorted_positions(read(&mut *reader, 2).await), sorted(fresh));
}

fn sorted(mut positions: Vec<Pos>) -> Vec<Pos> {
    positions.sort();
    positions
}

fn sorted_positions(entries: Vec<Entry>) -> Vec<Pos> {
    sorted(entries.into_iter().map(|entry| entry.pos).collect())
}

/// There is an order within a shard only.
fn by_shard(entries: Vec<Entry>) -> BTreeMap<Shard, Vec<Entry>> {
    let mut shards: BTreeMap<Shard, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        shards.entry(entry.record.shard()).or_default().push(entry);
    }
    shards
}

fn refuses_trimmed(error: Option<&ReadError>) {
    assert!(matches!(error, Some(ReadError::TrimmedBelow { .. })), "{error:?}");
}

/// Less precious classes are refused first, pressure says so, and trimming heals it. Takes a
/// stream with a quota of 1 MiB.
pub async fn refuses_by_class_when_full(stream: Arc<dyn Stream>) {
    let mut pressure = stream.pressure();
    let mut last = Pos(0);
    let mut written = Vec::new();
    for class in [Class::Status, Class::Scheduled, Class::Collected, Class::LifeCycle] {
        let mut bytes = 0u64;
        loop {
            let mut record = record(3, &"x".repeat(8 << 10));
            record.class = class;
            match stream.append(vec![record]).await {
                Ok(positions) => last = positions[0],
                Err(AppendError::Full { retry_after }) => {
                    assert!(retry_after > Duration::ZERO);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            bytes += 8 << 10;
            assert!(bytes <= 1 << 20, "{class:?} is over the whole quota");
        }
        written.push(bytes);
        let total: u64 = written.iter().sum();
        let stops = class <= Class::Collected;
        let told = |p: &Pressure| p.used_bytes >= total && (p.stopped || !stops);
        let seen = wait_for(&mut pressure, told).await;
        // What is used may be an estimate: a sum of what was told and what was sent since.
        let most = (1 << 20) + (1 << 17);
        assert!(seen.quota_bytes == 1 << 20 && seen.used_bytes <= most, "{seen:?}");
    }
    assert!(written.iter().all(|bytes| *bytes > 0), "each class has room of its own: {written:?}");
    stream.trim(shard(3), last).await;
    wait_for(&mut pressure, |p| !p.stopped && p.used_bytes < 1 << 19).await;
    let again = stream.append(vec![record(3, "there is room again")]).await;
    assert!(again.is_ok_and(|positions| positions[0] > last));
}

/// A small record of `agent` with this content.
#[must_use]
pub fn record(agent: u32, content: &str) -> Record {
    Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(agent),
        kind: AgentKind::Native,
        class: Class::Collected,
        received_at: Timestamp(1_700_000_000_000_000),
        body: Body::Wire(Payload::Inline(Bytes::copy_from_slice(content.as_bytes()))),
    }
}

/// The content of a record made by [`record`].
#[must_use]
pub fn content(entry: &Entry) -> Bytes {
    match &entry.record.body {
        Body::Wire(Payload::Inline(bytes)) => bytes.clone(),
        body => panic!("not a record of this suite: {body:?}"),
    }
}

/// The next `count` records of a reader; no more may come with them.
pub async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = timeout(DEADLINE, reader.next(64 << 10)).await.expect("records in time");
        let more = more.expect("a read");
        assert!(!more.is_empty());
        all.extend(more);
    }
    assert_eq!(all.len(), count);
    all
}

/// The first `count` records of the whole stream.
pub async fn read_all(stream: &dyn Stream, count: usize) -> Vec<Entry> {
    let from_start = Shard::all().map(|shard| (shard, Pos(0))).collect();
    let mut reader = stream.reader(from_start).await.expect("a reader from the start");
    read(&mut *reader, count).await
}

async fn wait_for(
    pressure: &mut tokio::sync::watch::Receiver<Pressure>,
    holds: impl FnMut(&Pressure) -> bool,
) -> Pressure {
    let found = timeout(DEADLINE, pressure.wait_for(holds)).await;
    *found.expect("pressure changes in time").expect("the stream lives")
}

fn entries(positions: Vec<Pos>, records: Vec<Record>) -> Vec<Entry> {
    assert_eq!(positions.len(), records.len());
    positions.into_iter().zip(records).map(|(pos, record)| Entry { pos, record }).collect()
}

fn shard(n: u8) -> Shard {
    Shard::new(n).expect("a shard of this suite")
}
