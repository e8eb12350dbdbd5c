//! Intake against its ceiling: 28-column process rows from the stream to committed segments.
//!
//! Muster: native batches in a real log, the worker, SQLite catalog, archive in a folder with fsync. Ceiling: a bare loop that
//! appends the same bodies to a file with group commit, parses them straight into the same columns, and writes the same
//! Parquet. Both in one process, one after the other, several times; what counts is the ratio of CPU.
//!
//! `cargo run --release -p muster-intake --example intake_bench [ROWS] [ROUNDS] [FOLDER]`

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use muster_archive::Archive;
use muster_archive::compaction::{CompactOptions, compact_once};
use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, args};
use muster_cluster::{Formats, Held};
use muster_codec_native::{Batch, NativeDecoder};
use muster_intake::fold::HuntView;
use muster_intake::worker::{Deps, Due, HuntInfo, HuntSource, Options, SourceError, Worker};
use muster_results::{RowClass, RowMeta, SegmentBuilder, TableSpec, sample};
use muster_stream::Stream;
use muster_stream::log::{Log, LogOptions};
use muster_types::{
    AgentKind, AgentNo, AgentSet, Body, Class, Clock, Decode, Delta, Epoch, Fact, HuntNo, OrgId,
    Payload, Pos, Record, RowFormat, Rows, Spent, SystemClock, TaskEnd, TaskId, Timestamp,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const ROWS_PER_AGENT: usize = 350;
const GROUP_BYTES: usize = 1 << 20;
const HUNT: HuntNo = HuntNo(1);

muster_catalog::statements! {
    small STORED = "
        SELECT CAST(COALESCE(SUM(row_count), 0) AS INTEGER) AS row_count,
               CAST(COALESCE(SUM(byte_count), 0) AS INTEGER) AS byte_count
        FROM segment_part WHERE table_name = 'sample_processes'";
}

struct OneHunt(Arc<TableSpec>);

#[async_trait]
impl HuntSource for OneHunt {
    async fn hunt(&self, hunt: HuntNo) -> Result<Option<HuntInfo>, SourceError> {
        let view = HuntView {
            org: OrgId::DEFAULT,
            rows_per_endpoint: 1_000_000,
            bytes_per_endpoint: u64::MAX,
            interactive: false,
            watched: false,
        };
        Ok((hunt == HUNT).then(|| HuntInfo { view, table: self.0.clone() }))
    }
    fn recruited(&self, _: HuntNo, among: &AgentSet) -> AgentSet {
        among.clone()
    }
    async fn refresh(&self) -> Result<(), SourceError> {
        Ok(())
    }
    fn scheduled(&self, _: OrgId, _: AgentKind, _: &str) -> Option<Arc<TableSpec>> {
        None
    }
    fn due(&self, _: Timestamp) -> Vec<Due> {
        Vec::new()
    }
    fn agent(&self, _: AgentNo) -> Option<(OrgId, AgentKind)> {
        Some((OrgId::DEFAULT, AgentKind::Native))
    }
}

struct Input {
    rows: usize,
    json_bytes: usize,
    bodies: Vec<Bytes>,
    frames: Vec<Bytes>,
}

fn input(rows: usize) -> Input {
    let mut sample = sample::Processes::new(7);
    let mut input = Input { rows: 0, json_bytes: 0, bodies: Vec::new(), frames: Vec::new() };
    let task = TaskId { hunt: HUNT, attempt: 1 };
    while input.rows < rows {
        let json = Bytes::from(sample.body(ROWS_PER_AGENT));
        let fact = Fact::Rows(Rows {
            task: Some(task),
            source: String::new(),
            columns: Vec::new(),
            format: RowFormat::Array,
            json: json.clone(),
            endpoint_time: None,
            delta: Delta::None,
        });
        let end = TaskEnd { task, outcome: None, message: String::new(), spent: Spent::micros(1) };
        let batch = Batch { stream: 1, seq: 1, items: vec![fact, Fact::End(end)] };
        input.frames.push(batch.encode().expect("a batch within its bounds"));
        input.rows += ROWS_PER_AGENT;
        input.json_bytes += json.len();
        input.bodies.push(json);
    }
    input
}

/// CPU of this process, all threads, kernel included.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Taken {
    cpu: Duration,
    wall: Duration,
}

fn bare(input: &Input, dir: &Path) -> Taken {
    let (began, cpu_began) = (Instant::now(), cpu());
    let table = sample::table(RowClass::Collected);
    let mut log = std::fs::File::create(dir.join("log")).expect("create the log");
    let mut builder = SegmentBuilder::new();
    let (mut group, mut segments) = (0, 0);
    let mut finish = |builder: SegmentBuilder| {
        let built = builder.finish().expect("parquet");
        let mut file =
            std::fs::File::create(dir.join(format!("seg{segments}"))).expect("create a segment");
        file.write_all(&built.bytes).expect("write");
        file.sync_all().expect("fsync");
        segments += 1;
    };
    for (agent, body) in input.bodies.iter().enumerate() {
        log.write_all(body).expect("append");
        group += body.len();
        if group >= GROUP_BYTES {
            log.sync_data().expect("fdatasync");
            group = 0;
        }
        let agent = AgentNo(agent as u32 + 1);
        let meta = RowMeta {
            org: OrgId::DEFAULT,
            agent,
            agent_kind: AgentKind::Native,
            hunt: HUNT,
            attempt: 1,
            late: false,
            received_at: SystemClock.now(),
            endpoint_time: None,
            shard: agent.shard(),
            pos: Pos(1),
        };
        builder.append_json(&table, &meta, RowFormat::Array, body).expect("rows");
        if builder.bytes() >= Options::default().flush_bytes {
            finish(std::mem::take(&mut builder));
        }
    }
    log.sync_data().expect("fdatasync");
    finish(builder);
    Taken { cpu: cpu() - cpu_began, wall: began.elapsed() }
}

async fn muster(input: &Input, dir: &Path) -> (Taken, u64) {
    let url = format!("sqlite://{}", dir.join("catalog.db").display());
    let catalog = Catalog::open(&url, muster_catalog::Options::default()).await.expect("catalog");
    catalog.migrate().await.expect("migrate");
    let archive = Archive::open(&format!("file://{}/archive", dir.display())).expect("archive");
    let fatal = Arc::new(|reason: &str| panic!("{reason}"));
    let log = Log::open(LogOptions::new(dir.join("stream"), 4 << 30, fatal)).expect("log");
    let decoder: Arc<dyn Decode> = Arc::new(NativeDecoder);
    let deps = Deps {
        catalog: catalog.clone(),
        archive: archive.clone(),
        stream: log.clone(),
        bus: LocalBus::new(64),
        clock: Arc::new(SystemClock),
        hunts: Arc::new(OneHunt(sample::table(RowClass::Collected))),
        decoders: Arc::new(HashMap::from([(AgentKind::Native, decoder)])),
        formats: Formats::channel().1,
        writer: "bench.1".to_owned(),
        probe: None,
    };
    let epochs: BTreeMap<u16, Epoch> = (0..64).map(|n| (n, Epoch(1))).collect();
    let valid_until = tokio::time::Instant::now() + Duration::from_secs(3600);
    let (_leases, held) = watch::channel(Held { epochs, valid_until });

    let (began, cpu_began) = (Instant::now(), cpu());
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(Worker::new(deps, Options::default(), held).run(shutdown.clone()));
    let mut group = Vec::new();
    let mut bytes = 0;
    for (agent, frame) in input.frames.iter().enumerate() {
        bytes += frame.len();
        group.push(Record {
            org: OrgId::DEFAULT,
            agent: AgentNo(agent as u32 + 1),
            kind: AgentKind::Native,
            class: Class::Collected,
            received_at: SystemClock.now(),
            body: Body::Wire(Payload::Inline(frame.clone())),
        });
        if bytes >= GROUP_BYTES {
            log.append(std::mem::take(&mut group)).await.expect("append");
            bytes = 0;
        }
    }
    log.append(group).await.expect("append");
    loop {
        let stored = catalog.fetch_optional(&STORED, args![]).await.expect("catalog");
        if stored.expect("one row").get::<u64>("row_count").expect("a number") >= input.rows as u64
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = Taken { cpu: cpu() - cpu_began, wall: began.elapsed() };
    shutdown.cancel();
    worker.await.expect("worker").expect("no newer form");

    let options =
        CompactOptions { min_age: Duration::ZERO, min_parts: 1, ..CompactOptions::default() };
    let now = SystemClock.now().plus(Duration::from_secs(60));
    while compact_once(&catalog, &archive, &options, now).await.expect("compaction").is_some() {}
    let stored = catalog.fetch_optional(&STORED, args![]).await.expect("catalog").expect("one row");
    assert_eq!(stored.get::<u64>("row_count").expect("a number"), input.rows as u64);
    let byte_count = stored.get("byte_count").expect("a number");
    log.close().await;
    catalog.close().await;
    (taken, byte_count)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows = arguments.next().map_or(300_000, |text| text.parse().expect("ROWS is a number"));
    let rounds = arguments.next().map_or(5, |text| text.parse().expect("ROUNDS is a number"));
    let root = arguments.next().unwrap_or_else(|| ".".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let input = input(rows);
    println!("{} rows, {} bytes of JSON each", input.rows, input.json_bytes / input.rows);
    let per_core = |taken: &Taken| input.rows as f64 / taken.cpu.as_secs_f64();
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let bare_dir = tempfile::tempdir_in(&root).expect("a folder");
        let bare = bare(&input, bare_dir.path());
        drop(bare_dir);
        let dir = tempfile::tempdir_in(&root).expect("a folder");
        let path = dir.path().canonicalize().expect("a folder");
        let (full, stored) = runtime.block_on(muster(&input, &path));
        let ratio = per_core(&full) / per_core(&bare);
        println!(
            "round {round}: bare {:.0} rows/s/core (wall {:.2} s), muster {:.0} rows/s/core \
             (wall {:.2} s), ratio {ratio:.2}, {:.1} bytes/row after compaction",
            per_core(&bare),
            bare.wall.as_secs_f64(),
            per_core(&full),
            full.wall.as_secs_f64(),
            stored as f64 / input.rows as f64,
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2} (must be at least 0.60)", ratios[ratios.len() / 2]);
}
