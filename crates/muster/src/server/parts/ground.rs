//! What the roles stand on: copies of the catalog kept in memory, on every instance.

use anyhow::Context;
use muster_endpoints::{Directory, Presence};
use muster_hunts::Hunts;
use muster_inventory::Inventory;
use muster_schedules::{BuiltIn, Schedules};
use muster_uploads::Uploads;

use super::Base;
use crate::config::Config;
use crate::server::group::Groups;
use crate::server::runtimes::Runtimes;

/// Endpoints, hunts and what else is kept in memory; cheap to clone.
#[derive(Clone)]
pub struct Ground {
    pub directory: Directory,
    pub presence: Presence,
    pub hunts: Hunts,
    pub inventory: Inventory,
    pub uploads: Uploads,
    pub schedules: Schedules,
}

impl Ground {
    /// Loads all of it.
    ///
    /// # Errors
    /// With what could not be loaded.
    pub async fn open(base: &Base) -> anyhow::Result<Self> {
        let (planes, clock) = (&base.planes, &base.clock);
        let directory = Directory::open(planes.catalog.clone(), planes.bus.clone())
            .await
            .context("load endpoints")?;
        let presence = Presence::new(base.id, clock.clone());
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
            instance: base.id,
        })
        .await
        .context("load the inventory")?;
        let uploads = Uploads::open(
            planes.catalog.clone(),
            planes.archive.clone(),
            &base.key,
            upload_options(&base.config),
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
        Ok(Self { directory, presence, hunts, inventory, uploads, schedules })
    }

    /// Follows the catalog from here on.
    pub fn run(self, base: &Base, groups: &mut Groups, runtimes: &Runtimes) {
        let (ground, on) = (&mut groups.ground, runtimes.work.handle());
        let Self { directory, presence, hunts, inventory, schedules, uploads: _ } = self;
        let token = ground.token.clone();
        ground.run(on, async move { directory.run(token).await });
        let token = ground.token.clone();
        ground.run(on, async move { hunts.run(token).await });
        let token = ground.token.clone();
        ground.run(on, async move { inventory.run(token).await });
        ground.run(on, schedules.run(ground.token.clone()));
        let (catalog, bus) = (base.planes.catalog.clone(), base.planes.bus.clone());
        let token = ground.token.clone();
        ground.run(on, async move { presence.run(catalog, bus, token).await });
    }
}

/// How uploads are kept; the same for those who store and those who serve them.
pub fn upload_options(config: &Config) -> muster_uploads::Options {
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
