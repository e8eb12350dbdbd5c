//! Between the program and the exporter: a bounded queue that nobody waits at.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;

use super::{QUEUE_MAX, TraceStats};

/// Takes finished spans; drops and counts those for which there is no room.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    stats: Arc<TraceStats>,
}

pub(super) fn queue(stats: Arc<TraceStats>) -> (Queue, mpsc::Receiver<SpanData>) {
    let (spans, receiver) = mpsc::channel(QUEUE_MAX);
    (Queue { spans, stats }, receiver)
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.stats.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
