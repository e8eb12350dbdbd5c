//! What the handlers work with.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::Bus;
use muster_catalog::{Catalog, Priority, Tx};
use muster_endpoints::{Directory, Presence};
use muster_hunts::Hunts;
use muster_inventory::Inventory;
use muster_schedules::Schedules;
use muster_sinks::Sinks;
use muster_stream::Pressure;
use muster_types::{Clock, InstanceId};
use muster_uploads::Uploads;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assets::AssetServer;
use crate::auth::password::{Cost, Passwords};
use crate::auth::throttle::{Allowance, Throttle};
use crate::authorise::Approvals;
use crate::live::Watches;
use crate::problem::Result;
use crate::sql::{Slots, SqlOptions};

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
    /// Failed sign-ins per name and per address.
    pub login: Allowance,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            approvals: Approvals::default(),
            session: Duration::from_secs(24 * 3600),
            password_slots: 1,
            password_cost: Cost::default(),
            login: Allowance { burst: 10, every: Duration::from_secs(6) },
            trusted_proxies: Vec::new(),
        }
    }
}

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
    /// The child process that answers SQL.
    pub sql: SqlOptions,
    /// The page and its files.
    pub assets: AssetServer,
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
    pub(crate) watches: Watches,
    pub(crate) sql_slots: Slots,
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
        let allowance = deps.options.login;
        let throttle_names = Throttle::new(Allowance {
            burst: allowance.burst.saturating_mul(20),
            every: allowance.every / 20,
        });
        let sql_slots = Slots::new(&deps.sql);
        let watches = Watches::default();
        Self(Arc::new(Inner { deps, passwords, throttle, throttle_names, watches, sql_slots }))
    }

    /// A transaction of a person's request.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(self.catalog.begin(Priority::Api).await?)
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
