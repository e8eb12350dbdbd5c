//! Running, and draining in order: readiness, listeners and sessions, workers, leases, stores.

use std::sync::Arc;
use std::time::Duration;

use muster_cluster::{Cluster, Job, Role};
use muster_gateway::Sessions;
use muster_stream::Stream as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build::Server;
use super::busy::{Busy, Draining};
use super::group::Groups;
use super::health;
use super::logging::LevelHandle;
use super::parts::Base;
use super::runtimes::Runtimes;
use super::signals::Signals;
use crate::config::Config;

/// Few agents are not moved more slowly than this each: nobody waits for a spread that spreads nothing.
const MOVE_EACH: Duration = Duration::from_millis(100);
/// How long a start waits for its part of the limits.
const SHARE_MAX: Duration = Duration::from_secs(15);
/// How long the last hints may take to leave.
const LAST_HINTS: Duration = Duration::from_secs(1);
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
        let failed = running.groups.failed.clone();
        let renew = running.renew_daily();
        tokio::select! {
            () = signals.wait(&failed, || running.reload(&level, &configuration)) => {}
            () = renew => {}
            () = running.become_ready() => {}
        }
        notify(sd_notify::NotifyState::Stopping);
        let failed = failed.is_cancelled();
        let most = running.base.config.drain.time.0;
        tokio::select! {
            () = running.drain() => {}
            () = signals.again() => eprintln!("muster: ending at once"),
            () = tokio::time::sleep(most) => eprintln!("muster: the drain took too long"),
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
    sessions: Arc<Sessions>,
    cluster: Cluster,
    draining: Draining,
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
            seeing,
            registry,
            ready,
        } = server;
        // The API's streams end with the listener.
        let mut groups = Groups::new(api.shutdown.clone());
        let api_tasks = api.tasks.clone();
        ground.run(&base, &mut groups, runtimes);
        base.follow_cas(&mut groups, runtimes);
        seeing.run(&mut groups, runtimes);
        let (cluster, draining) = (place.cluster.clone(), Draining::default());
        let busy = Busy::new(
            frontend.metrics.clone(),
            frontend.sessions.clone(),
            frontend.admissions.clone(),
            base.planes.stream.pressure(),
            draining.clone(),
        );
        place.run(busy, &mut groups, runtimes);
        if let Some(scheduler) = scheduler {
            scheduler.run(&mut groups, runtimes);
        }
        if let Some(workers) = workers {
            workers.run(&mut groups, runtimes);
        }
        let (metrics, sessions) = (frontend.metrics.clone(), frontend.sessions.clone());
        frontend.run(&base, listeners.agents, ready.clone(), &mut groups, runtimes)?;
        api.run(&base, listeners.operators, ready.clone(), metrics, &mut groups, runtimes)?;
        let (catalog, stream) = (base.planes.catalog.clone(), base.planes.stream.clone());
        let shown: health::Shown = Box::new(move || {
            vec![
                ("catalog", catalog.is_available(), "cannot be reached"),
                ("stream", !stream.pressure_now().stopped, "takes nothing in"),
            ]
        });
        let health = &mut groups.health;
        let serving =
            health::serve(listeners.metrics, ready.clone(), registry, shown, health.token.clone());
        health.run(runtimes.health.handle(), async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "health and metrics cannot be served");
            }
        });
        Ok(Self { base, ready, api_tasks, sessions, cluster, draining, groups })
    }

    /// Says that this instance wants traffic, once it has its part of the limits that hold for all
    /// instances: without one it would refuse whoever a balancer sends. Others give theirs up within
    /// seconds; it does not wait for longer than [`SHARE_MAX`]. Never returns.
    async fn become_ready(&self) {
        let jobs = [(Role::Api, Job::Requests), (Role::Frontend, Job::Enrolments)];
        let wait = async {
            for (_, job) in jobs.into_iter().filter(|(role, _)| self.base.roles.has(*role)) {
                let mut shares = self.cluster.leases(job);
                let _ = shares.wait_for(|held| !held.epochs.is_empty()).await;
            }
        };
        let _ = tokio::time::timeout(SHARE_MAX, wait).await;
        self.ready.set(true);
        notify(sd_notify::NotifyState::Ready);
        std::future::pending::<()>().await;
    }

    /// SIGHUP: the configuration is read again, as far as it concerns names, own certificates and the
    /// log level; the rest needs a restart. A fault leaves everything as it is.
    fn reload(&self, level: &LevelHandle, configuration: &impl Fn() -> anyhow::Result<Config>) {
        let reloaded = configuration().and_then(|config| {
            let log_level = config.log.level.clone();
            self.base.certificates.reload(config, &*self.base.clock)?;
            Ok(level.set(&log_level)?)
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
            let Base { certificates, clock, .. } = &self.base;
            if let Err(error) = certificates.renew(&**clock) {
                tracing::error!("certificates stay as they are: {error:#}");
            }
        }
    }

    /// Nothing acknowledged depends on this; it spares everybody the wait for time-outs.
    async fn drain(self) {
        let Groups { front, work, ground, cluster, health, failed: _ } = self.groups;
        self.ready.set(false);
        self.draining.begin();
        let drain = &self.base.config.drain;
        tokio::time::sleep(drain.delay.0).await;
        if self.cluster.other_frontends() > 0 {
            let agents = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
            self.sessions.move_over(drain.spread.0.min(MOVE_EACH.saturating_mul(agents)));
        }
        front.stop().await;
        self.api_tasks.close();
        self.api_tasks.wait().await;
        work.stop().await;
        // Others take over from here on, as soon as they are told.
        cluster.stop().await;
        if let Some(bus) = &self.base.planes.nats.bus {
            bus.flush(LAST_HINTS).await;
        }
        ground.stop().await;
        self.base.planes.catalog.close().await;
        if let Some(log) = &self.base.planes.log {
            log.close().await;
        }
        if let Some(stream) = &self.base.planes.nats.stream {
            stream.close().await;
        }
        health.stop().await;
    }
}
