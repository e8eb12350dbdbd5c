//! A connection to NATS that is cut in silence: what was refused meanwhile must not come after what
//! was stored instead of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_nats::Options;
use muster_stream::conformance::{content, record};
use muster_stream::jetstream::{JetStream, JetStreamOptions};
use muster_stream::{AppendError, Stream};
use muster_testkit::Nats;
use muster_types::{Pos, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way to a server that can be cut: then nothing passes, no connection ends, and what is sent
/// arrives when the cut heals.
struct Way {
    url: String,
    cut: watch::Sender<bool>,
}

impl Way {
    async fn to(nats: &Nats) -> Self {
        // The first server, where there are several.
        let url = nats.url();
        let server = url.trim_start_matches("nats://").split(',').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let cut = watch::Sender::new(false);
        let state = cut.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let ((from, to), (back_from, back_to)) = (client.into_split(), server.into_split());
                tokio::spawn(carry(from, back_to, state.clone()));
                tokio::spawn(carry(back_from, to, state.clone()));
            }
        });
        Self { url, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

/// Also what is on its way when the sender closes arrives, as the kernel sees to.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || n == 0 {
            return;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn open(url: &str, nats: &Nats) -> Arc<JetStream> {
    let options = JetStreamOptions::new(Options::new(url, "test"), 1 << 30);
    let replicas = nats.node_count();
    JetStream::open(JetStreamOptions { replicas, ..options }).await.unwrap()
}

/// All there is, and it is so many.
async fn contents(stream: &JetStream, count: usize) -> Vec<String> {
    contents_but(stream, count, &BTreeSet::new()).await
}

/// The same without repeats of those whose first append was refused: it may have been stored all the same,
/// when the servers were slow to say so.
async fn contents_but(stream: &JetStream, count: usize, refused: &BTreeSet<String>) -> Vec<String> {
    let is_repeat = |all: &[String], text: &String| refused.contains(text) && all.contains(text);
    contents_without(stream, count, is_repeat).await
}

async fn contents_without(
    stream: &JetStream,
    count: usize,
    is_repeat: impl Fn(&[String], &String) -> bool,
) -> Vec<String> {
    let shard = record(1, "").shard();
    let mut reader = stream.reader(vec![(shard, Pos(0))]).await.unwrap();
    let mut all: Vec<String> = Vec::new();
    loop {
        let wait = if all.len() < count { 30_000 } else { 500 };
        let next = tokio::time::timeout(Duration::from_millis(wait), reader.next(1 << 20));
        let Ok(more) = next.await else { break };
        let text = |entry| String::from_utf8_lossy(&content(entry)).into_owned();
        for text in more.unwrap().iter().map(text) {
            if !is_repeat(&all, &text) {
                all.push(text);
            }
        }
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_held_back_is_not_stored_after_what_came_instead() {
    is_not_stored_after(&Nats::start().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_in_a_cluster() {
    is_not_stored_after(&Nats::cluster().unwrap()).await;
}

async fn is_not_stored_after(nats: &Nats) {
    let way = Way::to(nats).await;
    let (cut_off, other) = (open(&way.url, nats).await, open(&nats.url(), nats).await);
    let mut twice = BTreeSet::new();
    let mut note = |text: &str, refused: bool| _ = refused.then(|| twice.insert(text.to_owned()));
    note("before", insist(&cut_off, "before").await);
    way.cut(true);
    let refused = cut_off.append(vec![record(1, "lines")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    // The agent goes elsewhere, twice.
    note("lines", insist(&other, "lines").await);
    note("more", insist(&other, "more").await);
    way.cut(false);
    // Once this one can append again all that was held back has arrived.
    note("after", insist(&cut_off, "after").await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What was insisted on may stand twice, and nothing between.
    let is_repeat =
        |all: &[String], text: &String| twice.contains(text) && all.last() == Some(text);
    let read = contents_without(&other, 4, is_repeat).await;
    assert_eq!(read, ["before", "lines", "more", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_held_back_may_be_stored_when_nothing_came_instead() {
    let nats = Nats::start().unwrap();
    let way = Way::to(&nats).await;
    let (cut_off, other) = (open(&way.url, &nats).await, open(&nats.url(), &nats).await);
    cut_off.append(vec![record(1, "before")]).await.unwrap();
    way.cut(true);
    cut_off.append(vec![record(1, "lines")]).await.unwrap_err();
    way.cut(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // It was: the test above would not tell a cut that loses everything.
    assert_eq!(contents(&other, 2).await, ["before", "lines"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_write_to_one_shard_get_along() {
    get_along(&Nats::start().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_write_to_one_shard_of_a_cluster_get_along() {
    get_along(&Nats::cluster().unwrap()).await;
}

/// Appends until it works, as an agent does: a new cluster may still choose its leaders. Whether it was
/// refused before.
async fn insist(stream: &JetStream, text: &str) -> bool {
    insist_all(stream, vec![record(1, text)]).await
}

async fn insist_all(stream: &JetStream, records: Vec<Record>) -> bool {
    let begun = tokio::time::Instant::now();
    let mut refused = false;
    while let Err(error) = stream.append(records.clone()).await {
        assert!(begun.elapsed() < Duration::from_secs(40), "{error}");
        refused = true;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused
}

/// What several instances append to one shard in several lines each, every append in two messages, comes in
/// the order of each line and once.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_rivals_keep_their_order_though_messages_meet() {
    const EACH: usize = 12;
    const PARTS: usize = 3;
    let nats = Nats::start().unwrap();
    let url = nats.url();
    let streams = [open(&url, &nats).await, open(&url, &nats).await, open(&url, &nats).await];
    let filling = "x".repeat(100 << 10);
    let lines = (0..9).map(|line| {
        let (stream, filling) = (&streams[line % 3], &filling);
        async move {
            let mut refused = BTreeSet::new();
            for number in 0..EACH {
                let texts: Vec<String> =
                    (0..PARTS).map(|part| format!("{line} {number:02} {part} {filling}")).collect();
                let records = texts.iter().map(|text| record(1, text)).collect();
                if insist_all(stream, records).await {
                    refused.extend(texts);
                }
            }
            refused
        }
    });
    let refused: BTreeSet<String> =
        futures_util::future::join_all(lines).await.into_iter().flatten().collect();
    let read = contents_but(&streams[0], 9 * EACH * PARTS, &refused).await;
    for line in 0..9 {
        let own: Vec<&String> =
            read.iter().filter(|text| text.starts_with(&format!("{line} "))).collect();
        assert_eq!(own.len(), EACH * PARTS);
        assert!(own.is_sorted(), "line {line}");
    }
    let conflicts = streams.iter().map(|stream| conflicts(stream)).sum::<u64>();
    println!("{conflicts} messages met another, {} records were refused first", refused.len());
    assert!(conflicts > 0);
}

fn conflicts(stream: &JetStream) -> u64 {
    stream.metrics().conflicts.load(std::sync::atomic::Ordering::Relaxed)
}

async fn get_along(nats: &Nats) {
    const EACH: usize = 100;
    let url = nats.url();
    let streams = [open(&url, nats).await, open(&url, nats).await, open(&url, nats).await];
    let writers = streams.iter().enumerate().map(|(writer, stream)| async move {
        let mut refused = BTreeSet::new();
        for number in 0..EACH {
            let text = format!("{writer} {number:03}");
            if insist(stream, &text).await {
                refused.insert(text);
            }
        }
        refused
    });
    let refused = futures_util::future::join_all(writers).await.into_iter().flatten().collect();
    let read = contents_but(&streams[0], EACH * streams.len(), &refused).await;
    for writer in 0..streams.len() {
        let own: Vec<&String> =
            read.iter().filter(|text| text.starts_with(&writer.to_string())).collect();
        assert_eq!(own.len(), EACH);
        assert!(own.is_sorted());
    }
    println!("sent again: {:?}", streams.each_ref().map(|stream| conflicts(stream)));
    assert!(streams.iter().map(|stream| conflicts(stream)).sum::<u64>() > 0);
}
