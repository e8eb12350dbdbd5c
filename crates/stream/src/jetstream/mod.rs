//! The stream on NATS JetStream: facts in flight on several machines.
//!
//! Eight JetStream streams hold eight shards each; a shard is a subject ([`layout`]). What instances
//! append to one shard at the same time travels in one message ([`message`]), so that a busy server
//! syncs large batches and an idle one answers at once; one message per shard is on its way at a time,
//! which keeps each appender's order ([`sender`]). A position is the message's sequence and the place
//! in it. Nothing is acknowledged by readers: their positions live in the catalog, and what lies below
//! the committed one is purged ([`trims`]).
//!
//! # What has been trimmed
//! Sequences have gaps, as eight shards share a stream, so a gap does not tell that something is gone.
//! Two rules make it tell: each shard begins with an empty message, and a purge always keeps the
//! message of the position it trims to. So the first message of a shard is either its beginning, and
//! nothing was ever trimmed, or the one it was trimmed to, and whoever asks for less is refused.
//!
//! # When NATS is away
//! Appends are refused at once, or after [`PUBLISH_WAIT`] when a server is there and does not answer.
//! Readers go on trying. Nothing ends.

mod append;
mod keeper;
mod layout;
mod message;
mod metrics;
mod options;
mod reader;
mod sender;
mod setup;
mod shared;
mod source;
mod trims;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_nats::Connection;
use muster_types::{Pos, Record, Shard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::shared::{Shared, State};
use crate::{AppendError, Pressure, ReadError, Reader, Stream};

pub use self::layout::stream_names;
pub use self::message::MESSAGE;
pub use self::metrics::Metrics;
pub use self::options::{Begin, JetStreamOptions, OpenError};
pub use self::sender::PUBLISH_WAIT;

/// How long closing waits for what is on its way.
const CLOSE_WAIT: Duration = Duration::from_secs(6);

/// A stream on NATS. Dropping it ends its tasks; [`JetStream::close`] first lets trims reach the
/// server.
pub struct JetStream {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: parking_lot::Mutex<JoinSet<()>>,
}

impl JetStream {
    /// Connects and makes the streams that are missing. When no server answers, or the cluster has no
    /// leader, within the first wait of the connection this is no error: it goes on trying.
    ///
    /// # Errors
    /// [`OpenError`]: what waiting does not mend.
    pub async fn open(options: JetStreamOptions) -> Result<Arc<Self>, OpenError> {
        let connection = muster_nats::connect(&options.connection).await?;
        let shared = Arc::new(Shared::new(connection, options)?);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        keeper::first(&shared).await?;
        tasks.spawn(keeper::run(shared.clone(), stop.clone()));
        tasks.spawn(usage::run(shared.clone(), stop.clone()));
        tasks.spawn(trims::run(shared.clone(), stop.clone()));
        for shard in Shard::all() {
            tasks.spawn(sender::run(shared.clone(), shard, stop.clone()));
        }
        Ok(Arc::new(Self { shared, stop, tasks: parking_lot::Mutex::new(tasks) }))
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// What keeps it from being used now, for people; `None` when nothing does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            State::Ready => self.shared.away(),
            State::Starting => Some("the streams are not looked at yet".to_owned()),
            State::Broken(why) => Some(why.clone()),
        }
    }

    /// Takes no more appends, and waits for a while until what was trimmed is gone.
    pub async fn close(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(CLOSE_WAIT, all).await.is_err() {
            tracing::warn!(
                "NATS did not answer in time; what was trimmed last is trimmed again later"
            );
        }
    }
}

impl std::fmt::Debug for JetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStream").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Stream for JetStream {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        if self.stop.is_cancelled() {
            return Err(AppendError::Unavailable("the stream is closed".to_owned()));
        }
        append::append(&self.shared, &records).await
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        Ok(Box::new(reader::JetReader::open(&self.shared, after).await?))
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        trims::trim(&self.shared, shard, upto).await;
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.shared.usage.pressure()
    }
}
