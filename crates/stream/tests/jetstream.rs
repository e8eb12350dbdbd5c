//! The stream on real NATS servers keeps the contract, and survives what happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use muster_nats::Options;
use muster_stream::conformance::{self, Harness, content, read_all, record};
use muster_stream::jetstream::{Begin, JetStream, JetStreamOptions, OpenError, stream_names};
use muster_stream::{AppendError, ReadError, Reader, Stream};
use muster_testkit::{Nats, NatsOptions};
use muster_types::{Pos, Record, Shard};
use parking_lot::Mutex;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(40);

fn options(nats: &Nats, prefix: &str, quota_bytes: u64) -> JetStreamOptions {
    let connection = Options::new(nats.url(), "test");
    let replicas = nats.node_count();
    JetStreamOptions {
        prefix: prefix.to_owned(),
        replicas,
        ..JetStreamOptions::new(connection, quota_bytes)
    }
}

async fn open(nats: &Nats, prefix: &str) -> Arc<JetStream> {
    JetStream::open(options(nats, prefix, 1 << 30)).await.unwrap()
}

/// Each stream under a prefix of its own; a reopened one under the same.
struct Streams {
    nats: Nats,
    next: AtomicU32,
    open: Mutex<Vec<(usize, Arc<JetStream>, JetStreamOptions)>>,
}

impl Streams {
    async fn add(&self, options: JetStreamOptions) -> Arc<dyn Stream> {
        let stream = JetStream::open(options.clone()).await.expect("a stream");
        self.open.lock().push((Arc::as_ptr(&stream) as usize, stream.clone(), options));
        stream
    }
}

#[async_trait]
impl Harness for Streams {
    async fn open(&self, quota_bytes: u64) -> Arc<dyn Stream> {
        let prefix = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.add(options(&self.nats, &prefix, quota_bytes)).await
    }

    async fn reopen(&self, stream: Arc<dyn Stream>) -> Arc<dyn Stream> {
        let address = Arc::as_ptr(&stream).cast::<u8>() as usize;
        let (_, stream, options) = {
            let mut open = self.open.lock();
            let index = open.iter().position(|(of, ..)| *of == address).expect("one of ours");
            open.swap_remove(index)
        };
        stream.close().await;
        self.add(options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let nats = Nats::start().unwrap();
    let streams = Streams { nats, next: AtomicU32::new(0), open: Mutex::default() };
    conformance::all(&streams).await;
}

/// Appends until it works, as an agent does.
async fn insist(stream: &JetStream, records: &[Record]) -> Vec<Pos> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match stream.append(records.to_vec()).await {
            Ok(positions) => return positions,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A reader, as soon as there is one.
async fn insist_reading(stream: &JetStream, after: Vec<(Shard, Pos)>) -> Box<dyn Reader> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match stream.reader(after.clone()).await {
            Ok(reader) => return reader,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_death_of_a_server() {
    let mut nats = Nats::start().unwrap();
    let stream = open(&nats, "m").await;
    let mut waiting = stream.reader(vec![(shard(1), Pos(0))]).await.unwrap();
    let first = stream.append(vec![record(1, "before")]).await.unwrap();
    nats.kill(0).unwrap();
    let begun = Instant::now();
    let refused = stream.append(vec![record(1, "while away")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "refused after {:?}", begun.elapsed());
    assert!(stream.problem().is_some());
    assert!(matches!(
        stream.reader(vec![(shard(1), Pos(0))]).await,
        Err(ReadError::Unavailable(_))
    ));
    nats.restart(0).unwrap();
    let second = insist(&stream, &[record(1, "after")]).await;
    assert!(second > first);
    // A reader from before the outage goes on where it was.
    let mut read = Vec::new();
    while read.last().is_none_or(|last| last != "after") {
        let more = tokio::time::timeout(DEADLINE, waiting.next(1 << 20)).await.unwrap().unwrap();
        read.extend(more.iter().map(content));
    }
    assert_eq!(read.first().map(|bytes| &bytes[..]), Some(&b"before"[..]));
    assert_eq!(stream.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_loses_and_reorders_nothing() {
    const APPENDERS: u32 = 6;
    const APPENDS: u32 = 60;
    let mut nats = Nats::cluster().unwrap();
    let stream = open(&nats, "m").await;
    let count = Arc::new(AtomicU32::new(0));
    let mut appenders = JoinSet::new();
    for agent in 0..APPENDERS {
        let (stream, count) = (stream.clone(), count.clone());
        appenders.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..APPENDS {
                let records = [record(agent * 11, &format!("{n:03}"))];
                acknowledged.extend(insist(&stream, &records).await);
                count.fetch_add(1, Ordering::Relaxed);
            }
            (agent * 11, acknowledged)
        });
    }
    for node in 0..3 {
        let upto = APPENDERS * APPENDS * (node + 1) / 5;
        wait(|| count.load(Ordering::Relaxed) >= upto).await;
        nats.kill(node as usize).unwrap();
        nats.restart(node as usize).unwrap();
        nats.wait_ready().unwrap();
    }
    let mut acknowledged = std::collections::BTreeMap::new();
    while let Some(done) = appenders.join_next().await {
        let (agent, positions) = done.unwrap();
        assert!(positions.is_sorted_by(|a, b| a < b));
        acknowledged.insert(agent, positions);
    }
    // Another instance reads what is there.
    let other = open(&nats, "m").await;
    let from_start = Shard::all().map(|shard| (shard, Pos(0))).collect();
    let mut reader = insist_reading(&other, from_start).await;
    let mut last = std::collections::BTreeMap::new();
    let mut found = std::collections::BTreeMap::new();
    while found.len() < (APPENDERS * APPENDS) as usize {
        let entries = tokio::time::timeout(DEADLINE, reader.next(1 << 20)).await.unwrap().unwrap();
        for entry in entries {
            let agent = entry.record.agent.0;
            let number: u32 = std::str::from_utf8(&content(&entry)).unwrap().parse().unwrap();
            // What was refused may have been stored: then its repeat stands right behind it.
            let before: u32 = last.insert(agent, number).unwrap_or(0);
            assert!(
                number == before || number == before + 1,
                "agent {agent}: {number} after {before}"
            );
            found.entry((agent, number)).or_insert_with(Vec::new).push(entry.pos);
        }
    }
    for (agent, positions) in acknowledged {
        for (number, pos) in positions.iter().enumerate() {
            let at = &found[&(agent, u32::try_from(number).unwrap())];
            assert!(at.contains(pos), "{pos} of agent {agent} was acknowledged; found at {at:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_delays_an_append_for_less_than_five_seconds() {
    let nats = Nats::start().unwrap();
    let stream = open(&nats, "m").await;
    insist(&stream, &[record(1, "x")]).await;
    nats.pause(0).unwrap();
    let begun = Instant::now();
    let refused = stream.append(vec![record(1, "y")]).await;
    let took = begun.elapsed();
    nats.resume(0).unwrap();
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    println!("refused after {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    insist(&stream, &[record(1, "z")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_is_left_for_another() {
    let nats = Nats::cluster().unwrap();
    let stream = open(&nats, "m").await;
    let first = insist(&stream, &[record(1, "x")]).await;
    let name = stream.connection().client().server_info().server_name;
    let node = (0..3).find(|node| nats.name(*node) == name).unwrap();
    nats.pause(node).unwrap();
    let begun = Instant::now();
    let second = insist(&stream, &[record(1, "y")]).await;
    println!("went on after {:?}", begun.elapsed());
    assert!(second > first);
    assert_ne!(stream.connection().client().server_info().server_name, name);
    nats.resume(node).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_opens_and_refuses_until_there_is_one() {
    let mut nats = Nats::start().unwrap();
    nats.stop(0).unwrap();
    let mut options = options(&nats, "m", 1 << 30);
    options.connection.first_wait = Duration::from_millis(100);
    let stream = JetStream::open(options).await.unwrap();
    let refused = stream.append(vec![record(1, "x")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    nats.restart(0).unwrap();
    insist(&stream, &[record(1, "x")]).await;
    assert_eq!(read_all(&*stream, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_fit_is_refused_with_what_to_do() {
    let said = async |nats: &Nats, change: fn(&mut JetStreamOptions)| {
        let mut options = options(nats, "m", 1 << 30);
        change(&mut options);
        match JetStream::open(options).await {
            Err(error @ OpenError::Unfit(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let plain = Nats::with(&NatsOptions { jetstream: false, ..NatsOptions::default() }).unwrap();
    let off = said(&plain, |_| {}).await;
    assert!(off.contains("JetStream is not enabled"), "{off}");
    let small = NatsOptions { extra: "max_payload: 64KB".to_owned(), ..NatsOptions::default() };
    let small = said(&Nats::with(&small).unwrap(), |_| {}).await;
    assert!(small.contains("max_payload"), "{small}");
    let nats = Nats::start().unwrap();
    let single = said(&nats, |options| options.replicas = 3).await;
    assert!(single.contains("nats.replicas: 1"), "{single}");
    let tight = NatsOptions { store_bytes: 100 << 20, ..NatsOptions::default() };
    let tight = said(&Nats::with(&tight).unwrap(), |_| {}).await;
    assert!(tight.contains("max_file_store"), "{tight}");
    let prefix = said(&nats, |options| options.prefix = "a.b".to_owned()).await;
    assert!(prefix.contains("subject_prefix"), "{prefix}");
    // A stream that somebody changed so that it loses records.
    drop(open(&nats, "m").await);
    let client = async_nats::connect(nats.url_of(0)).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let name = &stream_names("m")[3];
    let mut config = context.get_stream(name).await.unwrap().cached_info().config.clone();
    config.max_age = Duration::from_secs(3600);
    context.update_stream(config).await.unwrap();
    let aged = said(&nats, |_| {}).await;
    assert!(aged.contains("by age") && aged.contains(name.as_str()), "{aged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_is_not_mistaken_for_the_old_one() {
    let nats = Nats::start().unwrap();
    let stream = open(&nats, "m").await;
    for n in 0..20 {
        stream.append(vec![record(1, &n.to_string())]).await.unwrap();
    }
    let last = stream.append(vec![record(1, "last")]).await.unwrap()[0];
    stream.close().await;
    let client = async_nats::connect(nats.url_of(0)).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.delete_stream(&stream_names("m")[0]).await.unwrap();
    let stream = open(&nats, "m").await;
    stream.append(vec![record(1, "new")]).await.unwrap();
    let error = stream.reader(vec![(shard(1), last)]).await.err().unwrap().to_string();
    assert!(error.contains("made anew"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_held_to_the_documented_subjects_can_do_everything() {
    let extra = "authorization { users: [{ user: muster, password: secret, permissions: {\n\
         publish: [\"m.>\", \"$JS.API.>\", \"_INBOX.>\"], subscribe: [\"m.>\", \"_INBOX.>\"] } }] }";
    let nats =
        Nats::with(&NatsOptions { extra: extra.to_owned(), ..NatsOptions::default() }).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret").unwrap();
    let mut options = options(&nats, "m", 1 << 30);
    options.connection.user = Some("muster".to_owned());
    options.connection.password_file = Some(password.path().to_owned());
    let stream = JetStream::open(options.clone()).await.unwrap();
    let first = stream.append(vec![record(1, "a")]).await.unwrap()[0];
    let last = stream.append(vec![record(1, "b")]).await.unwrap()[0];
    assert_eq!(read_all(&*stream, 2).await.len(), 2);
    stream.trim(shard(1), last).await;
    stream.close().await;
    let stream = JetStream::open(options).await.unwrap();
    let trimmed = stream.reader(vec![(shard(1), first)]).await;
    assert!(matches!(trimmed, Err(ReadError::TrimmedBelow { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_new_streams_begin_above_what_was_read() {
    let nats = Nats::start().unwrap();
    let read = Pos(1_234_567_890_123);
    let begin = Begin::Above { floor: Pos(read.0 + 5), shards: vec![(shard(1), read)] };
    let options = JetStreamOptions { begin, ..options(&nats, "m", 1 << 30) };
    let stream = JetStream::open(options).await.unwrap();
    let new = stream.append(vec![record(1, "new"), record(2, "new")]).await.unwrap();
    assert!(new.iter().all(|pos| pos.0 > read.0 + 5));
    let mut reader = stream.reader(vec![(shard(1), read), (shard(2), Pos(0))]).await.unwrap();
    assert_eq!(conformance::read(&mut *reader, 2).await.len(), 2);
    // Who had read less than was read lacks something, and so does who had read more.
    for after in [Pos(0), Pos(read.0 - (1 << 20)), Pos(read.0 + (1 << 16))] {
        let refused = stream.reader(vec![(shard(1), after)]).await;
        assert!(matches!(refused, Err(ReadError::TrimmedBelow { .. })), "{after}");
    }
    stream.close().await;
    let refused = Begin::Refused("bring it back".to_owned());
    let options = JetStreamOptions { begin: refused, ..self::options(&nats, "n", 1 << 30) };
    let refused = JetStream::open(options).await.err().unwrap().to_string();
    assert!(refused.contains("bring it back"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_appends_share_messages_and_large_records_travel() {
    let nats = Nats::start().unwrap();
    let stream = open(&nats, "m").await;
    let mut appenders = JoinSet::new();
    for agent in 0..64u32 {
        let stream = stream.clone();
        appenders.spawn(async move {
            for n in 0..5 {
                stream.append(vec![record(agent * 64, &n.to_string())]).await.unwrap();
            }
        });
    }
    while let Some(done) = appenders.join_next().await {
        done.unwrap();
    }
    let messages = stream.metrics().messages.load(Ordering::Relaxed);
    println!("320 appends of one shard in {messages} messages");
    assert!(messages < 320);
    // 512 KiB is the most a record holds, and more than a call may send at once.
    let large = "x".repeat(512 << 10);
    let records: Vec<Record> = (0..5).map(|_| record(7, &large)).collect();
    let positions = stream.append(records).await.unwrap();
    assert!(positions.is_sorted_by(|a, b| a < b));
    let too_large = stream.append(vec![record(7, &"x".repeat(2 << 20))]).await;
    assert!(matches!(too_large, Err(AppendError::Unavailable(_))));
    assert_eq!(read_all(&*stream, 325).await.len(), 325);
}

async fn wait(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn shard(n: u8) -> Shard {
    Shard::new(n).unwrap()
}
