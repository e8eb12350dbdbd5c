//! One Parquet part inside an object of the archive, read by ranges.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use muster_archive::Archive;
use muster_archive::manifest::Part;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use tokio::sync::OnceCell;

/// Parts up to this long are read at once: one request instead of one per column.
const WHOLE_MAX: u64 = 1 << 20;
/// What is read first of the end of a longer part; mostly its whole footer.
const TAIL: u64 = 128 << 10;

/// A part of a query's snapshot. Its footer is read once, whichever threads read the part.
pub(crate) struct PartFile {
    pub part: Part,
    archive: Archive,
    whole: OnceCell<Bytes>,
    footer: OnceCell<Arc<ParquetMetaData>>,
}

impl PartFile {
    pub(crate) fn new(part: Part, archive: Archive) -> Arc<Self> {
        Arc::new(Self { part, archive, whole: OnceCell::new(), footer: OnceCell::new() })
    }

    fn is_small(&self) -> bool {
        self.part.info.byte_count <= WHOLE_MAX
    }

    fn range(&self, range: &Range<u64>) -> ParquetResult<Range<u64>> {
        let (offset, length) = (self.part.info.byte_offset, self.part.info.byte_count);
        if range.start > range.end || range.end > length {
            let reason = format!("bytes {range:?} are asked of a part of {length}");
            return Err(ParquetError::General(reason));
        }
        Ok(range.start + offset..range.end + offset)
    }

    async fn whole(&self) -> ParquetResult<&Bytes> {
        let read = || async {
            let range = self.range(&(0..self.part.info.byte_count))?;
            self.archive.get_range(&self.part.object, range).await.map_err(external)
        };
        self.whole.get_or_try_init(read).await
    }

    async fn read(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        let placed = ranges.iter().map(|range| self.range(range));
        let placed: Vec<_> = placed.collect::<ParquetResult<_>>()?;
        if self.is_small() {
            let whole = self.whole().await?;
            let piece = |r: &Range<u64>| whole.slice(r.start as usize..r.end as usize);
            return Ok(ranges.iter().map(piece).collect());
        }
        self.archive.get_ranges(&self.part.object, &placed).await.map_err(external)
    }

    async fn footer(self: &Arc<Self>, index: bool) -> ParquetResult<Arc<ParquetMetaData>> {
        let read = || async {
            let length = self.part.info.byte_count;
            let policy = if index { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(policy)
                .with_prefetch_hint(Some(TAIL.min(length) as usize));
            let metadata =
                reader.load_and_finish(&mut PartReader::new(self, index), length).await?;
            Ok::<_, ParquetError>(Arc::new(metadata))
        };
        self.footer.get_or_try_init(read).await.cloned()
    }
}

impl fmt::Debug for PartFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartFile").finish_non_exhaustive()
    }
}

fn external(error: muster_archive::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

struct PartReader {
    file: Arc<PartFile>,
    /// Whether to read where pages are too.
    index: bool,
}

impl PartReader {
    fn new(file: &Arc<PartFile>, index: bool) -> Self {
        Self { file: Arc::clone(file), index }
    }
}

impl AsyncFileReader for PartReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let mut pieces = self.file.read(&[range]).await?;
            pieces.pop().ok_or_else(|| ParquetError::General("nothing was read".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.file.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.file.footer(self.index).await }.boxed()
    }
}

/// Gives DataFusion's Parquet scan our reader; the file's extension is its [`PartFile`].
#[derive(Debug)]
pub(crate) struct PartReaders {
    /// Whether places of pages are of use.
    pub index: bool,
}

impl ParquetFileReaderFactory for PartReaders {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let part = file.extension::<Arc<PartFile>>();
        let part = part.ok_or_else(|| internal_datafusion_err!("a file is no part"))?;
        Ok(Box::new(PartReader::new(part, self.index)))
    }
}
