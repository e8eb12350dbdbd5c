//! A small installation: some of everything that a copy must carry.

use std::path::Path;

use bytes::Bytes;
use muster_archive::Archive;
use muster_catalog::copy::Snapshot;
use muster_catalog::{Catalog, Priority, Row, Value, args};
use muster_testkit::TempCatalog;
use uuid::Uuid;

muster_catalog::statements! {
    FEED = "INSERT INTO feed (topic, seq) VALUES ($1, $2)
        ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq";
    pub SEQ = "SELECT seq FROM feed WHERE topic = $1";
    pub SECRET = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, 1)";
    pub SECRETS = "SELECT name FROM secret ORDER BY name";
    SEGMENT = "INSERT INTO segment (object, level, byte_count, row_count, created_at, writer)
        VALUES ($1, 0, $2, 1, 1, 'w')";
    SHARD = "INSERT INTO shard_offset (shard, pos, epoch, base_object, base_pos)
        VALUES ($1, $2, 7, $3, 5)";
    LEASE = "INSERT INTO partition_lease (job, n, holder, incarnation, epoch, taken_at)
        VALUES ('shards', $1, $2, 3, 7, 1)";
    pub LEASES = "SELECT holder, epoch FROM partition_lease ORDER BY job, n";
    PRESENCE = "INSERT INTO presence_block (instance, shard, written_at, last_seen)
        VALUES ($1, $2, 1, $3)";
    IDEMPOTENT = "INSERT INTO idempotency (principal, key, request_hash, status, body, created_at)
        VALUES ($1, $2, $3, 200, $4, 1)";
    INSTANCE = "INSERT INTO instance (id, incarnation, name, roles, version, level, addresses, load,
            started_at, heartbeat_at, expires_at)
        VALUES ($1, 1, $2, 'all', '1', 1, '[]', '{}', 1, 1, $3)";
    UPLOAD = "INSERT INTO upload (no, org, agent_no, kind, external_id, block_count, block_size,
            byte_count, state, message, begun_at, sha256, object, piece_count)
        VALUES ($1, 1, 1, 'carve', $2, 1, 1, 1, 'stored', '', 1, $3, $4, $5)";
}

pub struct Installation {
    pub temp: TempCatalog,
    pub archive: Archive,
}

impl Installation {
    pub fn catalog(&self) -> &Catalog {
        &self.temp.catalog
    }

    /// `temp` with things in it.
    pub async fn new(temp: TempCatalog) -> Self {
        let archive = folder(temp.dir.path());
        let made = Self { temp, archive };
        made.run(&FEED, args!["number/agent", 100]).await;
        made.run(&FEED, args!["hunt", 5]).await;
        made.run(&SECRET, args!["ca/key", vec![0_u8, 1, 255]]).await;
        let instance = Uuid::from_u128(9);
        made.run(&INSTANCE, args![instance, "gone", 2]).await;
        for n in 0..3_i64 {
            made.run(&LEASE, args![n, instance]).await;
            let base = format!("state/v1/2026-11-20/{n}");
            made.put(&base, n as u8).await;
            made.run(&SHARD, args![n, 1000 + n, base]).await;
            made.run(&PRESENCE, args![instance, n, vec![n as u8; 300]]).await;
        }
        for n in 0..600_i64 {
            let key = format!("key {n} ü \u{1f980} \"quoted\"\n");
            let values = args!["user:ana", key, vec![n as u8; 32], vec![7_u8; n as usize]];
            made.run(&IDEMPOTENT, values).await;
        }
        for n in 0..20 {
            made.segment(n).await;
        }
        for n in 1..=2_i64 {
            let object = format!("upload/v1/2026-11-20/{n}-x");
            for piece in 0..12 {
                made.put(&format!("{object}-{piece}"), piece).await;
            }
            let values = args![n, format!("e{n}"), vec![1_u8; 32], object, 12];
            made.run(&UPLOAD, values).await;
        }
        made.put("payload/v1/2026-11-20/of-the-stream", 1).await;
        made
    }

    pub async fn run(&self, s: &muster_catalog::Statement, values: Vec<Value>) {
        self.catalog().execute(Priority::Api, s, values).await.unwrap();
    }

    pub async fn put(&self, name: &str, n: u8) {
        let bytes = Bytes::from(vec![n; 1000 + usize::from(n)]);
        self.archive.put_new(name, bytes).await.unwrap();
    }

    pub async fn segment(&self, n: u8) {
        let name = format!("seg/v1/2026-11-20/w-{n:03}");
        self.put(&name, n).await;
        self.run(&SEGMENT, args![name, 1000 + i64::from(n)]).await;
    }

    pub async fn instance(&self, until: i64) {
        self.run(&INSTANCE, args![Uuid::now_v7(), "alive-1", until]).await;
    }
}

pub fn folder(dir: &Path) -> Archive {
    let dir = dir.canonicalize().unwrap();
    Archive::open(&format!("file://{}/archive", dir.display())).unwrap()
}

/// Tables in which a copy is not the same as what was copied.
const CHANGED: [&str; 6] =
    ["schema_migration", "store_copy", "shard_gap", "feed", "instance", "partition_lease"];

/// Every value of every other table. Identifiers are bytes on one database and a type on the other.
pub async fn everything(catalog: &Catalog) -> Vec<(String, Vec<Vec<Value>>)> {
    let mut snapshot = catalog.snapshot().await.unwrap();
    let mut all = Vec::new();
    for table in snapshot.tables().to_vec() {
        if !CHANGED.contains(&&*table.name) {
            let rows = rows(&mut snapshot, &table).await;
            all.push((table.name.clone(), rows));
        }
    }
    all
}

async fn rows(snapshot: &mut Snapshot, table: &muster_catalog::copy::Table) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    let mut last: Option<Row> = None;
    loop {
        let page = snapshot.page(table, last.as_ref()).await.unwrap();
        let Some(row) = page.last() else { return all };
        last = Some(row.clone());
        for row in page {
            let value = |column: &muster_catalog::copy::Column| match row.get(&column.name).unwrap()
            {
                Value::Uuid(id) => Value::Bytes(id.as_bytes().to_vec()),
                Value::Null(_) => Value::Null(muster_catalog::Kind::Integer),
                other => other,
            };
            all.push(table.columns.iter().map(value).collect());
        }
    }
}

/// All objects with their bytes, but for what only the stream refers to.
pub async fn objects(archive: &Archive) -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    for listed in archive.list("").await.unwrap() {
        if !listed.name.starts_with("payload/") {
            all.push((listed.name.clone(), archive.get(&listed.name).await.unwrap()));
        }
    }
    all.sort();
    all
}

/// An empty database of the other kind or the same one.
pub async fn empty(postgres: bool) -> (Catalog, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = if postgres {
        muster_testkit::Postgres::start().unwrap().database().unwrap()
    } else {
        format!("sqlite://{}", dir.path().join("catalog.db").display())
    };
    (Catalog::open(&url, muster_catalog::Options::default()).await.unwrap(), dir)
}
