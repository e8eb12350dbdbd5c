//! The rows: through builder, manifest and compaction into an archive, and as plain files beside it.

use std::path::PathBuf;
use std::time::Duration;

use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::manifest::{PartFilter, add_segment, parts_of};
use muster_archive::{Archive, segment_name};
use muster_catalog::{Catalog, Options, Priority, args};
use muster_results::{RowClass, RowFormat, RowMeta, SegmentBuilder, sample};
use muster_types::{AgentKind, AgentNo, HuntNo, OrgId, Pos, Timestamp};

use crate::Result;

pub const ORG: OrgId = OrgId::DEFAULT;
pub const TABLE: &str = "sample_processes";
pub const AGENTS: u32 = 10_000;
/// In one row, and between the least and the greatest value of every group of rows.
pub const NEEDLE: &str = "/usr/lib/network/needle --once";

const BODY: usize = 200;
/// Rows of one flush.
const FLUSH: u64 = 250_000;
const BEGUN: Timestamp = Timestamp(1_750_000_000_000_000);

muster_catalog::statements! {
    ENDPOINTS = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        WITH RECURSIVE n(n) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT n - 1 FROM n WHERE n > 1)
        SELECT n, 1, 'host-' || CAST(n AS TEXT), NULL, 1, NULL, $2 FROM n";
    AGENT_ROWS = "INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        SELECT no, 1, no, 'native', CAST(no AS TEXT), NULL, 'active', name, 'linux', '', '', '', '', '',
            1, '', NULL, 1, 1, '', NULL, NULL, $1
        FROM endpoint";
}

/// What both read.
pub struct Store {
    pub rows: u64,
    pub bytes: u64,
    pub parts: usize,
    pub catalog_url: String,
    pub archive_url: String,
    /// A folder with the same parts as files.
    pub plain: PathBuf,
    _dir: tempfile::TempDir,
}

impl Store {
    pub async fn make(rows: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let catalog_url = format!("sqlite://{}", dir.path().join("catalog.db").display());
        let archive_url = format!("file://{}", dir.path().join("archive").display());
        let catalog = Catalog::open(&catalog_url, Options::default()).await?;
        catalog.migrate().await?;
        fleet(&catalog).await?;
        let archive = Archive::open(&archive_url)?;
        let rows = fill(&catalog, &archive, rows).await?;
        let options = CompactOptions {
            min_age: Duration::ZERO,
            max_age: Duration::ZERO,
            ..CompactOptions::default()
        };
        let later = BEGUN.plus(Duration::from_secs(3 * 86_400));
        while compact_once(&catalog, &archive, &options, later).await?.is_some() {}
        let plain = dir.path().join("plain");
        std::fs::create_dir(&plain)?;
        let parts = parts_of(&catalog, ORG, TABLE, &PartFilter::default()).await?;
        let mut bytes = 0;
        for (n, part) in parts.iter().enumerate() {
            let (from, length) = (part.info.byte_offset, part.info.byte_count);
            let file = archive.get_range(&part.object, from..from + length).await?;
            std::fs::write(plain.join(format!("{n}.parquet")), &file)?;
            bytes += length;
        }
        catalog.close().await;
        let parts = parts.len();
        Ok(Self { rows, bytes, parts, catalog_url, archive_url, plain, _dir: dir })
    }
}

async fn fleet(catalog: &Catalog) -> Result<()> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump("directory").await?;
    tx.execute(&ENDPOINTS, args![AGENTS, change]).await?;
    tx.execute(&AGENT_ROWS, args![change]).await?;
    tx.commit().await?;
    Ok(())
}

async fn fill(catalog: &Catalog, archive: &Archive, rows: u64) -> Result<u64> {
    let table = sample::table(RowClass::Collected);
    let mut processes = sample::Processes::new(7);
    let (mut made, mut body) = (0, 0_u64);
    while made < rows {
        let mut segment = SegmentBuilder::new();
        if made == 0 {
            let needle = format!(r#"[{{"pid":"31337","name":"needle","cmdline":"{NEEDLE}"}}]"#);
            segment.append_json(&table, &meta(0), RowFormat::Array, needle.as_bytes())?;
        }
        while segment.rows() < FLUSH {
            body += 1;
            let json = processes.body(BODY);
            segment.append_json(&table, &meta(body), RowFormat::Array, &json)?;
        }
        made += segment.rows();
        let built = segment.finish()?;
        let object = segment_name(BEGUN.day(), "bench");
        let length = built.bytes.len() as u64;
        archive.put_new(&object, built.bytes).await?;
        let mut tx = catalog.begin(Priority::Intake).await?;
        add_segment(&mut tx, &object, 0, "bench", BEGUN, length, &built.parts).await?;
        tx.commit().await?;
    }
    Ok(made)
}

fn meta(body: u64) -> RowMeta {
    let agent = AgentNo(1 + (body * 7_919 % u64::from(AGENTS)) as u32);
    RowMeta {
        org: ORG,
        agent,
        agent_kind: AgentKind::Native,
        hunt: HuntNo(1 + body / u64::from(AGENTS)),
        attempt: 1,
        late: false,
        received_at: Timestamp(BEGUN.0 + body as i64 * 1_000),
        endpoint_time: None,
        shard: agent.shard(),
        pos: Pos(body),
    }
}
