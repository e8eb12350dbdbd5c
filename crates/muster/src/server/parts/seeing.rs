//! What an instance tells of itself: its report, and its part of debug archives.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use muster_telemetry::debug::{self, Section, Sources};
use muster_telemetry::report::{self, Certificate, Facts, Volume};
use muster_telemetry::ring::LogRing;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::{Base, Ground, Place, Workers};
use crate::config::{Config, redacted_yaml};
use crate::server::certificates::not_after;
use crate::server::group::Groups;
use crate::server::runtimes::Runtimes;
use crate::server::{health, nats, planes, program};

/// The services of an instance that tell of it.
pub struct Seeing {
    reports: report::Service,
    debug: debug::Service,
}

impl Seeing {
    /// Builds them.
    pub fn build(
        base: &Base,
        ground: &Ground,
        place: &Place,
        workers: Option<&Workers>,
        registry: &Arc<Registry>,
        logs: LogRing,
    ) -> Self {
        let planes = &base.planes;
        let me = (base.id, place.cluster.incarnation());
        let gather = gather(base, workers);
        let reports = report::Service::new(planes.catalog.clone(), base.clock.clone(), me, gather);
        let sources = Sources {
            instance: base.id,
            name: place.name.clone(),
            version: program::version(),
            about: json!({
                "incarnation": me.1.0,
                "roles": base.roles.to_string(),
                "level": program::program().level,
                "catalog_url": planes::catalog_url(&base.config),
                "archive_url": planes::archive_url(&base.config),
                "stream_url": base.config.stream.url,
                "bus_url": base.config.bus.url,
                "data_dir": base.config.data_dir,
            }),
            configuration: redacted_yaml(&base.config),
            logs,
            sections: sections(base, ground, registry),
        };
        let debug = debug::Service::new(
            planes.catalog.clone(),
            planes.archive.clone(),
            planes.bus.clone(),
            base.clock.clone(),
            sources,
        );
        Self { reports, debug }
    }

    /// Tells, until the ground goes.
    pub fn run(self, groups: &mut Groups, runtimes: &Runtimes) {
        let (ground, on) = (&mut groups.ground, runtimes.work.handle());
        ground.run(on, self.reports.run(ground.token.clone()));
        // Its own runtime answers while all others are saturated: that is when it is asked.
        ground.run(runtimes.health.handle(), self.debug.run(ground.token.clone()));
    }
}

/// Findings about NATS, which only a process with its credentials can look at.
pub fn diagnose(config: &Config) -> muster_api::Diagnose {
    let config = Arc::new(config.clone());
    Arc::new(move || {
        let config = config.clone();
        Box::pin(async move { nats::findings(&config).await })
    })
}

/// The files that the stores write.
fn sections(
    base: &Base,
    ground: &Ground,
    registry: &Arc<Registry>,
) -> Vec<(&'static str, Section)> {
    let registry = registry.clone();
    let metrics: Section = Box::new(move || {
        let text = health::text(&registry).map(String::into_bytes);
        Box::pin(async move { text.ok_or_else(|| "they cannot be written".to_owned()) })
    });
    let catalog = base.planes.catalog.clone();
    let cluster: Section = Box::new(move || {
        let catalog = catalog.clone();
        Box::pin(async move {
            let found = muster_cluster::instances(&catalog).await.map_err(|e| e.to_string())?;
            let reports = report::read_all(&catalog).await.map_err(|e| e.to_string())?;
            Ok(format!("{found:#?}\n\n{reports:#?}\n").into_bytes())
        })
    });
    let (stream, catalog) = (base.planes.stream.clone(), base.planes.catalog.clone());
    let (directory, hunts) = (ground.directory.clone(), ground.hunts.clone());
    let stores: Section = Box::new(move || {
        let pressure = stream.pressure_now();
        let (pool, snapshot) = (catalog.pool(), directory.snapshot());
        let text = json!({
            "catalog": {
                "database": catalog.database().name(),
                "available": catalog.is_available(),
                "calls": catalog.calls(),
                "connections": {"open": pool.open, "idle": pool.idle, "allowed": pool.allowed},
            },
            "stream": {
                "used_bytes": pressure.used_bytes,
                "quota_bytes": pressure.quota_bytes,
                "stopped": pressure.stopped,
            },
            "agents": snapshot.agent_count(),
            "live_hunts": hunts.live().len(),
        });
        Box::pin(async move { Ok(format!("{text:#}\n").into_bytes()) })
    });
    vec![("metrics.txt", metrics), ("cluster.txt", cluster), ("stores.json", stores)]
}

/// What the report says; looked up anew each time.
fn gather(base: &Base, workers: Option<&Workers>) -> report::Gather {
    let config = base.config.clone();
    let configuration = serde_json::to_value(&config).unwrap_or_default();
    let configuration = report::comparable(&configuration);
    let (stream, certificates) = (base.planes.stream.clone(), base.certificates.clone());
    let stats = workers.map(Workers::stats);
    Box::new(move || -> BoxFuture<'static, Facts> {
        let worker = stats.as_ref().map(|stats| *stats.borrow()).unwrap_or_default();
        let facts = Facts {
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .current
                .unwrap_or(u64::MAX),
            volumes: volumes(&config),
            certificates: shown(&config, &certificates.ca_pem()),
            configuration: configuration.clone(),
            // It would not have started.
            secret_key_fits: Some(true),
            stream_stopped: stream.pressure_now().stopped,
            worker_lag_ms: worker.lag_ms,
            shards_standing_still: worker.standing_still,
            ..Facts::default()
        };
        Box::pin(std::future::ready(facts))
    })
}

/// The volumes a server writes to.
pub fn volumes(config: &Config) -> Vec<Volume> {
    let mut found = vec![("data", config.data_dir.display().to_string(), 0)];
    let stream = config.stream.url.clone();
    let stream = stream.map_or_else(
        || Some(config.data_dir.display().to_string()),
        |url| url.strip_prefix("log://").map(str::to_owned),
    );
    found.extend(stream.map(|path| ("the stream", path, config.stream.reserve.0)));
    let archive = planes::archive_url(config);
    found.extend(archive.strip_prefix("file://").map(|path| ("the archive", path.to_owned(), 0)));
    let volume = |(holds, path, reserve_bytes): (&str, String, u64)| {
        let volume = rustix::fs::statvfs(path.as_str()).ok()?;
        let free_bytes = volume.f_bavail.saturating_mul(volume.f_frsize);
        Some(Volume { holds: holds.to_owned(), path, free_bytes, reserve_bytes })
    };
    found.into_iter().filter_map(volume).collect()
}

/// Certificates that do not renew themselves: the operators' own, and the CA.
pub fn shown(config: &Config, ca_pem: &str) -> Vec<Certificate> {
    let own = config.tls.certificate.as_ref().and_then(|path| std::fs::read(path).ok());
    let of = |listener: &str, pem: &[u8]| {
        let (not_after, names) = not_after(pem)?;
        Some(Certificate { listener: listener.to_owned(), names, not_after })
    };
    let own = own.and_then(|pem| of("operators", &pem));
    own.into_iter().chain(of("agents (the CA)", ca_pem.as_bytes())).collect()
}
