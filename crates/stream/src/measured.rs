//! A stream that measures its appends.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use muster_types::measure::{Counter, Durations};
use muster_types::{Pos, Record, Shard};
use tokio::sync::watch;

use crate::{AppendError, Pressure, ReadError, Reader, Stream};

/// Measures, and passes on.
pub struct MeasuredStream {
    inner: Arc<dyn Stream>,
    stats: AppendStats,
    pressure: watch::Receiver<Pressure>,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct AppendStats {
    /// How long appends took that are durable.
    pub appends: Durations,
    /// Records in them.
    pub records: Counter,
    /// Appends for which there was no room.
    pub full: Counter,
    /// Appends that the store did not answer.
    pub unavailable: Counter,
    /// Appends to a store that is broken for good.
    pub fatal: Counter,
}

impl MeasuredStream {
    /// In front of this stream.
    #[must_use]
    pub fn new(inner: Arc<dyn Stream>) -> Arc<Self> {
        let pressure = inner.pressure();
        Arc::new(Self { inner, stats: AppendStats::default(), pressure })
    }

    /// What was measured so far.
    #[must_use]
    pub fn stats(&self) -> &AppendStats {
        &self.stats
    }

    /// How full the stream is now.
    #[must_use]
    pub fn pressure_now(&self) -> Pressure {
        *self.pressure.borrow()
    }
}

#[async_trait]
impl Stream for MeasuredStream {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        let (begun, count) = (Instant::now(), records.len() as u64);
        let appended = self.inner.append(records).await;
        match &appended {
            Ok(_) => {
                self.stats.appends.observe(begun.elapsed());
                self.stats.records.add(count);
            }
            Err(AppendError::Full { .. }) => self.stats.full.inc(),
            Err(AppendError::Unavailable(_)) => self.stats.unavailable.inc(),
            Err(AppendError::Fatal(_)) => self.stats.fatal.inc(),
        }
        appended
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        self.inner.reader(after).await
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        self.inner.trim(shard, upto).await;
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.clone()
    }
}
