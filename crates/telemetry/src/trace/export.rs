//! The exporter: one thread that sends batches and forgets what is not taken.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{EXPORT_TIME, TraceStats};

/// Spans of one batch.
const BATCH_MAX: usize = 512;
/// How long spans are gathered for one batch.
const GATHER: Duration = Duration::from_millis(500);
/// After a failure nothing is sent for so long; spans that come meanwhile fill the queue, no more.
const PAUSE: Duration = Duration::from_secs(5);

/// A running exporter.
#[derive(Debug)]
pub(super) struct Exporting {
    shutdown: CancellationToken,
    thread: JoinHandle<()>,
}

impl Exporting {
    pub(super) fn start(
        exporter: SpanExporter,
        spans: mpsc::Receiver<SpanData>,
        stats: Arc<TraceStats>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(run(exporter, spans, stats, token)))?;
        Ok(Self { shutdown, thread })
    }

    pub(super) fn stop(self) {
        self.shutdown.cancel();
        // It ends by itself within the time of one export and one last batch.
        drop(self.thread.join());
    }
}

async fn run(
    exporter: SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    stats: Arc<TraceStats>,
    shutdown: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let gathered = gather(&mut spans, &mut batch);
        let last = shutdown.run_until_cancelled(gathered).await.is_none();
        if last {
            let room = BATCH_MAX - batch.len();
            while batch.len() < room
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        if !batch.is_empty() {
            let sent = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX));
            let count = sent.len() as u64;
            let taken = tokio::time::timeout(EXPORT_TIME, exporter.export(sent)).await;
            if matches!(taken, Ok(Ok(()))) {
                stats.exported.add(count);
            } else {
                // Said by a metric and not by the log: a collector that is away is nobody's emergency.
                stats.dropped.add(count);
                shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
        if last {
            return;
        }
    }
}

/// Waits for spans, then a little longer for more of them.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    if batch.is_empty() {
        match spans.recv().await {
            Some(span) => batch.push(span),
            None => return std::future::pending().await,
        }
    }
    let more = async {
        while batch.len() < BATCH_MAX
            && let Some(span) = spans.recv().await
        {
            batch.push(span);
        }
    };
    // Time is up: what is there is sent.
    drop(tokio::time::timeout(GATHER, more).await);
}
