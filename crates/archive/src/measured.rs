//! A store that measures what is asked of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use muster_types::measure::{Counter, Durations};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tracing::Instrument as _;

/// One kind of call.
#[derive(Debug)]
pub struct Call {
    /// Its name: `put`, `get`.
    pub name: &'static str,
    /// How long those took that were answered.
    pub took: Durations,
    /// Those that failed. That an object exists, or does not, is an answer.
    pub failed: Counter,
}

/// What an archive was asked, in this process.
#[derive(Debug)]
pub struct ArchiveStats {
    put: Call,
    get: Call,
    /// Bytes of objects that were put.
    pub written_bytes: Counter,
    /// Bytes of objects that were asked for.
    pub read_bytes: Counter,
}

impl Default for ArchiveStats {
    fn default() -> Self {
        let call = |name| Call { name, took: Durations::default(), failed: Counter::default() };
        Self {
            put: call("put"),
            get: call("get"),
            written_bytes: Counter::default(),
            read_bytes: Counter::default(),
        }
    }
}

impl ArchiveStats {
    /// By kind.
    #[must_use]
    pub fn calls(&self) -> [&Call; 2] {
        [&self.put, &self.get]
    }
}

impl Call {
    fn seen<T>(&self, begun: Instant, answer: &Result<T>) {
        match answer {
            Ok(_) | Err(Error::NotFound { .. } | Error::AlreadyExists { .. }) => {
                self.took.observe(begun.elapsed());
            }
            Err(_) => self.failed.inc(),
        }
    }
}

/// Measures, and passes on. Lists and deletions are not hot, and not measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub inner: Arc<dyn ObjectStore>,
    pub stats: Arc<ArchiveStats>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Measured {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (begun, byte_count) = (Instant::now(), payload.content_length() as u64);
        let span = tracing::info_span!(target: "muster::span", "archive put", byte_count);
        let put = self.inner.put_opts(location, payload, options).instrument(span).await;
        self.stats.put.seen(begun, &put);
        if put.is_ok() {
            self.stats.written_bytes.add(byte_count);
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (begun, head) = (Instant::now(), options.head);
        let got = self.inner.get_opts(location, options).await;
        self.stats.get.seen(begun, &got);
        if let (Ok(got), false) = (&got, head) {
            self.stats.read_bytes.add(got.range.end.saturating_sub(got.range.start));
        }
        got
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let begun = Instant::now();
        let got = self.inner.get_ranges(location, ranges).await;
        self.stats.get.seen(begun, &got);
        if let Ok(pieces) = &got {
            self.stats.read_bytes.add(pieces.iter().map(|piece| piece.len() as u64).sum());
        }
        got
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
