//! Traces over OTLP: what a request, a transaction, a wave took, for a collector.
//!
//! Spans carry names, routes, counts and outcomes; never parameters, rows or credentials. Whoever
//! makes a span uses the target [`TARGET`]; without a collector nobody listens to it, and a span that
//! nobody listens to costs a load and a branch.

mod context;
mod export;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use muster_types::measure::Counter;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

pub use context::{adopt, traceparent};

/// The target of every span that is for traces.
pub const TARGET: &str = "muster::span";

/// Finished spans that may wait for the collector; more are dropped and counted.
pub const QUEUE_MAX: usize = 4096;
/// Longest wait for the collector to take one batch.
const EXPORT_TIME: Duration = Duration::from_secs(5);

/// Where traces go, and how many.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector, as `http://host:4318`; `/v1/traces` is added when there is no path.
    pub otlp: String,
    /// Which part of all traces is sent, from 0 to 1. A trace that a trusted caller has begun follows
    /// the caller.
    pub sample: f64,
    /// This instance's name.
    pub instance: String,
    /// The program's version.
    pub version: String,
}

/// Counts of the exporter.
#[derive(Debug, Default)]
pub struct TraceStats {
    /// Spans the collector took.
    pub exported: Counter,
    /// Spans dropped because too many waited or the collector did not take them.
    pub dropped: Counter,
}

/// Traces of one process.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    stats: Arc<TraceStats>,
    exporting: export::Exporting,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.otlp: {0}")]
pub struct Error(String);

impl Traces {
    /// Starts the exporter on a thread of its own. Whether there is a collector does not matter.
    ///
    /// # Errors
    /// When the address is none, or there is no thread to be had.
    pub fn start(options: &TraceOptions) -> Result<Self, Error> {
        let fail = |error: &dyn std::fmt::Display| Error(error.to_string());
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint(&options.otlp))
            .with_timeout(EXPORT_TIME)
            .build()
            .map_err(|error| fail(&error))?;
        let resource = Resource::builder_empty()
            .with_service_name("muster")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.instance.id",
                options.instance.clone(),
            ))
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                options.version.clone(),
            ))
            .build();
        exporter.set_resource(&resource);
        let stats = Arc::new(TraceStats::default());
        let (queue, spans) = queue::queue(stats.clone());
        let exporting = export::Exporting::start(exporter, spans, stats.clone())
            .map_err(|error| fail(&error))?;
        let sampler = Sampler::TraceIdRatioBased(options.sample.clamp(0.0, 1.0));
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        Ok(Self { provider, stats, exporting })
    }

    /// What the exporter did.
    #[must_use]
    pub fn stats(&self) -> Arc<TraceStats> {
        self.stats.clone()
    }

    /// The layer that turns spans into traces.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("muster"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    /// Sends what waits, for as long as two batches may take, and ends.
    pub fn stop(self) {
        self.exporting.stop();
    }
}

/// Whether a span or event is for traces.
#[must_use]
pub fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

fn endpoint(otlp: &str) -> String {
    let rest = otlp.split_once("://").map_or(otlp, |(_, rest)| rest);
    match rest.trim_end_matches('/').contains('/') {
        true => otlp.to_owned(),
        false => format!("{}/v1/traces", otlp.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_usual_path_is_added() {
        assert_eq!(super::endpoint("http://h:4318"), "http://h:4318/v1/traces");
        assert_eq!(super::endpoint("http://h:4318/"), "http://h:4318/v1/traces");
        assert_eq!(super::endpoint("https://h/otlp/v1/traces"), "https://h/otlp/v1/traces");
    }
}
