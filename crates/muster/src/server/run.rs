//! Running, and draining in order: listeners, sessions, workers, leases, stores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_cluster::Role;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::build::Server;
use super::logging::LevelHandle;
use super::runtimes::Runtimes;
use super::signals::Signals;
use super::{health, operators};
use crate::config::Config;
use crate::install::Install;

/// A drain that takes longer ends the process all the same: nothing durable depends on it.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// How often leaves are issued anew.
const RENEW_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Runs the server until a signal ends it. `alongside` runs once it serves, and ends with the listeners.
///
/// # Errors
/// When a part failed that the server cannot do without.
pub fn run<F: Future<Output = ()> + Send + 'static>(
    server: Server,
    runtimes: &Runtimes,
    level: LevelHandle,
    configuration: impl Fn() -> anyhow::Result<Config>,
    alongside: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    runtimes.work.block_on(async move {
        let mut signals = Signals::listen()?;
        let mut running = Running::start(server, runtimes)?;
        let alongside = alongside(running.front.token.clone());
        running.front.tasks.spawn_on(alongside, runtimes.work.handle());
        notify(sd_notify::NotifyState::Ready);
        let renew = running.renew_daily();
        tokio::select! {
            () = signals.wait(&running.failed, || running.reload(&level, &configuration)) => {}
            () = renew => {}
        }
        notify(sd_notify::NotifyState::Stopping);
        let failed = running.failed.is_cancelled();
        tokio::select! {
            () = running.drain() => {}
            () = signals.again() => eprintln!("muster: ending at once"),
            () = tokio::time::sleep(DRAIN_MAX) => eprintln!("muster: the drain took too long"),
        }
        anyhow::ensure!(!failed, "a part of the server failed; the log says which");
        Ok(())
    })
}

fn notify(state: sd_notify::NotifyState<'_>) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[state]);
}

/// What runs, in the groups it is stopped in.
struct Running {
    config: Config,
    clock: Arc<dyn muster_types::Clock>,
    certificates: Arc<super::certificates::Certificates>,
    ready: health::Ready,
    planes: super::planes::Planes,
    api_tasks: tokio_util::task::TaskTracker,
    /// Listeners and what serves them.
    front: Group,
    /// Recruiting, folding, compacting.
    work: Group,
    /// What the others stand on: directory, hunts, presence.
    ground: Group,
    /// Heartbeat and leases.
    cluster: Group,
    /// Health and metrics.
    health: Group,
    failed: CancellationToken,
}

/// Tasks with one token.
struct Group {
    token: CancellationToken,
    tasks: JoinSet<()>,
}

impl Group {
    fn new(token: CancellationToken) -> Self {
        Self { token, tasks: JoinSet::new() }
    }

    /// Runs a part of the server. One that panics ends the process, which others then take over from:
    /// half a server that keeps its leases helps nobody.
    fn run(
        &mut self,
        on: &tokio::runtime::Handle,
        failed: &CancellationToken,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = Panicking(failed.clone());
        let part = async move {
            let _guard = guard;
            part.await;
        };
        self.tasks.spawn_on(part, on);
    }

    async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the server panicked");
            }
        }
    }
}

/// Cancels when it is dropped by a panic.
struct Panicking(CancellationToken);

impl Drop for Panicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

impl Running {
    fn start(server: Server, runtimes: &Runtimes) -> anyhow::Result<Self> {
        let Server {
            config,
            clock,
            planes,
            certificates,
            cluster: service,
            directory,
            presence,
            hunts,
            inventory,
            schedules,
            rules,
            dispatcher,
            worker,
            janitor,
            sinks,
            finisher,
            sessions,
            delivery,
            native,
            osquery,
            agents,
            gateway_metrics,
            api,
            api_shutdown,
            api_tasks,
            registry,
            listeners,
            roles,
            ready,
        } = server;
        let failed = CancellationToken::new();
        let agents_runtime = runtimes.agents.handle();
        let work_runtime = runtimes.work.handle();

        let mut ground = Group::new(CancellationToken::new());
        {
            let (directory, token) = (directory.clone(), ground.token.clone());
            ground.run(work_runtime, &failed, async move { directory.run(token).await });
            let (hunts, token) = (hunts, ground.token.clone());
            ground.run(work_runtime, &failed, async move { hunts.run(token).await });
            let token = ground.token.clone();
            ground.run(work_runtime, &failed, async move { inventory.run(token).await });
            ground.run(work_runtime, &failed, schedules.run(ground.token.clone()));
            ground.run(work_runtime, &failed, osquery.ring.run(ground.token.clone()));
            let (catalog, bus) = (planes.catalog.clone(), planes.bus.clone());
            let (presence, token) = (presence, ground.token.clone());
            ground.run(
                work_runtime,
                &failed,
                async move { presence.run(catalog, bus, token).await },
            );
        }

        let mut cluster = Group::new(CancellationToken::new());
        let (token, superseded) = (cluster.token.clone(), failed.clone());
        let heartbeat = async move {
            if let Err(error) = service.run(token).await {
                tracing::error!(%error, "this instance lost its place in the cluster");
                superseded.cancel();
            }
        };
        cluster.run(work_runtime, &failed, heartbeat);

        let mut work = Group::new(CancellationToken::new());
        if let Some(dispatcher) = dispatcher {
            work.run(work_runtime, &failed, dispatcher.run(work.token.clone()));
        }
        if let Some(worker) = worker {
            work.run(work_runtime, &failed, worker.run(work.token.clone()));
        }
        if let Some(rules) = rules {
            work.run(work_runtime, &failed, rules.run(work.token.clone()));
        }
        if let Some(janitor) = janitor {
            work.run(work_runtime, &failed, janitor.run(work.token.clone()));
        }
        if let Some(finisher) = finisher {
            work.run(work_runtime, &failed, finisher.run(work.token.clone()));
        }

        if let Some(sinks) = sinks {
            work.run(work_runtime, &failed, sinks.run(work.token.clone()));
        }

        // The API's streams end with the listener.
        let mut front = Group::new(api_shutdown);
        if roles.has(Role::Frontend) {
            let listener = {
                let _guard = agents_runtime.enter();
                tokio::net::TcpListener::from_std(listeners.agents).context("listen for agents")?
            };
            // Asked in this order whose a connection is; the router has what nobody claims.
            let protocols: Vec<Arc<dyn muster_gateway::listener::Protocol>> =
                vec![muster_gateway_native::protocol(native.clone()), osquery.server.clone()];
            let install = Install {
                ca_pem: certificates.ca_pem().to_owned(),
                fingerprint: certificates.fingerprint.replace(':', "").to_lowercase(),
                names: {
                    let certificates = certificates.clone();
                    Box::new(move || certificates.names.load().to_vec())
                },
            };
            // Last what osquery agents are told on any other path: no empty body, which they would
            // take for success.
            let fallback = muster_gateway_native::router(native)
                .merge(crate::install::router(install))
                .merge(osquery.server.router());
            let serving = muster_gateway::listener::serve(
                listener,
                certificates.agents.clone(),
                agents,
                protocols,
                fallback,
                gateway_metrics,
                front.token.clone(),
            );
            front.run(agents_runtime, &failed, serving);
            front.run(agents_runtime, &failed, delivery.run(front.token.clone()));
            let revocations =
                muster_gateway::follow_revocations(directory, sessions, front.token.clone());
            front.run(agents_runtime, &failed, revocations);
        }
        if roles.has(Role::Api) {
            let listener = {
                let _guard = runtimes.api.enter();
                tokio::net::TcpListener::from_std(listeners.operators)
                    .context("listen for operators")?
            };
            let router = muster_api::router(api);
            let tls = certificates.operators.clone();
            let serving = operators::serve(listener, tls, router, front.token.clone());
            front.run(runtimes.api.handle(), &failed, serving);
        }

        let mut health = Group::new(CancellationToken::new());
        let serving =
            health::serve(listeners.metrics, ready.clone(), registry, health.token.clone());
        let serving = async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "health and metrics cannot be served");
            }
        };
        health.run(runtimes.health.handle(), &failed, serving);
        ready.set(true);
        Ok(Self {
            config,
            clock,
            certificates,
            ready,
            planes,
            api_tasks,
            front,
            work,
            ground,
            cluster,
            health,
            failed,
        })
    }

    /// SIGHUP: the configuration is read again, as far as it concerns names, own certificates and the
    /// log level; the rest needs a restart. A fault leaves everything as it is.
    fn reload(&self, level: &LevelHandle, configuration: &impl Fn() -> anyhow::Result<Config>) {
        let reloaded = configuration().and_then(|config| {
            self.certificates.renew(&config, &*self.clock)?;
            level.set(&config.log.level)
        });
        match reloaded {
            Ok(()) => tracing::info!("certificates and log level are reloaded"),
            Err(error) => tracing::error!("everything stays as it is: {error:#}"),
        }
    }

    /// A leaf lives for 90 days, and a server may run for longer. Never returns.
    async fn renew_daily(&self) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if let Err(error) = self.certificates.renew(&self.config, &*self.clock) {
                tracing::error!("certificates stay as they are: {error:#}");
            }
        }
    }

    /// Nothing acknowledged depends on this; it spares everybody the wait for time-outs.
    async fn drain(self) {
        self.ready.set(false);
        self.front.stop().await;
        self.api_tasks.close();
        self.api_tasks.wait().await;
        self.work.stop().await;
        self.ground.stop().await;
        self.cluster.stop().await;
        self.planes.catalog.close().await;
        if let Some(log) = &self.planes.log {
            log.close().await;
        }
        self.health.stop().await;
    }
}
