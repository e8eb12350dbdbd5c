//! The `api` role: people and programs.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_api::assets::{AssetServer, Assets, Keeper};
use muster_api::{ApiState, Deps};
use muster_cluster::{Job, Role};
use muster_gateway::Metrics;
use muster_stream::Stream as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker::sink_options;
use super::{Base, Ground, Place};
use crate::server::front;
use crate::server::group::Groups;
use crate::server::health::{self, Ready};
use crate::server::operators::Operators;
use crate::server::page;
use crate::server::planes::{archive_url, catalog_url};
use crate::server::runtimes::Runtimes;

/// What serves people. Built on every instance, since rules of labels ask through it; serves only with
/// the role.
pub struct Api {
    pub state: ApiState,
    /// Ends its streams; the token of the front group.
    pub shutdown: CancellationToken,
    /// What it runs beside requests.
    pub tasks: TaskTracker,
    keeper: Keeper,
}

impl Api {
    /// Builds it.
    pub fn build(base: &Base, ground: &Ground, place: &Place) -> Self {
        let Base { config, clock, planes, key, .. } = base;
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let assets = Arc::new(assets());
        let (catalog, archive) = (planes.catalog.clone(), planes.archive.clone());
        let keeper = Keeper::new(catalog, archive, assets.clone());
        let state = ApiState::new(Deps {
            catalog: planes.catalog.clone(),
            bus: planes.bus.clone(),
            clock: clock.clone(),
            instance: base.id,
            version: crate::server::program::version(),
            directory: ground.directory.clone(),
            presence: ground.presence.clone(),
            hunts: ground.hunts.clone(),
            inventory: ground.inventory.clone(),
            schedules: ground.schedules.clone(),
            uploads: ground.uploads.clone(),
            sinks: muster_sinks::Sinks::new(
                planes.catalog.clone(),
                key.clone(),
                clock.clone(),
                sink_options(config),
            ),
            secret_key: key.clone(),
            archive: planes.archive.clone(),
            diagnose: super::diagnose(config),
            pressure: Some(planes.stream.pressure()),
            stream: Some(planes.stream.clone()),
            share: place.cluster.share(Job::Requests),
            assets: AssetServer::new(assets, planes.archive.clone()),
            sql: muster_api::SqlOptions {
                catalog_url: catalog_url(config).into(),
                archive_url: archive_url(config),
                archive_access: planes.archive_access.clone(),
                concurrent: config.sql.concurrent,
                memory_bytes: config.sql.memory.0,
                time: config.sql.time.0,
                whole_time: config.retention.grace.0 / 2,
                rows: config.sql.rows,
                ..muster_api::SqlOptions::default()
            },
            options: muster_api::Options {
                approvals: muster_api::authorise::Approvals {
                    hunt_above_endpoints: config.approvals.hunt_above_endpoints,
                },
                requests: muster_api::RequestRate {
                    per_second: config.api.requests_per_second,
                    burst: config.api.requests_burst,
                },
                // Until all instances know of it, and a dead link is found: four looks, each up to a fifth
                // late; and some room.
                told_after: Duration::from_secs(30) + config.agents.ping_interval.0 * 7,
                ..muster_api::Options::default()
            },
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        Self { state, shutdown, tasks, keeper }
    }

    /// Serves people, on an instance with the role.
    ///
    /// # Errors
    /// When the runtime does not take the listener.
    pub fn run(
        self,
        base: &Base,
        listener: TcpListener,
        ready: Ready,
        metrics: Arc<Metrics>,
        groups: &mut Groups,
        runtimes: &Runtimes,
    ) -> anyhow::Result<()> {
        if !base.roles.has(Role::Api) {
            return Ok(());
        }
        let (group, on) = (&mut groups.front, runtimes.api.handle());
        let listener = {
            let _guard = on.enter();
            tokio::net::TcpListener::from_std(listener).context("listen for operators")?
        };
        let operators = Operators {
            tls: base.certificates.operators.clone(),
            front: front::of_operators(&base.config),
            router: muster_api::router(self.state).merge(health::probes(ready.clone())),
            ready,
            metrics,
        };
        group.run(on, self.keeper.run(group.token.clone()));
        group.run(on, operators.serve(listener, group.token.clone()));
        Ok(())
    }
}

/// The files of the page: those in this program, or those that `MUSTER_UI_DIR` names, for who works on
/// them.
fn assets() -> Assets {
    let built_in = || Assets::built_in(page::PAGE, page::FILES);
    let Some(folder) = std::env::var_os("MUSTER_UI_DIR") else { return built_in() };
    Assets::of_folder(folder.as_ref()).unwrap_or_else(|error| {
        tracing::error!(%error, ?folder, "MUSTER_UI_DIR cannot be read; serving the built-in page");
        built_in()
    })
}
