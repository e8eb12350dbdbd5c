//! Metrics: the counters of the parts, read when somebody asks for them.

use std::sync::Arc;

use muster_gateway::Refusal;
use muster_stream::Stream;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Where the numbers come from.
pub struct Sources {
    /// Counters of the gateways.
    pub gateway: Arc<muster_gateway::Metrics>,
    /// The stream's fill.
    pub stream: Arc<dyn Stream>,
    /// How often it is asked.
    pub catalog: muster_catalog::Catalog,
    /// How much is published on it.
    pub bus: Arc<muster_bus::CountedBus>,
    /// Endpoints and agents.
    pub directory: muster_endpoints::Directory,
    /// What the worker did, on an instance that has one.
    pub worker: Option<tokio::sync::watch::Receiver<muster_intake::worker::WorkerStats>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

/// A registry with everything this process measures.
pub fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::with_prefix("muster");
    registry.register_collector(Box::new(sources));
    registry
}

/// Numbers that rise and fall; all others only rise.
const GAUGES: [&str; 2] = ["sessions", "connections_open"];

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in self.gateway.read() {
            let gauge = GAUGES.contains(&name);
            number(&mut encoder, &format!("gateway_{name}"), help.trim(), value, gauge)?;
        }
        let counter = ConstCounter::new(0u64);
        let mut family = encoder.encode_descriptor(
            "gateway_refused",
            "What was not taken, by reason",
            None,
            counter.metric_type(),
        )?;
        for reason in Refusal::ALL {
            let labels = [("reason", reason.as_str())];
            let value = ConstCounter::new(self.gateway.refusals(reason));
            value.encode(family.encode_family(&labels)?)?;
        }
        let pressure = *self.stream.pressure().borrow();
        let snapshot = self.directory.snapshot();
        for (name, help, value) in [
            ("stream_used_bytes", "Bytes kept in the stream", pressure.used_bytes),
            ("stream_quota_bytes", "Bytes the stream may keep", pressure.quota_bytes),
            ("stream_stopped", "Whether intake has stopped", u64::from(pressure.stopped)),
            ("agents", "Enrolled agents", snapshot.agent_count() as u64),
        ] {
            number(&mut encoder, name, help, value, true)?;
        }
        let calls = "Reads, statements and transactions of the catalog";
        number(&mut encoder, "catalog_calls", calls, self.catalog.calls(), false)?;
        let published = "Hints published on the bus";
        number(&mut encoder, "bus_published", published, self.bus.published(), false)?;
        if let Some(worker) = &self.worker {
            encode_worker(&mut encoder, &worker.borrow())?;
        }
        Ok(())
    }
}

fn encode_worker(
    encoder: &mut DescriptorEncoder<'_>,
    stats: &muster_intake::worker::WorkerStats,
) -> Result<(), std::fmt::Error> {
    let folded = &stats.folded;
    for (name, help, value, gauge) in [
        ("rows", "Rows folded", folded.rows, false),
        ("repeats", "Messages recognised as repeats, whole or in part", folded.repeats, false),
        ("gaps", "Holes in what agents number", folded.gaps, false),
        ("poison", "Messages that could not be read", folded.poison, false),
        ("refused", "Messages or rows that were refused", folded.refused, false),
        ("unchanged", "Scheduled snapshots equal to the last", folded.unchanged, false),
        ("tasks_ended", "Tasks that ended", folded.ended, false),
        ("commits", "Segments or positions published", stats.commits, false),
        ("committed_bytes", "Bytes of segments published", stats.committed_bytes, false),
        ("failures", "Sessions that failed and began again", stats.failures, false),
        ("shards", "Shards held", stats.shards, true),
        ("shards_standing_still", "Shards whose records are gone", stats.standing_still, true),
    ] {
        number(encoder, &format!("worker_{name}"), help, value, gauge)?;
    }
    Ok(())
}

fn number(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
    gauge: bool,
) -> Result<(), std::fmt::Error> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    if gauge {
        let gauge = ConstGauge::new(value);
        return gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?);
    }
    let counter = ConstCounter::new(value.unsigned_abs());
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
