//! What every part is built from: the configuration, the planes, who this instance is.

use std::sync::Arc;

use anyhow::Context;
use muster_cluster::secrets::Key;
use muster_cluster::{Role, Roles};
use muster_types::{Clock, InstanceId};

use crate::config::{Config, RoleName};
use crate::server::certificates::{Certificates, secret_key_file};
use crate::server::group::Groups;
use crate::server::identity;
use crate::server::listeners::Listeners;
use crate::server::planes::Planes;
use crate::server::runtimes::Runtimes;
use crate::server::seat::Seat;

/// What every part is built from.
pub struct Base {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub planes: Planes,
    /// Seals the installation's secrets.
    pub key: Arc<Key>,
    pub certificates: Arc<Certificates>,
    /// This instance.
    pub id: InstanceId,
    /// Its own folder among the copies on this host.
    pub seat: Seat,
    pub roles: Roles,
}

impl Base {
    /// Opens the planes and binds the listeners.
    ///
    /// # Errors
    /// With what is wrong and what to do.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<(Self, Listeners)> {
        identity::prepare_data_dir(&config.data_dir)?;
        let seat = Seat::take(&config)?;
        let id = identity::instance_id(&seat.dir)?;
        let key = Key::load_or_create(&secret_key_file(&config)).context("read the secret key")?;
        let key = Arc::new(key);
        let planes = Planes::open(&config, &key).await?;
        let listeners = Listeners::bind(&config)?;
        let certificates =
            Arc::new(Certificates::open(&config, &planes.catalog, &key, &*clock).await?);
        let roles = roles(&config);
        Ok((Self { config, clock, planes, key, certificates, id, seat, roles }, listeners))
    }

    /// Follows the CAs from here on.
    pub fn follow_cas(&self, groups: &mut Groups, runtimes: &Runtimes) {
        let (certificates, key) = (self.certificates.clone(), self.key.clone());
        let (catalog, clock) = (self.planes.catalog.clone(), self.clock.clone());
        let ground = &mut groups.ground;
        let token = ground.token.clone();
        ground.run(runtimes.work.handle(), async move {
            certificates.follow(&catalog, &key, &*clock, &token).await;
        });
    }
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
