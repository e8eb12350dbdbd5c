//! Building: everything is opened, bound and checked here; nothing runs yet. The parts are in
//! [`super::parts`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use muster_catalog::Catalog;
use muster_gateway::Sessions;
use muster_types::Clock;

use super::certificates::Certificates;
use super::health::Ready;
use super::listeners::{Listeners, address};
use super::logging::Told;
use super::metrics;
use super::parts::{Api, Base, Frontend, Ground, Place, Scheduler, Seeing, Workers};
use crate::config::{Config, Skipped};

/// A server that is built and does not run yet.
pub struct Server {
    pub(super) base: Base,
    pub(super) listeners: Listeners,
    pub(super) ground: Ground,
    pub(super) place: Place,
    pub(super) frontend: Frontend,
    pub(super) workers: Option<Workers>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) api: Api,
    pub(super) seeing: Seeing,
    pub(super) registry: Arc<prometheus_client::registry::Registry>,
    pub(super) ready: Ready,
}

impl Server {
    /// Opens the planes, loads what is kept in memory and binds the listeners.
    ///
    /// # Errors
    /// With what is wrong and what to do; nothing runs then.
    pub async fn build(config: Config, clock: Arc<dyn Clock>, told: Told) -> anyhow::Result<Self> {
        let (base, listeners) = Base::open(config, clock).await?;
        let ground = Ground::open(&base).await?;
        let place = Place::join(&base, &listeners).await?;
        let frontend = Frontend::build(&base, &ground, &place).await?;
        let workers = Workers::build(&base, &ground, &place);
        let api = Api::build(&base, &ground, &place);
        let scheduler = Scheduler::build(&base, &ground, &place, &api);
        let registry = metrics::registry(metrics::Sources {
            gateway: frontend.metrics.clone(),
            stream: base.planes.stream.clone(),
            catalog: base.planes.catalog.clone(),
            bus: base.planes.bus.clone(),
            nats: base.planes.nats.clone(),
            archive: base.planes.archive.clone(),
            directory: ground.directory.clone(),
            hunts: ground.hunts.clone(),
            cluster: place.cluster.clone(),
            worker: workers.as_ref().map(Workers::stats),
            sinks: workers.as_ref().map(Workers::gauges),
            api: api.state.clone(),
            traces: told.traces,
        });
        let registry = Arc::new(registry);
        let seeing = Seeing::build(&base, &ground, &place, workers.as_ref(), &registry, told.logs);
        Ok(Self {
            base,
            listeners,
            ground,
            place,
            frontend,
            workers,
            scheduler,
            api,
            seeing,
            registry,
            ready: Ready::default(),
        })
    }

    /// Ports that others had.
    pub fn skipped(&self) -> &[Skipped] {
        &self.listeners.skipped
    }

    /// Where operators connect.
    pub fn operators_address(&self) -> SocketAddr {
        address(&self.listeners.operators)
    }

    /// Where agents connect.
    pub fn agents_address(&self) -> SocketAddr {
        address(&self.listeners.agents)
    }

    /// Where health and metrics are.
    pub fn metrics_address(&self) -> SocketAddr {
        address(&self.listeners.metrics)
    }

    /// The certificates of this process, and the CAs they come from.
    pub fn certificates(&self) -> Arc<Certificates> {
        self.base.certificates.clone()
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.base.planes.catalog
    }

    /// The stream.
    pub fn stream(&self) -> Arc<dyn muster_stream::Stream> {
        self.base.planes.stream.clone()
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.base.config.data_dir
    }

    /// Who is connected here.
    pub fn sessions(&self) -> Arc<Sessions> {
        self.frontend.sessions.clone()
    }
}
