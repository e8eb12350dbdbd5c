//! What is done to a cluster.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use muster_testkit::wait_for;

use crate::support::{Ask, SOON};
use crate::world::World;

/// Longer than the nine seconds a lease lives, so that others take over meanwhile.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(12);
/// How far the wall clock of one instance jumps, forth and back.
const JUMP_SECONDS: i64 = 2 * 3600;

/// One fault. Instances and nodes are named by their place.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// An instance is killed, and started again a second later.
    Kill(usize),
    /// An instance is killed, and stays away until everything is settled without it.
    Away(usize),
    /// No packet passes between an instance and a store, for longer than a lease.
    Sever(usize, &'static str),
    /// PostgreSQL is killed and comes back.
    RestartCatalog,
    /// PostgreSQL is gone for good, and its standby takes over.
    FailOver,
    /// A NATS server is killed and comes back.
    RestartNats(usize),
    /// A NATS server of several stays away until everything is settled without it.
    LoseNode(usize),
    /// An instance's time stops for longer than a lease, and goes on.
    Pause(usize),
    /// All instances are killed and all start in the same second, one of them twice.
    TwoOfEverything,
    /// One instance's wall clock jumps ahead, and then behind.
    ClockJump,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(one) => write!(f, "instance {one} is killed and comes back"),
            Self::Away(one) => write!(f, "instance {one} is killed and stays away"),
            Self::Sever(one, store) => write!(f, "instance {one} is cut off from {store}"),
            Self::RestartCatalog => write!(f, "PostgreSQL is killed and comes back"),
            Self::FailOver => write!(f, "PostgreSQL dies and its standby takes over"),
            Self::RestartNats(node) => write!(f, "NATS server {node} is killed and comes back"),
            Self::LoseNode(node) => write!(f, "NATS server {node} is lost"),
            Self::Pause(one) => write!(f, "instance {one} is stopped with a lease that goes stale"),
            Self::TwoOfEverything => write!(f, "everything starts in one second, one of it twice"),
            Self::ClockJump => write!(f, "the last instance's clock jumps"),
        }
    }
}

impl Fault {
    /// An instance that people can use meanwhile.
    pub fn operator(self, world: &World) -> usize {
        let struck = match self {
            Self::Kill(one) | Self::Away(one) | Self::Sever(one, _) | Self::Pause(one) => Some(one),
            Self::ClockJump => Some(world.cluster.instances().len() - 1),
            _ => None,
        };
        world.operator(struck)
    }

    /// Whether it lasts until everything is settled in spite of it.
    pub fn lasts(self) -> bool {
        matches!(self, Self::Away(_) | Self::LoseNode(_))
    }

    /// Does it.
    pub fn strike(self, world: &mut World) -> anyhow::Result<()> {
        let instances = world.cluster.instances();
        match self {
            Self::Kill(one) => {
                instances[one].kill();
                std::thread::sleep(Duration::from_secs(1));
            }
            Self::Away(one) => instances[one].kill(),
            Self::Sever(one, store) => {
                world.cluster.sever(one, store)?;
                std::thread::sleep(LONGER_THAN_A_LEASE);
            }
            Self::RestartCatalog => world.catalog.kill()?,
            Self::FailOver => {
                world.catalog.kill()?;
                world.standby.as_ref().context("no standby")?.promote()?;
            }
            Self::RestartNats(node) | Self::LoseNode(node) => world.nats.kill(node)?,
            Self::Pause(one) => {
                instances[one].pause()?;
                std::thread::sleep(LONGER_THAN_A_LEASE);
            }
            Self::TwoOfEverything => instances.iter().for_each(|one| one.kill()),
            Self::ClockJump => {
                let Some(clock) = &world.clock else { return Ok(()) };
                for jump in [JUMP_SECONDS, -JUMP_SECONDS] {
                    clock.jump(jump)?;
                    std::thread::sleep(Duration::from_secs(4));
                }
            }
        }
        Ok(())
    }

    /// Undoes what can be undone.
    pub fn mend(self, world: &mut World) -> anyhow::Result<()> {
        let instances = world.cluster.instances();
        match self {
            Self::Kill(one) | Self::Away(one) => instances[one].start()?,
            Self::Sever(one, store) => world.cluster.heal(one, store)?,
            Self::RestartCatalog => world.catalog.restart()?,
            Self::FailOver => {}
            Self::RestartNats(node) | Self::LoseNode(node) => {
                world.nats.restart(node)?;
                world.nats.wait_ready()?;
            }
            Self::Pause(one) => instances[one].resume()?,
            Self::TwoOfEverything => start_together(world)?,
            Self::ClockJump => world.clock.iter().try_for_each(|clock| clock.jump(0))?,
        }
        alive(world)
    }
}

/// All at once, the first twice from one data folder: the second copy is an instance of its own.
fn start_together(world: &World) -> anyhow::Result<()> {
    let instances = world.cluster.instances();
    let twin = instances[0].twin()?;
    instances.iter().try_for_each(|one| one.launch())?;
    twin.launch()?;
    for one in instances.iter().chain([&twin]) {
        one.wait_ready()?;
    }
    let told = alive_become(world, instances.len() + 1);
    twin.kill();
    told
}

/// Every instance that runs has its place in the cluster.
fn alive(world: &World) -> anyhow::Result<()> {
    for one in world.cluster.instances() {
        if let Some(status) = one.ended()? {
            anyhow::bail!("{} ended with {status}:\n{}", one.name(), one.log());
        }
    }
    let wanted = world.cluster.instances().iter().filter(|one| one.pid().is_some()).count();
    alive_become(world, wanted)
}

/// Waits until so many have their place.
fn alive_become(world: &World, wanted: usize) -> anyhow::Result<()> {
    let mut last = Vec::new();
    let waited = wait_for("all instances to be alive", SOON, || {
        // One that just came back may not answer yet.
        let Ok(listed) = world.operator_instance().list(&["instances"]) else { return Ok(None) };
        last = listed;
        let alive = last.iter().filter(|instance| instance["alive"] == true).count();
        Ok((alive >= wanted).then_some(()))
    });
    waited.with_context(|| format!("{wanted} should be alive: {last:?}"))
}
