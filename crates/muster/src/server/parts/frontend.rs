//! The `frontend` role: agents' connections, their protocols, and what is handed to them.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_cluster::{Job, Role};
use muster_endpoints::node_key::KeyRing;
use muster_endpoints::{Directory, EnrolQueue};
use muster_gateway::http::Server as HttpServer;
use muster_gateway::listener::{ListenerOptions, Protocol, Proxies};
use muster_gateway::{Admissions, Delivery, EnrolmentRates, Enrolments, Ingest, Metrics, Sessions};
use muster_gateway_native::{NativeGateway, NativeState, Parts};
use muster_gateway_osquery::{OsqueryGateway, OsqueryService};

use super::{Base, Ground, Place};
use crate::config::Config;
use crate::install::{Cas, Install};
use crate::server::advertised::Advertised;
use crate::server::group::Groups;
use crate::server::health::{self, Ready};
use crate::server::runtimes::Runtimes;
use crate::server::{front, osquery};

/// What serves agents. Built on every instance, since others read its counters; serves only with the
/// role.
pub struct Frontend {
    pub sessions: Arc<Sessions>,
    pub admissions: Arc<Admissions>,
    pub metrics: Arc<Metrics>,
    delivery: Arc<Delivery>,
    native: Arc<NativeState>,
    osquery: Arc<HttpServer<OsqueryService>>,
    ring: KeyRing,
    options: ListenerOptions,
    directory: Directory,
}

impl Frontend {
    /// Builds the gateways.
    ///
    /// # Errors
    /// When a key in the catalog cannot be read.
    pub async fn build(base: &Base, ground: &Ground, place: &Place) -> anyhow::Result<Self> {
        let Base { config, clock, planes, key, .. } = base;
        let metrics = Arc::new(Metrics::default());
        let ingest = Ingest::new(
            planes.stream.clone(),
            planes.archive.clone(),
            &place.writer,
            clock.clone(),
            metrics.clone(),
        );
        let admissions = Arc::new(Admissions::new(
            muster_gateway::Options {
                budget_bytes: u32::try_from(config.agents.bytes_in_flight.0).unwrap_or(u32::MAX),
                ..muster_gateway::Options::default()
            },
            &*planes.stream,
            clock.clone(),
            metrics.clone(),
        ));
        let sessions = Sessions::new(metrics.clone());
        let delivery = Delivery::new(
            ground.hunts.clone(),
            sessions.clone(),
            ingest.clone(),
            vec![Arc::new(NativeGateway), Arc::new(OsqueryGateway::new(ground.directory.clone()))],
            clock.clone(),
            metrics.clone(),
        );
        let options = agents_listener(config);
        let enrolments = enrolments(base, place, options.front.proxies.clone());
        let enrolling = EnrolQueue::new(planes.catalog.clone());
        let native = NativeState::new(Parts {
            options: muster_gateway_native::Options {
                ping_interval: config.agents.ping_interval.0,
                ..muster_gateway_native::Options::default()
            },
            version: crate::server::program::version(),
            catalog: planes.catalog.clone(),
            directory: ground.directory.clone(),
            presence: ground.presence.clone(),
            ingest: ingest.clone(),
            admissions: admissions.clone(),
            enrolments: enrolments.clone(),
            enrolling: enrolling.clone(),
            proxies: options.front.proxies.clone(),
            sessions: sessions.clone(),
            delivery: delivery.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            server_cas: base.certificates.told.clone(),
            ticket_key: ticket_key(base).await?,
        });
        let built = osquery::build(osquery::Deps {
            config,
            planes,
            key: key.clone(),
            clock: clock.clone(),
            directory: ground.directory.clone(),
            presence: ground.presence.clone(),
            hunts: ground.hunts.clone(),
            schedules: ground.schedules.clone(),
            inventory: ground.inventory.clone(),
            uploads: ground.uploads.clone(),
            delivery: delivery.clone(),
            ingest,
            admissions: admissions.clone(),
            enrolments,
            enrolling,
            metrics: metrics.clone(),
            listener: options.clone(),
        })
        .await?;
        let (osquery, ring) = (built.server, built.ring);
        let directory = ground.directory.clone();
        Ok(Self {
            sessions,
            admissions,
            metrics,
            delivery,
            native,
            osquery,
            ring,
            options,
            directory,
        })
    }

    /// Serves agents, on an instance with the role.
    ///
    /// # Errors
    /// When the runtime does not take the listener.
    pub fn run(
        self,
        base: &Base,
        listener: TcpListener,
        ready: Ready,
        groups: &mut Groups,
        runtimes: &Runtimes,
    ) -> anyhow::Result<()> {
        let ring = self.ring.run(groups.ground.token.clone());
        groups.ground.run(runtimes.work.handle(), ring);
        if !base.roles.has(Role::Frontend) {
            return Ok(());
        }
        let (group, on) = (&mut groups.front, runtimes.agents.handle());
        let listener = {
            let _guard = on.enter();
            tokio::net::TcpListener::from_std(listener).context("listen for agents")?
        };
        // Asked in this order whose a connection is; the router has what nobody claims.
        let protocols: Vec<Arc<dyn Protocol>> =
            vec![muster_gateway_native::protocol(self.native.clone()), self.osquery.clone()];
        let native = self.native.clone();
        let advertised = Advertised::default();
        if !base.config.instance.advertise.is_empty() {
            let catalog = base.planes.catalog.clone();
            group.run(on, advertised.clone().follow(catalog, group.token.clone()));
        }
        // Last what osquery agents are told on any other path: no empty body, which they would
        // take for success.
        let fallback = muster_gateway_native::router(self.native)
            .merge(crate::install::router(install(base, advertised)))
            .merge(health::probes(ready))
            .merge(self.osquery.router());
        let serving = muster_gateway::listener::serve(
            listener,
            base.certificates.agents.clone(),
            self.options,
            protocols,
            fallback,
            self.metrics,
            group.token.clone(),
        );
        group.run(on, serving);
        let bus = base.planes.bus.clone();
        let copies = muster_gateway_native::follow_copies(native, bus, group.token.clone());
        group.run(on, copies);
        // Longer than the listener: agents that are still here while others are moved get their work.
        let ground = &mut groups.ground;
        ground.run(on, self.admissions.run(ground.token.clone()));
        ground.run(on, self.delivery.run(base.planes.bus.clone(), ground.token.clone()));
        let revocations =
            muster_gateway::follow_revocations(self.directory, self.sessions, ground.token.clone());
        ground.run(on, revocations);
        Ok(())
    }
}

/// What signs the native link's session tickets: one key for the installation.
async fn ticket_key(base: &Base) -> anyhow::Result<[u8; 32]> {
    let key = muster_cluster::secrets::get_or_create(
        &base.planes.catalog,
        &base.key,
        "native/ticket/1",
        || rand::random::<[u8; 32]>().to_vec(),
    );
    let key = key.await.context("read the ticket key")?;
    key.try_into().map_err(|_| anyhow::anyhow!("the ticket key in the catalog is damaged"))
}

/// What the install page hands out.
fn install(base: &Base, advertised: Advertised) -> Install {
    let certificates = base.certificates.clone();
    let authorities = certificates.authorities();
    let cas = move || {
        let authorities = authorities.borrow();
        let signing = authorities.signing().authority.certificate_pem.clone();
        Cas { signing, trusted: authorities.trusted_pem() }
    };
    Install {
        cas: Box::new(cas),
        advertised,
        names: Box::new(move || certificates.names.load().to_vec()),
    }
}

/// Bounds of the agents' listener.
fn agents_listener(config: &Config) -> ListenerOptions {
    let agents = &config.agents;
    ListenerOptions {
        connections_max: agents.connections as usize,
        connections_per_source_max: agents.connections_per_address.map(|most| most as usize),
        front: front::of_agents(config),
        drain_timeout: config.drain.spread.0 + IN_FLIGHT,
        ..ListenerOptions::default()
    }
}

/// What agents are in the middle of has this long when all of them have been moved.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// Bounds on enrolments, of all gateways of all instances together.
fn enrolments(base: &Base, place: &Place, proxies: Proxies) -> Arc<Enrolments> {
    let agents = &base.config.agents;
    let rates = EnrolmentRates {
        per_second: agents.enrolments_per_second,
        source_per_second: agents.enrolments_per_address_per_second,
        source_burst: agents.enrolments_per_address,
    };
    let share = place.cluster.share(Job::Enrolments);
    Arc::new(Enrolments::shared(rates, proxies, share, base.clock.now()))
}
