//! The log against its ceiling: a bare loop of write + fdatasync with the same batches into files
//! preallocated the same way, in alternating rounds of one run.
//!
//! The first file of both is made before the clock starts, nothing is deleted before the end, and
//! who goes first alternates: otherwise one side pays for the other's deleted files. The ratio is
//! the median over pairs of neighbouring rounds, as other load drifts.
//!
//! `cargo run --release -p muster-stream --example append_bench [-- DIR]`

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_stream::Stream;
use muster_stream::log::{Log, LogOptions};
use muster_types::{
    AgentKind, AgentNo, Body, Class, OrgId, Payload, Pos, Record, Shard, Timestamp,
};
use rustix::fs::FallocateFlags;
use tokio::task::JoinSet;

const BATCH_BYTES: usize = 64 << 10;
const FILE_BYTES: u64 = 64 << 20;
const BATCHES: u32 = 960;
const ROUNDS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One way to append.
struct Case {
    name: &'static str,
    appenders: u32,
    records: u32,
    rounds: Vec<Round>,
}

/// Batches per second and the time of each.
struct Round {
    per_second: f64,
    times: Vec<Duration>,
    /// Over the bare loop's round beside it.
    ratio: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent)?;
    let case = |name, appenders, records| Case { name, appenders, records, rounds: Vec::new() };
    let mut bare = case("bare write + fdatasync", 1, 1);
    let mut cases = [
        case("log, 1 appender, 1 record", 1, 1),
        case("log, 1 appender, 64 records", 1, 64),
        case("log, 8 appenders, 1 record", 8, 1),
        case("log, 8 appenders, 64 records", 8, 64),
    ];
    for round in 0..ROUNDS {
        for case in &mut cases {
            let bare_first = round % 2 == 0;
            if bare_first {
                bare.rounds.push(bare_in(dir.path()).await?);
            }
            let mut measured = log_round(dir.path(), case.appenders, case.records).await?;
            if !bare_first {
                bare.rounds.push(bare_in(dir.path()).await?);
            }
            let ceiling = bare.rounds.last().map_or(f64::NAN, |round| round.per_second);
            measured.ratio = measured.per_second / ceiling;
            case.rounds.push(measured);
        }
    }
    bare.report();
    for case in &mut cases {
        case.report();
    }
    Ok(())
}

impl Case {
    /// Prints medians.
    fn report(&mut self) {
        self.rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let rate = |index: usize| self.rounds[index].per_second;
        let (low, median, high) =
            (rate(0), rate(self.rounds.len() / 2), rate(self.rounds.len() - 1));
        let mut times: Vec<Duration> = self.rounds.iter().flat_map(|r| r.times.clone()).collect();
        times.sort();
        let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e3;
        let mut ratios: Vec<f64> = self.rounds.iter().map(|round| round.ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = format!("  ratio {:.2} of {ratios:.2?}", ratios[ratios.len() / 2]);
        println!(
            "{:30} {median:7.0} batches/s ({low:.0}-{high:.0})  {:5.0} MB/s  p50 {:.2} ms  p99 {:.2} ms{ratio}",
            self.name,
            median * BATCH_BYTES as f64 / 1e6,
            at(500),
            at(990),
        );
    }
}

async fn bare_in(dir: &Path) -> Result<Round> {
    let dir = tempfile::tempdir_in(dir)?.keep();
    tokio::task::spawn_blocking(move || bare_round(&dir)).await?
}

fn bare_file(dir: &Path, n: u32) -> Result<File> {
    let file = File::create(dir.join(n.to_string()))?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

fn bare_round(dir: &Path) -> Result<Round> {
    let batch = vec![7; BATCH_BYTES];
    let mut file = bare_file(dir, 0)?;
    let mut offset = 0;
    let mut times = Vec::new();
    let started = Instant::now();
    for n in 1..=BATCHES {
        let begun = Instant::now();
        if offset + BATCH_BYTES as u64 > FILE_BYTES {
            file = bare_file(dir, n)?;
            offset = 0;
        }
        file.write_all_at(&batch, offset)?;
        file.sync_data()?;
        offset += BATCH_BYTES as u64;
        times.push(begun.elapsed());
    }
    let per_second = f64::from(BATCHES) / started.elapsed().as_secs_f64();
    Ok(Round { per_second, times, ratio: 1.0 })
}

async fn log_round(dir: &Path, appenders: u32, records: u32) -> Result<Round> {
    let dir = tempfile::tempdir_in(dir)?.keep();
    let on_fatal = Arc::new(|why: &str| eprintln!("{why}"));
    let options = LogOptions::new(dir, 4 << 30, on_fatal);
    let log = Log::open(LogOptions { reserve_bytes: 0, ..options })?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for appender in 0..appenders {
        let log = log.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for n in 0..BATCHES / appenders {
                let batch = batch(appender, n, records);
                let begun = Instant::now();
                let positions = log.append(batch).await?;
                times.push(begun.elapsed());
                if n % 256 == 255 {
                    log.trim(shard(appender), positions.last().copied().unwrap_or(Pos(0))).await;
                }
            }
            Ok::<_, muster_stream::AppendError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    log.close().await;
    Ok(Round { per_second, times, ratio: f64::NAN })
}

fn shard(appender: u32) -> Shard {
    AgentNo(appender).shard()
}

fn batch(appender: u32, n: u32, records: u32) -> Vec<Record> {
    let payload = Bytes::from(vec![n as u8; BATCH_BYTES / records as usize - 32]);
    let record = Record {
        org: OrgId::DEFAULT,
        agent: AgentNo(appender),
        kind: AgentKind::Native,
        class: Class::Collected,
        received_at: Timestamp(i64::from(n)),
        body: Body::Wire(Payload::Inline(payload)),
    };
    vec![record; records as usize]
}
