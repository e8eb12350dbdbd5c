//! Metrics: the counters of the parts, read when somebody asks for them.
//!
//! Every family has a help text, and a unit in its name where it has one. Labels are bounded: by what
//! is compiled in, and by the number of sinks, of which the first hundred are shown.

mod agents;
mod nats;
mod operators;
mod out;
mod planes;
mod process;
mod work;

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use super::nats::NatsPlanes;
use out::{Out, PLAIN};

/// Where the numbers come from.
pub struct Sources {
    /// Counters of the gateways.
    pub gateway: Arc<muster_gateway::Metrics>,
    /// Appends, and the stream's fill.
    pub stream: Arc<muster_stream::MeasuredStream>,
    /// How often and how fast it is asked.
    pub catalog: muster_catalog::Catalog,
    /// Objects put and got.
    pub archive: muster_archive::Archive,
    /// How much is published on it, and lost.
    pub bus: Arc<muster_bus::CountedBus>,
    /// Connections to NATS, where there are any.
    pub nats: NatsPlanes,
    /// Endpoints and agents.
    pub directory: muster_endpoints::Directory,
    /// Live hunts.
    pub hunts: muster_hunts::Hunts,
    /// Leases.
    pub cluster: muster_cluster::Cluster,
    /// What the worker did, on an instance that has one.
    pub worker: Option<tokio::sync::watch::Receiver<muster_intake::worker::WorkerStats>>,
    /// How sinks fare, on an instance that works them.
    pub sinks: Option<Arc<muster_sinks::Gauges>>,
    /// Requests and SQL.
    pub api: muster_api::ApiState,
    /// Spans sent to the collector, where there is one.
    pub traces: Option<Arc<muster_telemetry::trace::TraceStats>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

/// A registry with everything this process measures.
pub fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Process));
    registry.sub_registry_with_prefix("muster").register_collector(Box::new(sources));
    registry
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut out = Out(encoder);
        let version = env!("CARGO_PKG_VERSION");
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let labels = [("version", version), ("build", build)];
        out.gauges("build_info", "What runs", PLAIN, [(&labels as _, 1.0)])?;
        agents::encode(self, &mut out)?;
        planes::encode(self, &mut out)?;
        nats::encode(self, &mut out)?;
        work::encode(self, &mut out)?;
        operators::encode(self, &mut out)
    }
}
