//! The log keeps the contract, and survives what happens to files and processes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use muster_stream::Stream;
use muster_stream::conformance::{self, Harness};
use muster_stream::log::{Log, LogOptions, OpenError};
use parking_lot::Mutex;

/// Each log in a folder of its own; a reopened one in the same.
#[derive(Default)]
struct Logs {
    /// Folder and quota by the address of the log, as the contract knows only the trait.
    open: Mutex<Vec<(usize, tempfile::TempDir, u64)>>,
}

impl Logs {
    fn add(&self, dir: tempfile::TempDir, quota_bytes: u64) -> Arc<dyn Stream> {
        let log = open(dir.path(), quota_bytes).expect("a log");
        let address = Arc::as_ptr(&log) as usize;
        let mut open = self.open.lock();
        // An address is used again when the log that had it is gone.
        open.retain(|(gone, ..)| *gone != address);
        open.push((address, dir, quota_bytes));
        log
    }
}

fn options(dir: &Path, quota_bytes: u64) -> LogOptions {
    let on_fatal = Arc::new(|why: &str| panic!("{why}"));
    LogOptions { reserve_bytes: 0, ..LogOptions::new(dir, quota_bytes, on_fatal) }
}

fn open(dir: &Path, quota_bytes: u64) -> Result<Arc<Log>, OpenError> {
    // Small files, so that the suite crosses from one to the next.
    Log::open(LogOptions { segment_bytes: 64 << 10, ..options(dir, quota_bytes) })
}

#[async_trait]
impl Harness for Logs {
    async fn open(&self, quota_bytes: u64) -> Arc<dyn Stream> {
        self.add(tempfile::tempdir().expect("a folder"), quota_bytes)
    }

    async fn reopen(&self, stream: Arc<dyn Stream>) -> Arc<dyn Stream> {
        let address = Arc::as_ptr(&stream).cast::<u8>() as usize;
        let mut open = self.open.lock();
        let index = open.iter().position(|(log, ..)| *log == address).expect("a log of ours");
        let (_, dir, quota_bytes) = open.swap_remove(index);
        drop(open);
        assert_eq!(Arc::strong_count(&stream), 1, "the last handle closes the log");
        drop(stream);
        self.add(dir, quota_bytes)
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    conformance::all(&Logs::default()).await;
}
