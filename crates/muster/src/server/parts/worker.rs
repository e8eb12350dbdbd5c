//! The `worker` role: folding, compacting, sending to log destinations, storing uploads.

use std::sync::Arc;

use muster_cluster::{Job, Role};
use muster_codec_native::NativeDecoder;
use muster_codec_osquery::OsqueryDecoder;
use muster_intake::janitor::Janitor;
use muster_intake::worker::{Deps, LiveHunts, Worker, WorkerStats};
use muster_types::{AgentKind, Decode};
use muster_uploads::Finisher;
use tokio::sync::watch;

use super::ground::upload_options;
use super::{Base, Ground, Place};
use crate::config::{Config, Span};
use crate::server::group::Groups;
use crate::server::runtimes::Runtimes;

/// What a worker runs.
pub struct Workers {
    worker: Worker,
    janitor: Janitor,
    finisher: Finisher,
    sinks: muster_sinks::Service,
}

impl Workers {
    /// Builds it, on an instance with the role.
    pub fn build(base: &Base, ground: &Ground, place: &Place) -> Option<Self> {
        base.roles.has(Role::Worker).then(|| Self {
            worker: worker(base, ground, place),
            janitor: janitor(base, place),
            finisher: finisher(base, place),
            sinks: sinks(base, ground, place),
        })
    }

    /// What the worker did so far.
    pub fn stats(&self) -> watch::Receiver<WorkerStats> {
        self.worker.stats()
    }

    /// How sinks fare.
    pub fn gauges(&self) -> Arc<muster_sinks::Gauges> {
        self.sinks.gauges()
    }

    /// Works under this instance's leases.
    pub fn run(self, groups: &mut Groups, runtimes: &Runtimes) {
        let (work, on) = (&mut groups.work, runtimes.work.handle());
        let (worker, token, failed) = (self.worker, work.token.clone(), groups.failed.clone());
        work.run(on, async move {
            if let Err(error) = worker.run(token).await {
                tracing::error!(%error, "start the version that wrote it, or a newer one");
                failed.cancel();
            }
        });
        work.run(on, self.janitor.run(work.token.clone()));
        work.run(on, self.finisher.run(work.token.clone()));
        work.run(on, self.sinks.run(work.token.clone()));
    }
}

fn worker(base: &Base, ground: &Ground, place: &Place) -> Worker {
    let decoders: [(AgentKind, Arc<dyn Decode>); 2] = [
        (AgentKind::Native, Arc::new(NativeDecoder)),
        (AgentKind::Osquery, Arc::new(OsqueryDecoder)),
    ];
    let known = ground.inventory.clone();
    let (tables, events) = (ground.schedules.clone(), ground.schedules.clone());
    let live = LiveHunts::new(ground.hunts.clone(), ground.directory.clone())
        .with_scheduled(move |org, kind, source| known.scheduled(org, kind, source))
        .with_scheduled(move |org, kind, source| tables.scheduled(org, kind, source))
        .with_events(move |org, kind, source| events.is_events(org, kind, source));
    let deps = Deps {
        catalog: base.planes.catalog.clone(),
        archive: base.planes.archive.clone(),
        stream: base.planes.stream.clone(),
        bus: base.planes.bus.clone(),
        clock: base.clock.clone(),
        hunts: Arc::new(live),
        decoders: Arc::new(decoders.into()),
        formats: place.cluster.formats(),
        writer: place.writer.clone(),
        probe: None,
    };
    let options = muster_intake::worker::Options {
        retire_grace: base.config.retention.grace.0,
        ..Default::default()
    };
    Worker::new(deps, options, place.cluster.leases(Job::Shards))
}

fn janitor(base: &Base, place: &Place) -> Janitor {
    Janitor::new(
        base.planes.catalog.clone(),
        base.planes.archive.clone(),
        janitor_options(&base.config, place.writer.clone()),
        place.cluster.leases(Job::Compact),
    )
}

fn janitor_options(config: &Config, writer: String) -> muster_intake::janitor::Options {
    let retention = &config.retention;
    let days = |span: Span| u32::try_from(span.0.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX);
    let mut options = muster_intake::janitor::Options::default();
    options.compact.grace = retention.grace.0;
    options.compact.writer.clone_from(&writer);
    options.retain.writer = writer;
    options.retain.collected_days = days(retention.collected);
    options.retain.scheduled_days = days(retention.scheduled);
    options.retain.grace = retention.grace.0;
    options
}

fn finisher(base: &Base, place: &Place) -> Finisher {
    Finisher::new(
        base.planes.catalog.clone(),
        base.planes.archive.clone(),
        base.clock.clone(),
        upload_options(&base.config),
        place.cluster.leases(Job::Uploads),
    )
}

fn sinks(base: &Base, ground: &Ground, place: &Place) -> muster_sinks::Service {
    let deps = muster_sinks::Deps {
        catalog: base.planes.catalog.clone(),
        archive: base.planes.archive.clone(),
        directory: ground.directory.clone(),
        clock: base.clock.clone(),
        key: base.key.clone(),
        leases: place.cluster.leases(Job::Sinks),
    };
    muster_sinks::Service::new(deps, sink_options(&base.config))
}

/// Where log destinations keep files; the same for those who send and those who describe them.
pub fn sink_options(config: &Config) -> muster_sinks::Options {
    muster_sinks::Options::new(config.data_dir.join("sinks"))
}
