//! This instance's place in the cluster: its row, its leases, its heartbeat.

use anyhow::Context;
use muster_cluster::{Cluster, InstanceInfo, Service};

use super::Base;
use crate::server::group::Groups;
use crate::server::listeners::Listeners;
use crate::server::names;
use crate::server::runtimes::Runtimes;

/// The newest formats this version reads and writes.
const LEVEL: u32 = 1;

/// A registered instance.
pub struct Place {
    pub cluster: Cluster,
    /// Names objects of this start of this instance, so that no two writers use one name.
    pub writer: String,
    service: Service,
}

impl Place {
    /// Registers, and takes this instance's share of the leases.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn join(base: &Base, listeners: &Listeners) -> anyhow::Result<Self> {
        let info = InstanceInfo {
            id: base.id,
            name: names::host_name().unwrap_or_else(|| base.id.to_string()),
            roles: base.roles,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: LEVEL,
            addresses: [&listeners.operators, &listeners.agents]
                .iter()
                .filter_map(|listener| Some(listener.local_addr().ok()?.to_string()))
                .collect(),
        };
        let options = muster_cluster::Options::default();
        let (catalog, bus) = (base.planes.catalog.clone(), base.planes.bus.clone());
        let (cluster, service) =
            Cluster::start(catalog, bus, info, options).await.context("join the cluster")?;
        let writer = format!("{}-{}", base.id.0.simple(), cluster.incarnation());
        Ok(Self { cluster, writer, service })
    }

    /// Renews the leases; an instance that lost its place ends.
    pub fn run(self, groups: &mut Groups, runtimes: &Runtimes) {
        let (service, superseded) = (self.service, groups.failed.clone());
        let token = groups.cluster.token.clone();
        groups.cluster.run(runtimes.work.handle(), async move {
            if let Err(error) = service.run(token).await {
                tracing::error!(%error, "this instance lost its place in the cluster");
                superseded.cancel();
            }
        });
    }
}
