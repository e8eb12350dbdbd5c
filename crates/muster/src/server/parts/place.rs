//! This instance's place in the cluster: its row, its leases, its heartbeat.

use anyhow::Context;
use muster_cluster::{Cluster, Facts, InstanceInfo, Pins, Service};

use super::Base;
use crate::server::formats::FORMATS;
use crate::server::group::Groups;
use crate::server::listeners::Listeners;
use crate::server::runtimes::Runtimes;
use crate::server::{busy::Busy, names, program, reachable, seat};

/// A registered instance.
pub struct Place {
    pub cluster: Cluster,
    /// Names objects of this start of this instance, so that no two writers use one name.
    pub writer: String,
    /// What people call this instance.
    pub name: String,
    service: Service,
}

impl Place {
    /// Registers, and takes this instance's share of the leases.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn join(base: &Base, listeners: &Listeners) -> anyhow::Result<Self> {
        let instance = &base.config.instance;
        let host = instance.name.clone().or_else(names::host_name);
        let told = reachable::told(listeners, base.roles, &instance.advertise, &names::addresses());
        let info = InstanceInfo {
            id: base.id,
            name: host.map_or_else(|| base.id.to_string(), |host| base.seat.name(&host)),
            roles: base.roles,
            version: program::version(),
            level: program::program().level,
            addresses: [&told.operators[..], &told.agents].concat(),
            facts: Facts {
                listeners: told,
                pins: Pins::parse(&base.config.pins).context("pins")?,
                alone: seat::alone(&base.config),
                ..Facts::default()
            },
        };
        let name = info.name.clone();
        let options = muster_cluster::Options { formats: FORMATS.to_vec(), ..Default::default() };
        let (catalog, bus) = (base.planes.catalog.clone(), base.planes.bus.clone());
        let (cluster, service) =
            Cluster::start(catalog, bus, info, options).await.context("join the cluster")?;
        let writer = format!("{}-{}", base.id.0.simple(), cluster.incarnation());
        Ok(Self { cluster, writer, name, service })
    }

    /// Renews the leases; an instance that lost its place ends. With each renewal it tells how busy it is.
    pub fn run(self, mut busy: Busy, groups: &mut Groups, runtimes: &Runtimes) {
        let (service, superseded) =
            (self.service.with_load(move || busy.tell()), groups.failed.clone());
        let token = groups.cluster.token.clone();
        groups.cluster.run(runtimes.work.handle(), async move {
            if let Err(error) = service.run(token).await {
                tracing::error!(%error, "this instance lost its place in the cluster");
                superseded.cancel();
            }
        });
    }
}
