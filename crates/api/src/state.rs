//! What the handlers work with.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_archive::Archive;
use muster_bus::Bus;
use muster_catalog::{Catalog, Priority, Tx};
use muster_cluster::limit::Share;
use muster_endpoints::{Directory, Presence};
use muster_hunts::Hunts;
use muster_inventory::Inventory;
use muster_schedules::Schedules;
use muster_sinks::Sinks;
use muster_stream::{Pressure, Stream};
use muster_telemetry::doctor::Finding;
use muster_types::{Clock, InstanceId};
use muster_uploads::Uploads;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assets::AssetServer;
use crate::auth::allowance;
use crate::auth::password::{Cost, Passwords};
use crate::auth::requests::{RequestRate, Requests};
use crate::auth::throttle::{Allowance, Throttle};
use crate::authorise::Approvals;
use crate::live::{Streams, Watches};
use crate::problem::Result;
use crate::shards::LastLook;
use crate::sql::{Queue, SqlOptions};
use crate::stats::Stats;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a second person is needed.
    pub approvals: Approvals,
    /// How long a session lasts.
    pub session: Duration,
    /// Passwords hashed at once.
    pub password_slots: usize,
    /// Cost of a password hash.
    pub password_cost: Cost,
    /// Failed sign-ins per name and per address, over all instances.
    pub login: Allowance,
    /// Requests of one account, over all instances.
    pub requests: RequestRate,
    /// After this long a native agent that is linked has surely been told of another CA. It counts until a link
    /// that is dead is taken for dead.
    pub told_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            approvals: Approvals::default(),
            session: Duration::from_secs(24 * 3600),
            password_slots: 1,
            password_cost: Cost::default(),
            login: Allowance { burst: 10, every: Duration::from_secs(6) },
            requests: RequestRate { per_second: 200, burst: 1000 },
            told_after: Duration::from_secs(240),
        }
    }
}

/// Asks for findings; see [`Deps::diagnose`].
pub type Diagnose = Arc<dyn Fn() -> BoxFuture<'static, Vec<Finding>> + Send + Sync>;

/// What the API is built from.
pub struct Deps {
    /// The catalog.
    pub catalog: Catalog,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// This instance.
    pub instance: InstanceId,
    /// The program's version.
    pub version: String,
    /// Who there is.
    pub directory: Directory,
    /// Who is online.
    pub presence: Presence,
    /// What was asked.
    pub hunts: Hunts,
    /// What osquery agents run by themselves.
    pub schedules: Schedules,
    /// What is known of every endpoint.
    pub inventory: Inventory,
    /// Files taken from endpoints.
    pub uploads: Uploads,
    /// Where rows are sent besides.
    pub sinks: Sinks,
    /// Opens the secrets of the installation.
    pub secret_key: Arc<muster_cluster::secrets::Key>,
    /// How full the stream is; `None` where this process has no stream.
    pub pressure: Option<watch::Receiver<Pressure>>,
    /// The stream, to see how far behind the fold is; `None` where this process has none.
    pub stream: Option<Arc<dyn Stream>>,
    /// This instance's share of the limits on requests.
    pub share: Share,
    /// The child process that answers SQL.
    pub sql: SqlOptions,
    /// The page and its files.
    pub assets: AssetServer,
    /// Objects, for debug archives and the doctor.
    pub archive: Archive,
    /// Findings about what only this process knows how to look at.
    pub diagnose: Diagnose,
    /// Settings.
    pub options: Options,
    /// Ends streams of updates and of rows when the server drains.
    pub shutdown: CancellationToken,
    /// Owns what outlives a request: the ends of streams and of child processes.
    pub tasks: TaskTracker,
}

/// The inside of [`ApiState`].
pub struct Inner {
    deps: Deps,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    /// By name, more generous: else anybody could keep everybody else from signing in as `admin`.
    pub(crate) throttle_names: Throttle,
    pub(crate) sign_in_slots: allowance::Slots,
    pub(crate) requests: Requests,
    pub(crate) watches: Watches,
    /// Live rows that are followed.
    pub(crate) streams: Streams,
    /// Pages that are told what changed.
    pub(crate) pages: Streams,
    pub(crate) sql_queue: Queue,
    pub(crate) last_look: LastLook,
    pub(crate) stats: Stats,
}

impl Deref for Inner {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.deps
    }
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

impl ApiState {
    /// Builds the state; hashes one password.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let passwords = Passwords::new(deps.options.password_slots, deps.options.password_cost);
        let throttle = Throttle::new(deps.options.login);
        let throttle_names = Throttle::new(deps.options.login.generous());
        let share = deps.share.clone();
        let requests = Requests::new(deps.options.requests, share, deps.clock.now());
        let sql_queue = Queue::new(&deps.sql);
        let watches = Watches::default();
        Self(Arc::new(Inner {
            deps,
            passwords,
            throttle,
            throttle_names,
            sign_in_slots: allowance::Slots::default(),
            requests,
            watches,
            streams: Streams::default(),
            pages: Streams::default(),
            sql_queue,
            last_look: LastLook::default(),
            stats: Stats::default(),
        }))
    }

    /// What the API measures of itself.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// A transaction of a person's request.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(self.catalog.begin(Priority::Api).await?)
    }
}

/// Behind the commit of a change: it is made, and what could not be taken in here now is looked for within
/// seconds anyway. So nobody is told that it failed.
pub(crate) fn told<T>(told: std::result::Result<T, impl std::error::Error>) {
    if let Err(error) = told {
        tracing::warn!(%error, "a change is made and not seen on this instance yet");
    }
}

impl Deref for ApiState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiState")
    }
}
