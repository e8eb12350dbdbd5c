//! A store that fails, and rows to store.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use muster_archive::manifest::{self, Part, PartFilter};
use muster_archive::{Archive, segment_name};
use muster_catalog::{Catalog, Priority};
use muster_results::{
    ColumnDecl, ColumnType, Origin, RowClass, RowFormat, RowMeta, SegmentBuilder, Step, TableSpec,
};
use muster_types::{AgentKind, AgentNo, HuntNo, OrgId, Pos, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Works for so many calls, then fails them all. A failed put may have happened.
#[derive(Debug)]
pub struct Faulty {
    inner: InMemory,
    left: AtomicI64,
    full: bool,
}

impl Faulty {
    pub fn full() -> Self {
        Self { inner: InMemory::new(), left: AtomicI64::new(0), full: true }
    }

    pub fn never() -> Arc<Self> {
        let left = AtomicI64::new(i64::MAX);
        Arc::new(Self { inner: InMemory::new(), left, full: false })
    }

    /// From now on `calls` calls succeed.
    pub fn fail_after(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    fn call(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let source = if self.full {
            std::io::Error::from(std::io::ErrorKind::StorageFull)
        } else {
            std::io::Error::other("injected")
        };
        Err(object_store::Error::Generic { store: "faulty", source: Box::new(source) })
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, to: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        let call = self.call();
        if call.is_err() && !self.full {
            // The object is there, the answer is lost.
            let _ = self.inner.put_opts(to, bytes, how).await;
            call?;
            unreachable!();
        }
        call?;
        self.inner.put_opts(to, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call()?;
        self.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        names: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if let Err(error) = self.call() {
            return futures_util::stream::once(async { Err(error) }).boxed();
        }
        self.inner.delete_stream(names)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

pub const ORG: OrgId = OrgId(1);
pub const NOON: Timestamp = Timestamp(20_000 * Timestamp::DAY_MICROS + Timestamp::DAY_MICROS / 2);

pub fn spec(table: &str, class: RowClass) -> Arc<TableSpec> {
    let columns = vec![ColumnDecl { name: "v".into(), kind: ColumnType::Int }];
    Arc::new(TableSpec { name: table.into(), class, columns, open: true })
}

pub fn meta(agent: u32, hunt: u64, at: Timestamp) -> RowMeta {
    RowMeta {
        org: ORG,
        agent: AgentNo(agent),
        agent_kind: AgentKind::Native,
        hunt: HuntNo(hunt),
        attempt: 1,
        late: false,
        received_at: at,
        endpoint_time: None,
        shard: AgentNo(agent).shard(),
        pos: Pos(1),
    }
}

/// Writes one flush: rows of (table, class, agent, hunt, value).
pub async fn flush(
    catalog: &Catalog,
    archive: &Archive,
    at: Timestamp,
    rows: &[(&str, RowClass, u32, u64, i64)],
) -> String {
    let mut builder = SegmentBuilder::new();
    for (table, class, agent, hunt, value) in rows {
        let json = format!(r#"[{{"v":{value}}}]"#);
        let (table, meta) = (spec(table, *class), meta(*agent, *hunt, at));
        builder.append_json(&table, &meta, RowFormat::Array, json.as_bytes()).unwrap();
    }
    let built = builder.finish().unwrap();
    let object = segment_name(at.day(), "w-1");
    let length = built.bytes.len() as u64;
    archive.put_new(&object, built.bytes).await.unwrap();
    let mut tx = catalog.begin(Priority::Intake).await.unwrap();
    manifest::add_segment(&mut tx, &object, 0, "w-1", at, length, &built.parts).await.unwrap();
    tx.commit().await.unwrap();
    object
}

/// Adds a row to the state of each agent's one source.
pub async fn flush_state(catalog: &Catalog, archive: &Archive, at: Timestamp, rows: &[(u32, i64)]) {
    let mut builder = SegmentBuilder::new();
    for (agent, value) in rows {
        let (table, meta) = (spec("x_current", RowClass::Current), meta(*agent, 0, at));
        let origin = |step| Origin::Current { source: "x", generation: 1, step };
        let json = format!(r#"[{{"v":{value}}}]"#);
        builder.append_row_from(&table, &meta, origin(Step::Mark), &[]);
        let add = origin(Step::Add);
        builder.append_from(&table, &meta, add, RowFormat::Array, json.as_bytes()).unwrap();
    }
    let built = builder.finish().unwrap();
    let object = segment_name(at.day(), "w-1");
    let length = built.bytes.len() as u64;
    archive.put_new(&object, built.bytes).await.unwrap();
    let mut tx = catalog.begin(Priority::Intake).await.unwrap();
    manifest::add_segment(&mut tx, &object, 0, "w-1", at, length, &built.parts).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn parts(catalog: &Catalog, table: &str) -> Vec<Part> {
    manifest::parts_of(catalog, ORG, table, &PartFilter::default()).await.unwrap()
}

/// All values of a table, sorted: what SQL would see.
pub async fn values(catalog: &Catalog, archive: &Archive, table: &str) -> Vec<i64> {
    read(archive, &parts(catalog, table).await).await
}

/// All values of parts, sorted.
pub async fn read(archive: &Archive, parts: &[Part]) -> Vec<i64> {
    use arrow::array::AsArray;
    let mut values = Vec::new();
    for part in parts {
        let at = part.part_ref();
        let range = at.byte_offset..at.byte_offset + at.byte_count;
        let bytes = archive.get_range(&at.object, range).await.unwrap();
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
        let mut rows = 0;
        for batch in reader {
            let batch = batch.unwrap();
            rows += batch.num_rows() as u64;
            let column = batch.column_by_name("v").unwrap();
            let column = column.as_primitive::<arrow::datatypes::Int64Type>();
            values.extend(column.values().iter());
        }
        assert_eq!(rows, at.row_count);
    }
    values.sort_unstable();
    values
}
