//! SQL over results, beside plain DataFusion on the same Parquet: both in this process, in
//! alternating rounds. Ours opens catalog and archive for every query, as the worker does; the
//! other has its table registered once, keeps what it knows of the files, and pushes filters into
//! the scan where that is faster for the query.
//!
//! `cargo run --release -p muster-query --example sql_bench [million rows] [rounds]`

#[path = "sql_bench/data.rs"]
mod data;

use std::time::Instant;

use arrow::record_batch::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures_util::TryStreamExt;
use muster_query::Engine;
use muster_types::{Access, SqlLimits, SqlRequest, Timestamp};

use data::{AGENTS, NEEDLE, ORG, Store, TABLE};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> Result<()> {
    let argument = |n| std::env::args().nth(n).and_then(|word| word.parse::<f64>().ok());
    let rows_wanted = argument(1).unwrap_or(10.0) * 1e6;
    let rounds = argument(2).unwrap_or(7.0) as usize;
    let threads = std::thread::available_parallelism()?.get();
    let begun = Instant::now();
    let store = Store::make(rows_wanted as u64).await?;
    println!(
        "{} rows of {AGENTS} agents in {} parts, {:.1} bytes each, {threads} threads; made in {:.0} s",
        store.rows,
        store.parts,
        store.bytes as f64 / store.rows as f64,
        begun.elapsed().as_secs_f64()
    );
    let plain = Plain::new(&store, threads).await?;
    let half = (1..=AGENTS).filter(|no| no % 2 == 0).map(muster_types::AgentNo).collect();
    let half = Access { org: ORG, agents: Some(half) };
    for (name, sql) in [
        ("GROUP BY", format!("SELECT name, count(*) AS n FROM {TABLE} GROUP BY name")),
        ("LIKE", format!("SELECT count(*) FROM {TABLE} WHERE cmdline LIKE '%=journal%'")),
        ("one match", format!("SELECT * FROM {TABLE} WHERE cmdline = '{NEEDLE}'")),
    ] {
        let pushed = plain.faster(&sql).await?;
        let expected = rows(&plain.ask(&sql, pushed).await?);
        let (mut theirs, mut ours, mut opening, mut scoped) = <(Runs, Runs, Runs, Runs)>::default();
        for _ in 0..rounds {
            theirs.add(plain.ask(&sql, pushed)).await?;
            let all = store.request(&Access::all(ORG), &sql, threads);
            let answer = ours.add(ask(&all)).await?;
            assert_eq!(rows(&answer), expected, "{sql}");
            opening.add(async { Ok(Engine::open(&all).await?) }).await?;
            let half = store.request(&half, &sql, threads);
            scoped.add(ask(&half)).await?;
        }
        println!("{name}: {sql}");
        println!("  plain (pushdown {pushed}): {}", theirs.show(store.rows));
        println!("  ours: {}; opening {:.1} ms", ours.show(store.rows), opening.wall() * 1e3);
        println!("  ours, access to every other agent: {}", scoped.show(store.rows));
        println!(
            "  ratio: {:.2} of time, {:.2} of CPU",
            ours.wall() / theirs.wall(),
            ours.cpu() / theirs.cpu()
        );
    }
    Ok(())
}

impl Store {
    fn request(&self, access: &Access, sql: &str, threads: usize) -> SqlRequest {
        SqlRequest {
            sql: sql.to_owned(),
            access: access.clone(),
            limits: SqlLimits { memory_bytes: 4 << 30, time_ms: 600_000, rows: 1 << 40 },
            catalog_url: self.catalog_url.clone(),
            archive_url: self.archive_url.clone(),
            archive_access: Default::default(),
            now: Timestamp(0),
            threads,
        }
    }
}

async fn ask(request: &SqlRequest) -> Result<Vec<RecordBatch>> {
    Ok(Engine::open(request).await?.run().await?.try_collect().await?)
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// DataFusion as it comes: with filters pushed into the scan, and without.
struct Plain([SessionContext; 2]);

impl Plain {
    async fn new(store: &Store, threads: usize) -> Result<Self> {
        let mut contexts = Vec::new();
        for pushed in [false, true] {
            let mut config = SessionConfig::new().with_target_partitions(threads);
            config.options_mut().execution.parquet.pushdown_filters = pushed;
            let context = SessionContext::new_with_config(config);
            let path = store.plain.to_str().ok_or("a path that is no text")?;
            context.register_parquet(TABLE, path, ParquetReadOptions::default()).await?;
            contexts.push(context);
        }
        Ok(Self(contexts.try_into().map_err(|_| "two contexts")?))
    }

    async fn ask(&self, sql: &str, pushed: bool) -> Result<Vec<RecordBatch>> {
        Ok(self.0[usize::from(pushed)].sql(sql).await?.collect().await?)
    }

    /// Whether this query is faster with filters pushed into the scan.
    async fn faster(&self, sql: &str) -> Result<bool> {
        let mut runs = <[Runs; 2]>::default();
        for _ in 0..3 {
            for pushed in [false, true] {
                runs[usize::from(pushed)].add(self.ask(sql, pushed)).await?;
            }
        }
        Ok(runs[1].wall() < runs[0].wall())
    }
}

/// Seconds of wall clock and of CPU.
#[derive(Default)]
struct Runs {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Runs {
    async fn add<T>(&mut self, run: impl Future<Output = Result<T>>) -> Result<T> {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let done = run.await?;
        self.wall.push(begun.elapsed().as_secs_f64());
        self.cpu.push(cpu_seconds() - cpu);
        Ok(done)
    }

    fn wall(&self) -> f64 {
        median(&self.wall)
    }

    fn cpu(&self) -> f64 {
        median(&self.cpu)
    }

    fn show(&self, rows: u64) -> String {
        let (least, most) = (
            self.wall.iter().copied().fold(f64::INFINITY, f64::min),
            self.wall.iter().copied().fold(0.0, f64::max),
        );
        format!(
            "{:.0} ms ({:.0} to {:.0}), {:.0} ms of CPU, {:.1} million rows/s of one core",
            self.wall() * 1e3,
            least * 1e3,
            most * 1e3,
            self.cpu() * 1e3,
            rows as f64 / self.cpu() / 1e6
        )
    }
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What all threads of this process were on a CPU.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}
