//! What there is now on a whole fleet: generated software of many endpoints through builder, manifest and
//! compaction into current tables, with changes since, and questions about it. Each question
//! opens catalog and archive, as the worker does.
//!
//! `cargo run --release -p muster-query --example current_bench [endpoints] [rows each] [rounds]`

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::manifest::{PartFilter, add_segment, parts_of};
use muster_archive::{Archive, segment_name};
use muster_catalog::{Catalog, Options, Priority, args};
use muster_query::Engine;
use muster_results::{
    ColumnDecl, ColumnType, Origin, RowClass, RowFormat, RowMeta, SegmentBuilder, Step, TableSpec,
};
use muster_types::{
    Access, AgentKind, AgentNo, HuntNo, OrgId, Pos, SqlLimits, SqlRequest, Timestamp,
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const ORG: OrgId = OrgId::DEFAULT;
const TABLE: &str = "inventory_software_current";
const SOURCE: &str = "inventory.software.deb";
const BEGUN: Timestamp = Timestamp(1_790_000_000_000_000);
/// Rows of one flush.
const FLUSH: u64 = 250_000;
/// Different names in the fleet; each endpoint has some of them.
const NAMES: u64 = 4_000;
/// Of the endpoints one in so many has changed since, and one in so many was seen again unchanged.
const CHANGED: u32 = 100;
const SEEN_AGAIN: u32 = 4;

muster_catalog::statements! {
    ENDPOINTS = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        WITH RECURSIVE n(n) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT n - 1 FROM n WHERE n > 1)
        SELECT n, 1, 'host-' || CAST(n AS TEXT), NULL, 1, NULL, $2 FROM n";
    AGENT_ROWS = "INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        SELECT no, 1, no, 'osquery', CAST(no AS TEXT), NULL, 'active', name, 'linux', '', '', '', '', '',
            1, '', NULL, 1, 1, '', NULL, NULL, $1
        FROM endpoint";
    LAST_AGENT = "INSERT INTO feed (topic, seq) VALUES ('number/agent', $1)
        ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq";
}

#[tokio::main]
async fn main() -> Result<()> {
    let argument = |n| std::env::args().nth(n).and_then(|word| word.parse::<u32>().ok());
    let (endpoints, rows) = (argument(1).unwrap_or(100_000), argument(2).unwrap_or(500).into());
    let rounds = argument(3).unwrap_or(7);
    let threads = std::thread::available_parallelism()?.get();
    let dir = tempfile::tempdir()?;
    let begun = Instant::now();
    let store = Store::open(dir.path(), endpoints).await?;
    store.base(rows).await?;
    store.compact(1).await?;
    store.since(rows).await?;
    println!(
        "{endpoints} endpoints with {rows} rows, {threads} threads; made in {:.0} s: {}",
        begun.elapsed().as_secs_f64(),
        store.describe().await?
    );
    store.catalog.close().await;
    for sql in [
        "SELECT endpoint_name, version FROM software
         WHERE name = 'openssl' AND version_lt(version, '3.0.14')",
        "SELECT version, count(*) FROM software WHERE name = 'openssl' GROUP BY version",
        "SELECT name, version, first_seen FROM software WHERE endpoint = 4711",
        "SELECT name, count(*) AS n FROM software GROUP BY name ORDER BY n DESC LIMIT 10",
    ] {
        let request = store.request(sql, threads);
        let (mut times, mut count) = (Vec::new(), 0);
        for _ in 0..rounds {
            let begun = Instant::now();
            let batches: Vec<_> = Engine::open(&request).await?.run().await?.try_collect().await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            count = batches.iter().map(|batch| batch.num_rows()).sum();
        }
        times.sort_by(f64::total_cmp);
        let (least, most) = (times[0], times[times.len() - 1]);
        let words: Vec<&str> = sql.split_whitespace().collect();
        println!("{}", words.join(" "));
        println!("  {:.0} ms ({least:.0} to {most:.0}), {count} rows", times[times.len() / 2]);
    }
    Ok(())
}

struct Store {
    endpoints: u32,
    catalog: Catalog,
    archive: Archive,
    catalog_url: String,
    archive_url: String,
    table: std::sync::Arc<TableSpec>,
}

impl Store {
    async fn open(dir: &std::path::Path, endpoints: u32) -> Result<Self> {
        let catalog_url = format!("sqlite://{}", dir.join("catalog.db").display());
        let archive_url = format!("file://{}", dir.join("archive").display());
        let catalog = Catalog::open(&catalog_url, Options::default()).await?;
        catalog.migrate().await?;
        let mut tx = catalog.begin(Priority::Api).await?;
        let change = tx.bump("directory").await?;
        tx.execute(&ENDPOINTS, args![endpoints, change]).await?;
        tx.execute(&AGENT_ROWS, args![change]).await?;
        tx.execute(&LAST_AGENT, args![endpoints]).await?;
        tx.commit().await?;
        let columns = ["name", "version", "source", "arch", "vendor"];
        let column = |name: &str| ColumnDecl { name: name.to_owned(), kind: ColumnType::Text };
        let columns = columns.map(column).to_vec();
        let (name, class) = (TABLE.to_owned(), RowClass::Current);
        let table = TableSpec { name, class, columns, open: false };
        let archive = Archive::open(&archive_url)?;
        Ok(Self { endpoints, catalog, archive, catalog_url, archive_url, table: table.into() })
    }

    /// Everybody's first snapshot, compacted as it comes.
    async fn base(&self, rows: u64) -> Result<()> {
        let mut segment = SegmentBuilder::new();
        for agent in 1..=self.endpoints {
            let body = packages(agent, rows);
            self.append(&mut segment, agent, 0, Step::Add, body.as_bytes())?;
            if segment.rows() >= FLUSH {
                self.publish(std::mem::take(&mut segment)).await?;
                self.compact(8).await?;
            }
        }
        self.publish(segment).await
    }

    /// What happened since: some have an update, more were seen again; not compacted.
    async fn since(&self, rows: u64) -> Result<()> {
        let mut segment = SegmentBuilder::new();
        for agent in (1..=self.endpoints).step_by(CHANGED as usize) {
            let body = format!("[{}]", package(agent, 0, rows));
            self.append(&mut segment, agent, 1, Step::Remove, body.as_bytes())?;
            let body = r#"[{"name":"openssl","version":"3.0.15-1~deb12u1","source":"deb","arch":"amd64","vendor":"Debian OpenSSL Team"}]"#;
            self.append(&mut segment, agent, 1, Step::Add, body.as_bytes())?;
        }
        for agent in (1..=self.endpoints).step_by(SEEN_AGAIN as usize) {
            self.append(&mut segment, agent, 2, Step::Mark, b"")?;
        }
        self.publish(segment).await
    }

    fn append(
        &self,
        segment: &mut SegmentBuilder,
        agent: u32,
        hour: i64,
        step: Step,
        json: &[u8],
    ) -> Result<()> {
        let meta = meta(agent, hour);
        let origin = |step| Origin::Current { source: SOURCE, generation: 1, step };
        segment.append_row_from(&self.table, &meta, origin(Step::Mark), &[]);
        if !json.is_empty() {
            segment.append_from(&self.table, &meta, origin(step), RowFormat::Array, json)?;
        }
        Ok(())
    }

    async fn publish(&self, segment: SegmentBuilder) -> Result<()> {
        let built = segment.finish()?;
        let object = segment_name(BEGUN.day(), "bench");
        let length = built.bytes.len() as u64;
        self.archive.put_new(&object, built.bytes).await?;
        let mut tx = self.catalog.begin(Priority::Intake).await?;
        add_segment(&mut tx, &object, 0, "bench", BEGUN, length, &built.parts).await?;
        Ok(tx.commit().await?)
    }

    async fn compact(&self, min_parts: u32) -> Result<()> {
        let least = CompactOptions { min_parts, ..CompactOptions::default() };
        let options = CompactOptions { min_age: Duration::ZERO, ..least };
        let later = BEGUN.plus(Duration::from_secs(60));
        while compact_once(&self.catalog, &self.archive, &options, later).await?.is_some() {}
        Ok(())
    }

    async fn describe(&self) -> Result<String> {
        let parts = parts_of(&self.catalog, ORG, TABLE, &PartFilter::default()).await?;
        let level = |n| {
            let of = parts.iter().filter(|part| part.level == n).map(|part| &part.info);
            let (rows, bytes) = of
                .clone()
                .fold((0, 0), |sum, info| (sum.0 + info.row_count, sum.1 + info.byte_count));
            format!("level {n}: {} parts, {rows} rows, {} MiB", of.count(), bytes >> 20)
        };
        Ok([level(0), level(1), level(2)].join("; "))
    }

    fn request(&self, sql: &str, threads: usize) -> SqlRequest {
        SqlRequest {
            sql: sql.to_owned(),
            access: Access::all(ORG),
            limits: SqlLimits { memory_bytes: 4 << 30, time_ms: 600_000, rows: 1 << 40 },
            catalog_url: self.catalog_url.clone(),
            archive_url: self.archive_url.clone(),
            archive_access: Default::default(),
            now: BEGUN,
            threads,
        }
    }
}

fn packages(agent: u32, rows: u64) -> String {
    let all: Vec<String> = (0..rows).map(|n| package(agent, n, rows)).collect();
    format!("[{}]", all.join(","))
}

/// The n-th package of an endpoint; the first is OpenSSL, below 3.0.14 on one endpoint in five.
fn package(agent: u32, n: u64, rows: u64) -> String {
    let roll = mix(u64::from(agent) * 1_000_003 + n);
    let (name, version) = match n {
        0 => ("openssl".to_owned(), format!("3.0.{}-1~deb12u{}", 11 + roll % 15, 1 + roll % 3)),
        n => {
            let of = NAMES / rows.max(1);
            let no = n * of.max(1) + mix(u64::from(agent % 97) * 31 + n) % of.max(1);
            let version = format!("{}.{}.{}-{}", no % 9, no % 23, roll % 4, 1 + roll % 2);
            (format!("package-{no:05}"), version)
        }
    };
    let vendor = mix(n) % 300;
    format!(
        r#"{{"name":"{name}","version":"{version}","source":"deb","arch":"amd64","vendor":"Maintainer {vendor} <m{vendor}@example.org>"}}"#
    )
}

/// Numbers that look random and are the same every time.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn meta(agent: u32, hour: i64) -> RowMeta {
    let agent = AgentNo(agent);
    RowMeta {
        org: ORG,
        agent,
        agent_kind: AgentKind::Osquery,
        hunt: HuntNo(0),
        attempt: 0,
        late: false,
        received_at: Timestamp(BEGUN.0 + hour * 3_600_000_000 + i64::from(agent.0)),
        endpoint_time: None,
        shard: agent.shard(),
        pos: Pos(u64::from(agent.0)),
    }
}
