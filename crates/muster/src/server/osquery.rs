//! What serves osquery agents.

use std::sync::Arc;

use anyhow::Context;
use muster_cluster::secrets::Key;
use muster_endpoints::node_key::{KeyRing, NodeKeys};
use muster_endpoints::{Directory, EnrolQueue, Presence};
use muster_gateway::http::Server as HttpServer;
use muster_gateway::listener::ListenerOptions;
use muster_gateway::{Admissions, Delivery, Enrolments, Ingest, Metrics};
use muster_gateway_osquery::{Identifier, Options, Osquery, OsqueryService, Parts};
use muster_hunts::Hunts;
use muster_inventory::Inventory;
use muster_schedules::Schedules;
use muster_types::Clock;
use muster_uploads::Uploads;

use super::planes::Planes;
use crate::config::{Config, OsqueryIdentifier};

/// The osquery gateway, and what has to run beside it.
pub struct Built {
    /// On the agents' listener.
    pub server: Arc<HttpServer<OsqueryService>>,
    /// The keys of agents.
    pub ring: KeyRing,
}

/// What it is built from.
pub struct Deps<'a> {
    pub config: &'a Config,
    pub planes: &'a Planes,
    pub key: Arc<Key>,
    pub clock: Arc<dyn Clock>,
    pub directory: Directory,
    pub presence: Presence,
    pub hunts: Hunts,
    pub schedules: Schedules,
    pub inventory: Inventory,
    pub uploads: Uploads,
    pub delivery: Arc<Delivery>,
    pub ingest: Ingest,
    pub admissions: Arc<Admissions>,
    pub enrolments: Arc<Enrolments>,
    pub enrolling: EnrolQueue,
    pub metrics: Arc<Metrics>,
    pub listener: ListenerOptions,
}

/// Builds it.
///
/// # Errors
/// When the keys of agents cannot be read.
pub async fn build(deps: Deps<'_>) -> anyhow::Result<Built> {
    let (catalog, clock) = (deps.planes.catalog.clone(), deps.clock.clone());
    let ring = KeyRing::open(catalog.clone(), deps.key, clock.clone()).await;
    let ring = ring.context("read the keys of agents")?;
    let osquery = Osquery::new(Parts {
        options: Options {
            identifier: identifier(deps.config.agents.osquery_identifier),
            ..Options::default()
        },
        catalog,
        keys: NodeKeys::new(ring.clone(), deps.directory.clone()),
        directory: deps.directory,
        presence: deps.presence,
        hunts: deps.hunts,
        delivery: deps.delivery,
        ingest: deps.ingest,
        admissions: deps.admissions.clone(),
        configs: Arc::new(deps.schedules),
        details: Arc::new(deps.inventory),
        uploads: deps.uploads,
        enrolments: deps.enrolments,
        enrolling: deps.enrolling,
        clock,
        metrics: deps.metrics,
    });
    let server = HttpServer::new(OsqueryService(osquery), deps.admissions.budget(), deps.listener);
    Ok(Built { server, ring })
}

fn identifier(configured: OsqueryIdentifier) -> Identifier {
    match configured {
        OsqueryIdentifier::Provided => Identifier::Provided,
        OsqueryIdentifier::Uuid => Identifier::Uuid,
        OsqueryIdentifier::Instance => Identifier::Instance,
        OsqueryIdentifier::Hostname => Identifier::Hostname,
    }
}
