//! Building: everything is opened, bound and checked here; nothing runs yet.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use muster_api::{ApiState, Deps as ApiDeps};
use muster_catalog::Catalog;
use muster_cluster::secrets::Key;
use muster_cluster::{Cluster, InstanceInfo, Job, Role, Roles};
use muster_codec_native::NativeDecoder;
use muster_codec_osquery::OsqueryDecoder;
use muster_endpoints::{Directory, Presence};
use muster_gateway::listener::{ListenerOptions, Proxies};
use muster_gateway::{Admissions, Delivery, EnrolmentRates, Enrolments, Ingest, Metrics, Sessions};
use muster_gateway_native::{NativeGateway, NativeState, Parts};
use muster_gateway_osquery::OsqueryGateway;
use muster_hunts::{Dispatcher, Hunts};
use muster_intake::janitor::Janitor;
use muster_intake::worker::{Deps as WorkerDeps, LiveHunts, Worker};
use muster_inventory::Inventory;
use muster_inventory::rule::Evaluator;
use muster_schedules::{BuiltIn, Schedules};
use muster_types::{AgentKind, Clock, Decode};
use muster_uploads::{Finisher, Uploads};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::{Certificates, secret_key_file};
use super::health::Ready;
use super::planes::{Planes, archive_url, catalog_url};
use super::{identity, metrics, names};
use crate::config::{Config, RoleName, Skipped, Span};

/// The newest formats this version reads and writes.
const LEVEL: u32 = 1;

/// The listeners of one process, bound.
pub struct Listeners {
    /// For people and programs.
    pub operators: TcpListener,
    /// For agents.
    pub agents: TcpListener,
    /// Health and metrics.
    pub metrics: TcpListener,
    /// Ports that others had, for the operator to see.
    pub skipped: Vec<Skipped>,
}

/// A server that is built and does not run yet.
pub struct Server {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) planes: Planes,
    pub(super) certificates: Arc<Certificates>,
    pub(super) cluster: muster_cluster::Service,
    pub(super) directory: Directory,
    pub(super) presence: Presence,
    pub(super) hunts: Hunts,
    pub(super) inventory: Inventory,
    pub(super) schedules: Schedules,
    pub(super) rules: Option<Evaluator>,
    pub(super) dispatcher: Option<Dispatcher>,
    pub(super) worker: Option<Worker>,
    pub(super) janitor: Option<Janitor>,
    pub(super) sinks: Option<muster_sinks::Service>,
    pub(super) finisher: Option<Finisher>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) native: Arc<NativeState>,
    pub(super) osquery: super::osquery::Built,
    pub(super) agents: ListenerOptions,
    pub(super) gateway_metrics: Arc<Metrics>,
    pub(super) api: ApiState,
    pub(super) api_shutdown: CancellationToken,
    pub(super) api_tasks: TaskTracker,
    pub(super) registry: prometheus_client::registry::Registry,
    pub(super) listeners: Listeners,
    pub(super) roles: Roles,
    pub(super) ready: Ready,
}

/// Binds what the configuration asks for.
fn bind(config: &Config) -> anyhow::Result<Listeners> {
    let (operators, mut skipped) = config.listeners.operators.bind()?;
    let (agents, more) = config.listeners.agents.bind()?;
    skipped.extend(more);
    let (metrics, more) = config.listeners.metrics.bind()?;
    skipped.extend(more);
    Ok(Listeners { operators, agents, metrics, skipped })
}

fn roles(config: &Config) -> Roles {
    let mut roles = Vec::new();
    for role in &config.roles {
        match role {
            RoleName::All => return Roles::ALL,
            RoleName::Frontend => roles.push(Role::Frontend),
            RoleName::Worker => roles.push(Role::Worker),
            RoleName::Scheduler => roles.push(Role::Scheduler),
            RoleName::Api => roles.push(Role::Api),
        }
    }
    roles.into_iter().collect()
}

/// Bounds of the agents' listener.
fn agents_listener(config: &Config) -> ListenerOptions {
    let agents = &config.agents;
    ListenerOptions {
        connections_max: agents.connections as usize,
        connections_per_source_max: agents.connections_per_address.map(|most| most as usize),
        proxies: Proxies::new(agents.trusted_proxies.iter().map(|network| network.0)),
        ..ListenerOptions::default()
    }
}

/// Bounds on enrolments, of all gateways together.
fn enrolments(config: &Config, proxies: Proxies) -> Arc<Enrolments> {
    let agents = &config.agents;
    let rates = EnrolmentRates {
        per_second: agents.enrolments_per_second,
        source_per_second: agents.enrolments_per_address_per_second,
        source_burst: agents.enrolments_per_address,
    };
    Arc::new(Enrolments::new(rates, proxies))
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

fn upload_options(config: &Config) -> muster_uploads::Options {
    muster_uploads::Options {
        keep_for: config.retention.collected.0,
        retire_grace: config.retention.grace.0,
        ..muster_uploads::Options::default()
    }
}

/// What every osquery agent runs by itself, whatever people schedule.
fn built_in_schedules() -> Vec<BuiltIn> {
    let built_in = |(detail, interval_s): (&muster_inventory::Detail, u32)| {
        let of = |source: &muster_inventory::Source| BuiltIn {
            name: source.name.clone(),
            sql: source.query.clone(),
            interval_s,
            platforms: platforms(&source.platforms),
        };
        detail.sources.iter().map(of).collect::<Vec<_>>()
    };
    muster_inventory::scheduled_details().flat_map(built_in).collect()
}

fn platforms(list: &[muster_inventory::Platform]) -> muster_schedules::Platforms {
    let words: Vec<&str> = list.iter().map(|platform| platform.as_str()).collect();
    words.join(",").parse().unwrap_or_default()
}

impl Server {
    /// Opens the planes, loads what is kept in memory and binds the listeners.
    ///
    /// # Errors
    /// With what is wrong and what to do; nothing runs then.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        identity::prepare_data_dir(&config.data_dir)?;
        let id = identity::instance_id(&config.data_dir)?;
        let planes = Planes::open(&config).await?;
        let listeners = bind(&config)?;
        let key = Key::load_or_create(&secret_key_file(&config)).context("read the secret key")?;
        let key = Arc::new(key);
        let certificates =
            Arc::new(Certificates::open(&config, &planes.catalog, &key, &*clock).await?);
        let roles = roles(&config);
        let info = InstanceInfo {
            id,
            name: names::host_name().unwrap_or_else(|| id.to_string()),
            roles,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: LEVEL,
            addresses: [&listeners.operators, &listeners.agents]
                .iter()
                .filter_map(|listener| Some(listener.local_addr().ok()?.to_string()))
                .collect(),
        };
        let directory = Directory::open(planes.catalog.clone(), planes.bus.clone())
            .await
            .context("load endpoints")?;
        let presence = Presence::new(id, clock.clone());
        presence.load(&planes.catalog).await.context("load presence")?;
        let hunts = Hunts::open(
            planes.catalog.clone(),
            planes.bus.clone(),
            directory.clone(),
            presence.clone(),
            clock.clone(),
        )
        .await
        .context("load hunts")?;
        let inventory = Inventory::open(muster_inventory::Deps {
            catalog: planes.catalog.clone(),
            bus: planes.bus.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            instance: id,
        })
        .await
        .context("load the inventory")?;
        let uploads = Uploads::open(
            planes.catalog.clone(),
            planes.archive.clone(),
            &key,
            upload_options(&config),
        )
        .await
        .context("open uploads")?;
        let schedules = Schedules::load(
            planes.catalog.clone(),
            planes.bus.clone(),
            directory.clone(),
            built_in_schedules(),
        )
        .await
        .context("load schedules")?;
        let options = muster_cluster::Options::default();
        let (cluster, service) =
            Cluster::start(planes.catalog.clone(), planes.bus.clone(), info, options)
                .await
                .context("join the cluster")?;
        let writer = format!("{}-{}", id.0.simple(), cluster.incarnation());

        let gateway_metrics = Arc::new(Metrics::default());
        let ingest = Ingest::new(
            planes.stream.clone(),
            planes.archive.clone(),
            &writer,
            clock.clone(),
            gateway_metrics.clone(),
        );
        let admissions = Arc::new(Admissions::new(
            muster_gateway::Options {
                budget_bytes: u32::try_from(config.agents.bytes_in_flight.0).unwrap_or(u32::MAX),
                ..muster_gateway::Options::default()
            },
            &*planes.stream,
            clock.clone(),
            gateway_metrics.clone(),
        ));
        let sessions = Sessions::new(gateway_metrics.clone());
        let delivery = Delivery::new(
            hunts.clone(),
            sessions.clone(),
            ingest.clone(),
            vec![Arc::new(NativeGateway), Arc::new(OsqueryGateway::new(directory.clone()))],
            clock.clone(),
            gateway_metrics.clone(),
        );
        let ticket_key = muster_cluster::secrets::get_or_create(
            &planes.catalog,
            &key,
            "native/ticket/1",
            || rand::random::<[u8; 32]>().to_vec(),
        );
        let ticket_key = ticket_key.await.context("read the ticket key")?;
        let agents = agents_listener(&config);
        let enrolments = enrolments(&config, agents.proxies.clone());
        let native = NativeState::new(Parts {
            options: muster_gateway_native::Options {
                ping_interval: config.agents.ping_interval.0,
                ..muster_gateway_native::Options::default()
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            catalog: planes.catalog.clone(),
            directory: directory.clone(),
            presence: presence.clone(),
            ingest: ingest.clone(),
            admissions: admissions.clone(),
            enrolments: enrolments.clone(),
            proxies: agents.proxies.clone(),
            sessions: sessions.clone(),
            delivery: delivery.clone(),
            clock: clock.clone(),
            metrics: gateway_metrics.clone(),
            server_cas: Arc::new(arc_swap::ArcSwap::from_pointee(certificates.ca_pem().to_owned())),
            ticket_key: ticket_key
                .try_into()
                .map_err(|_| anyhow::anyhow!("the ticket key in the catalog is damaged"))?,
        });

        let osquery = super::osquery::build(super::osquery::Deps {
            config: &config,
            planes: &planes,
            key: key.clone(),
            clock: clock.clone(),
            directory: directory.clone(),
            presence: presence.clone(),
            hunts: hunts.clone(),
            schedules: schedules.clone(),
            inventory: inventory.clone(),
            uploads: uploads.clone(),
            delivery: delivery.clone(),
            ingest: ingest.clone(),
            admissions,
            enrolments,
            metrics: gateway_metrics.clone(),
            listener: agents.clone(),
        })
        .await?;

        let dispatcher = roles.has(Role::Scheduler).then(|| {
            Dispatcher::new(hunts.clone(), planes.stream.clone(), cluster.leases(Job::Dispatch))
        });
        let worker = roles.has(Role::Worker).then(|| {
            let decoders: [(AgentKind, Arc<dyn Decode>); 2] = [
                (AgentKind::Native, Arc::new(NativeDecoder)),
                (AgentKind::Osquery, Arc::new(OsqueryDecoder)),
            ];
            let known = inventory.clone();
            let (tables, events) = (schedules.clone(), schedules.clone());
            let live = LiveHunts::new(hunts.clone(), directory.clone())
                .with_scheduled(move |org, kind, source| known.scheduled(org, kind, source))
                .with_scheduled(move |org, kind, source| tables.scheduled(org, kind, source))
                .with_events(move |org, kind, source| events.is_events(org, kind, source));
            let deps = WorkerDeps {
                catalog: planes.catalog.clone(),
                archive: planes.archive.clone(),
                stream: planes.stream.clone(),
                bus: planes.bus.clone(),
                clock: clock.clone(),
                hunts: Arc::new(live),
                decoders: Arc::new(decoders.into()),
                writer: writer.clone(),
                probe: None,
            };
            let options = muster_intake::worker::Options {
                retire_grace: config.retention.grace.0,
                ..Default::default()
            };
            Worker::new(deps, options, cluster.leases(Job::Shards))
        });
        let janitor = roles.has(Role::Worker).then(|| {
            Janitor::new(
                planes.catalog.clone(),
                planes.archive.clone(),
                clock.clone(),
                janitor_options(&config, writer),
                cluster.leases(Job::Compact),
            )
        });

        let finisher = roles.has(Role::Worker).then(|| {
            Finisher::new(
                planes.catalog.clone(),
                planes.archive.clone(),
                clock.clone(),
                upload_options(&config),
                cluster.leases(Job::Uploads),
            )
        });

        let sink_options = muster_sinks::Options::new(config.data_dir.join("sinks"));
        let sinks = roles.has(Role::Worker).then(|| {
            let deps = muster_sinks::Deps {
                catalog: planes.catalog.clone(),
                archive: planes.archive.clone(),
                directory: directory.clone(),
                clock: clock.clone(),
                key: key.clone(),
                leases: cluster.leases(Job::Sinks),
            };
            muster_sinks::Service::new(deps, sink_options.clone())
        });

        let (api_shutdown, api_tasks) = (CancellationToken::new(), TaskTracker::new());
        let api = ApiState::new(ApiDeps {
            catalog: planes.catalog.clone(),
            bus: planes.bus.clone(),
            clock: clock.clone(),
            instance: id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: directory.clone(),
            presence: presence.clone(),
            hunts: hunts.clone(),
            inventory: inventory.clone(),
            schedules: schedules.clone(),
            uploads: uploads.clone(),
            sinks: muster_sinks::Sinks::new(
                planes.catalog.clone(),
                key.clone(),
                clock.clone(),
                sink_options,
            ),
            secret_key: key.clone(),
            pressure: Some(planes.stream.pressure()),
            sql: muster_api::SqlOptions {
                catalog_url: catalog_url(&config).into(),
                archive_url: archive_url(&config),
                concurrent: config.sql.concurrent,
                memory_bytes: config.sql.memory.0,
                time: config.sql.time.0,
                rows: config.sql.rows,
                ..muster_api::SqlOptions::default()
            },
            options: muster_api::Options {
                approvals: muster_api::authorise::Approvals {
                    hunt_above_endpoints: config.approvals.hunt_above_endpoints,
                },
                trusted_proxies: config.listeners.trusted_proxies.clone(),
                ..muster_api::Options::default()
            },
            shutdown: api_shutdown.clone(),
            tasks: api_tasks.clone(),
        });
        let rules = roles.has(Role::Scheduler).then(|| {
            Evaluator::new(
                planes.catalog.clone(),
                planes.bus.clone(),
                directory.clone(),
                clock.clone(),
                Arc::new(muster_api::inventory::RuleSql::new(api.clone())),
                cluster.leases(Job::Schedule),
            )
        });
        let registry = metrics::registry(metrics::Sources {
            gateway: gateway_metrics.clone(),
            stream: planes.stream.clone(),
            catalog: planes.catalog.clone(),
            bus: planes.bus.clone(),
            directory: directory.clone(),
            worker: worker.as_ref().map(Worker::stats),
        });
        Ok(Self {
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

    /// SHA-256 of the CA's certificate.
    pub fn fingerprint(&self) -> &str {
        &self.certificates.fingerprint
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        self.certificates.ca_pem()
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.planes.catalog
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// Who is connected here.
    pub fn sessions(&self) -> Arc<Sessions> {
        self.sessions.clone()
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound socket has an address")
}
