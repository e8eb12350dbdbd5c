//! Planes that fail: an append that may or may not have happened, a put that left its object behind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use muster_stream::memory::MemoryStream;
use muster_stream::{AppendError, Pressure, ReadError, Reader, Stream};
use muster_types::{Pos, Record, Shard};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

/// When things fail; off at the end, when the world heals.
pub struct Dice {
    rng: Mutex<ChaCha8Rng>,
    on: AtomicBool,
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}

impl Dice {
    pub fn new(seed: u64) -> Arc<Self> {
        let rng = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
        Arc::new(Self { rng, on: AtomicBool::new(true) })
    }

    pub fn heal(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    fn hit(&self, share: f64) -> bool {
        self.on.load(Ordering::SeqCst) && self.rng.lock().random_bool(share)
    }
}

/// A stream whose appends fail before or after they happened.
#[derive(Clone)]
pub struct FaultyStream {
    pub inner: MemoryStream,
    pub dice: Arc<Dice>,
    pub trims: Arc<Mutex<Vec<(Shard, Pos)>>>,
}

#[async_trait]
impl Stream for FaultyStream {
    async fn append(&self, records: Vec<Record>) -> std::result::Result<Vec<Pos>, AppendError> {
        if self.dice.hit(0.05) {
            return Err(AppendError::Unavailable("simulated, nothing written".into()));
        }
        let positions = self.inner.append(records).await?;
        if self.dice.hit(0.05) {
            return Err(AppendError::Unavailable("simulated, but written".into()));
        }
        Ok(positions)
    }

    async fn reader(
        &self,
        after: Vec<(Shard, Pos)>,
    ) -> std::result::Result<Box<dyn Reader>, ReadError> {
        self.inner.reader(after).await
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        self.trims.lock().push((shard, upto));
        self.inner.trim(shard, upto).await;
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.inner.pressure()
    }
}

/// A store whose calls fail before or after they happened.
#[derive(Debug)]
pub struct FaultyStore {
    pub inner: InMemory,
    pub dice: Arc<Dice>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that fails")
    }
}

fn failed<T>() -> Result<T> {
    Err(object_store::Error::Generic { store: "simulated", source: "simulated failure".into() })
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.dice.hit(0.03) {
            return failed();
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        if self.dice.hit(0.03) { failed() } else { Ok(put) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.dice.hit(0.02) { failed() } else { self.inner.get_opts(location, options).await }
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
