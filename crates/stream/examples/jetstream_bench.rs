//! JetStream (one server, and three copies on three servers, both with `sync_interval: always`) against
//! the embedded log: the same appends, in alternating rounds of one run on one disk.
//!
//! All servers share this machine, so three copies cost three times the disk and most of the CPU here,
//! which they would not on three machines. The ratio is the median over rounds beside each other.
//!
//! `cargo run --release -p muster-stream --example jetstream_bench`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_nats::Options;
use muster_stream::Stream;
use muster_stream::jetstream::{JetStream, JetStreamOptions};
use muster_stream::log::{Log, LogOptions};
use muster_testkit::Nats;
use muster_types::{
    AgentKind, AgentNo, Body, Class, OrgId, Payload, Pos, Record, Shard, Timestamp,
};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 3;

/// Appends of one kind.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    appenders: u32,
    appends: u32,
    bytes: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "1 appender, 64 KB", appenders: 1, appends: 200, bytes: 64 << 10 },
    Load { name: "16 appenders, 64 KB", appenders: 16, appends: 40, bytes: 64 << 10 },
    Load { name: "256 appenders, 2 KB", appenders: 256, appends: 20, bytes: 2 << 10 },
];

struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let single = Nats::start()?;
    let cluster = Nats::cluster()?;
    let on_fatal = Arc::new(|why: &str| eprintln!("{why}"));
    let options = LogOptions { reserve_bytes: 0, ..LogOptions::new(dir.path(), 4 << 30, on_fatal) };
    let log = Log::open(options)?;
    let (one, three) = (open(&single, 1).await?, open(&cluster, 3).await?);
    let streams: [(&str, Arc<dyn Stream>); 3] = [
        ("embedded log", log.clone()),
        ("JetStream R1", one.clone()),
        ("JetStream R3", three.clone()),
    ];
    for load in LOADS {
        let mut rounds: Vec<Vec<Round>> = streams.iter().map(|_| Vec::new()).collect();
        for round in 0..=ROUNDS {
            for (index, (_, stream)) in streams.iter().enumerate() {
                let measured = run(stream, load).await?;
                // The first warms up files and connections.
                if round > 0 {
                    rounds[index].push(measured);
                }
            }
        }
        println!("{}", load.name);
        let base: Vec<f64> = rounds[0].iter().map(|round| round.per_second).collect();
        for (index, (name, _)) in streams.iter().enumerate() {
            report(name, load, &rounds[index], &base);
        }
    }
    for (name, stream) in [("R1", &one), ("R3", &three)] {
        let metrics = stream.metrics();
        let (records, messages) =
            (metrics.records.load(Ordering::Relaxed), metrics.messages.load(Ordering::Relaxed));
        println!("{name}: {records} appends in {messages} messages");
    }
    log.close().await;
    Ok(())
}

async fn open(nats: &Nats, replicas: usize) -> Result<Arc<JetStream>> {
    let connection = Options::new(nats.url(), "bench");
    let options = JetStreamOptions::new(connection, 4 << 30);
    Ok(JetStream::open(JetStreamOptions { replicas, ..options }).await?)
}

async fn run(stream: &Arc<dyn Stream>, load: Load) -> Result<Round> {
    let begun = Instant::now();
    let mut appenders = JoinSet::new();
    for agent in 0..load.appenders {
        let stream = stream.clone();
        appenders.spawn(async move {
            let mut times = Vec::new();
            let mut last = Pos(0);
            for _ in 0..load.appends {
                let begun = Instant::now();
                last = stream.append(vec![record(agent, load.bytes)]).await?[0];
                times.push(begun.elapsed());
            }
            Ok::<_, muster_stream::AppendError>((agent, last, times))
        });
    }
    let (mut times, mut ends) = (Vec::new(), Vec::new());
    while let Some(done) = appenders.join_next().await {
        let (agent, last, more) = done??;
        times.extend(more);
        ends.push((AgentNo(agent).shard(), last));
    }
    let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort();
    for shard in Shard::all() {
        if let Some(last) = ends.iter().filter(|(of, _)| *of == shard).map(|(_, pos)| *pos).max() {
            stream.trim(shard, last).await;
        }
    }
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    Ok(Round { per_second, p50: at(50), p99: at(99) })
}

fn report(name: &str, load: Load, rounds: &[Round], base: &[f64]) {
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    let rate = median(rounds.iter().map(|round| round.per_second).collect());
    let ratio =
        median(rounds.iter().zip(base).map(|(round, base)| round.per_second / base).collect());
    let ms = |of: &dyn Fn(&Round) -> Duration| {
        median(rounds.iter().map(|round| of(round).as_secs_f64() * 1e3).collect())
    };
    println!(
        "  {name:13} {rate:7.0} appends/s  {:6.1} MB/s  p50 {:6.2} ms  p99 {:6.2} ms  ratio {ratio:.2}",
        rate * load.bytes as f64 / 1e6,
        ms(&|round| round.p50),
        ms(&|round| round.p99),
    );
}

fn record(agent: u32, bytes: usize) -> Record {
    Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(agent),
        kind: AgentKind::Native,
        class: Class::Collected,
        received_at: Timestamp(0),
        body: Body::Wire(Payload::Inline(Bytes::from(vec![7; bytes]))),
    }
}
