//! Running, and draining in order: listeners, sessions, workers, leases, stores.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build::Server;
use super::group::Groups;
use super::health;
use super::logging::LevelHandle;
use super::parts::Base;
use super::runtimes::Runtimes;
use super::signals::Signals;
use crate::config::Config;

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
        let front = &mut running.groups.front;
        front.alongside(runtimes.work.handle(), alongside(front.token.clone()));
        notify(sd_notify::NotifyState::Ready);
        let failed = running.groups.failed.clone();
        let renew = running.renew_daily();
        tokio::select! {
            () = signals.wait(&failed, || running.reload(&level, &configuration)) => {}
            () = renew => {}
        }
        notify(sd_notify::NotifyState::Stopping);
        let failed = failed.is_cancelled();
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

/// What runs.
struct Running {
    base: Base,
    ready: health::Ready,
    api_tasks: TaskTracker,
    groups: Groups,
}

impl Running {
    fn start(server: Server, runtimes: &Runtimes) -> anyhow::Result<Self> {
        let Server {
            base,
            listeners,
            ground,
            place,
            frontend,
            workers,
            scheduler,
            api,
            registry,
            ready,
        } = server;
        // The API's streams end with the listener.
        let mut groups = Groups::new(api.shutdown.clone());
        let api_tasks = api.tasks.clone();
        ground.run(&base, &mut groups, runtimes);
        place.run(&mut groups, runtimes);
        if let Some(scheduler) = scheduler {
            scheduler.run(&mut groups, runtimes);
        }
        if let Some(workers) = workers {
            workers.run(&mut groups, runtimes);
        }
        frontend.run(&base, listeners.agents, &mut groups, runtimes)?;
        api.run(&base, listeners.operators, &mut groups, runtimes)?;
        let health = &mut groups.health;
        let serving =
            health::serve(listeners.metrics, ready.clone(), registry, health.token.clone());
        health.run(runtimes.health.handle(), async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "health and metrics cannot be served");
            }
        });
        ready.set(true);
        Ok(Self { base, ready, api_tasks, groups })
    }

    /// SIGHUP: the configuration is read again, as far as it concerns names, own certificates and the
    /// log level; the rest needs a restart. A fault leaves everything as it is.
    fn reload(&self, level: &LevelHandle, configuration: &impl Fn() -> anyhow::Result<Config>) {
        let reloaded = configuration().and_then(|config| {
            self.base.certificates.renew(&config, &*self.base.clock)?;
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
            let Base { certificates, config, clock, .. } = &self.base;
            if let Err(error) = certificates.renew(config, &**clock) {
                tracing::error!("certificates stay as they are: {error:#}");
            }
        }
    }

    /// Nothing acknowledged depends on this; it spares everybody the wait for time-outs.
    async fn drain(self) {
        let Groups { front, work, ground, cluster, health, failed: _ } = self.groups;
        self.ready.set(false);
        front.stop().await;
        self.api_tasks.close();
        self.api_tasks.wait().await;
        work.stop().await;
        ground.stop().await;
        cluster.stop().await;
        self.base.planes.catalog.close().await;
        if let Some(log) = &self.base.planes.log {
            log.close().await;
        }
        health.stop().await;
    }
}
