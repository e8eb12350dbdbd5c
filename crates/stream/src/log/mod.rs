//! The embedded stream: one physical log per process, for all shards.
//!
//! Segment files are preallocated; [`frame`] says how records lie in them. One thread, the
//! committer, writes: everything that has queued since it last synced becomes one write and one
//! fdatasync. Records are encoded by who appends them. A position is a physical offset that rises
//! over all files and is never used twice. A file goes when every shard that has records in it is
//! trimmed past them.
//!
//! After a failed write or fdatasync nothing is tried again: the kernel may have dropped the dirty
//! pages, so only reading the disk anew, in a new process, tells what is there.

mod append;
mod begin;
mod committer;
mod disk;
mod frame;
mod keeper;
mod metrics;
mod options;
mod queue;
mod reader;
mod recover;
mod scan;
mod segment;
mod shared;
mod tail;
#[cfg(test)]
mod tests;
mod trims;

use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use muster_types::{Pos, Record, Shard};
use tokio::sync::watch;

use self::committer::Committer;
use self::disk::{Disk, RealDisk};
use self::keeper::Keeper;
use self::recover::recover;
use self::shared::Shared;
use crate::{AppendError, Pressure, ReadError, Reader, Stream};

pub use self::begin::{begin_above, is_new};
pub use self::frame::fuzz_frames;
pub use self::metrics::Metrics;
pub use self::options::{LogOptions, OnCorrupt, OnFatal, OpenError};

/// A log in a folder. Closed when dropped, after what is queued is written.
pub struct Log {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the folder, made when missing, and repairs what a crash left. Blocks for the time it
    /// takes to read one segment file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: LogOptions) -> Result<Arc<Self>, OpenError> {
        Self::open_with(options, OnCorrupt::Refuse)
    }

    /// As [`Log::open`], with a choice of what to do about damaged records.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(options: LogOptions, on_corrupt: OnCorrupt) -> Result<Arc<Self>, OpenError> {
        Self::open_on(options, on_corrupt, Arc::new(RealDisk))
    }

    fn open_on(
        options: LogOptions,
        on_corrupt: OnCorrupt,
        disk: Arc<dyn Disk>,
    ) -> Result<Arc<Self>, OpenError> {
        let (recovered, files) = recover(&options, on_corrupt, &*disk)?;
        let dir = options.dir.clone();
        let shared = Arc::new(Shared::new(options, on_corrupt, disk, recovered));
        let keeper = Keeper::new(shared.clone(), files);
        let committer = Committer { shared: shared.clone(), keeper };
        let thread = std::thread::Builder::new().name("stream-log".to_owned());
        let committer = thread.spawn(move || committer.run());
        let committer = committer.map_err(|source| OpenError::Io { path: dir, source })?;
        Ok(Arc::new(Self { shared, committer: Some(committer) }))
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Takes no more appends and waits until what is queued is durable.
    pub async fn close(&self) {
        let mut end = self.shared.end.subscribe();
        self.begin_close();
        // The sender is ours, so this ends only when the committer has.
        let _ = end.wait_for(|end| end.stopped.is_some()).await;
    }

    fn begin_close(&self) {
        self.shared.queue.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.begin_close();
        if let Some(committer) = self.committer.take() {
            // A panic has been reported by the committer itself.
            let _ = committer.join();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Stream for Log {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        append::append(&self.shared, records).await
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        Ok(Box::new(reader::LogReader::open(self.shared.clone(), &after).await?))
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        self.shared.trim(shard, upto);
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.shared.pressure.subscribe()
    }
}
