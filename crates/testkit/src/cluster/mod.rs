//! A cluster under test: several real `muster server` processes from one configuration file.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use muster_testkit::{Cluster, ClusterOptions, Stores};
//! # let stores = Stores::default();
//! let cluster = Cluster::start(&ClusterOptions::new(stores).instances(3))?;
//! cluster.instance(0).ok(&["instances"])?;
//! cluster.instance(1).kill();
//! cluster.instance(1).start()?;
//! # Ok(()) }
//! ```
//!
//! Everything ends with the [`Cluster`], and with the test process however that ends. The stores are the
//! test's own: it names them ([`Stores`]) and stops or restarts them as it likes.

mod access;
mod clock;
mod instance;
mod network;
mod options;
mod spawn;
mod stores;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tempfile::TempDir;

pub use access::Access;
pub use clock::SkewedClock;
pub use instance::Instance;
pub use network::Network;
pub use options::{ClusterOptions, InstanceOptions};
pub use spawn::{dying, spawn};
pub use stores::Stores;
pub use wire::{Flow, Wire};

use wire::Wires;

/// Running instances. Dropping it kills them.
pub struct Cluster {
    // In the order in which they end.
    instances: Vec<Instance>,
    wires: Wires,
    network: Network,
    doors: Vec<String>,
    access: Option<Arc<Access>>,
    config: PathBuf,
    dir: TempDir,
}

impl Cluster {
    /// Starts all instances at once, waits until they are ready, and signs in as the first
    /// administrator.
    ///
    /// # Errors
    /// When one does not become ready; with what it printed.
    pub fn start(options: &ClusterOptions) -> anyhow::Result<Self> {
        let mut cluster = Self::build(options)?;
        let starting = cluster.instances.iter().map(Instance::launch);
        starting.collect::<anyhow::Result<()>>()?;
        for instance in &cluster.instances {
            instance.wait_ready()?;
        }
        cluster.sign_in()?;
        Ok(cluster)
    }

    /// Writes the file and lays the network; starts nothing.
    ///
    /// # Errors
    /// When a port, a folder or a namespace cannot be had.
    pub fn build(options: &ClusterOptions) -> anyhow::Result<Self> {
        ensure!(!options.instances.is_empty(), "a cluster has an instance");
        let dir = tempfile::Builder::new().prefix("muster-cluster-").tempdir()?;
        let doors: Vec<String> =
            options.stores.doors.iter().map(|door| door.name.clone()).collect();
        let count = options.instances.len();
        let network = match options.namespaces {
            true => Network::namespaces(count, doors.len())?,
            false => Network::Loopback,
        };
        let config = dir.path().join("muster.yaml");
        std::fs::write(&config, options.file(dir.path(), &network))?;
        let mut wires = Wires::new()?;
        let mut instances = Vec::with_capacity(count);
        for (index, own) in options.instances.iter().enumerate() {
            let mut env = options.env.clone();
            if options.partitions || options.namespaces {
                wires.lay(&options.stores, &network, index)?;
                env.extend(options.stores.through(|door| wires.address(index, door)));
            }
            env.extend(options.stores.env.iter().cloned());
            env.extend(own.env.iter().cloned());
            let instance = Instance::new(index, own, env, &config, dir.path(), &network)?;
            instances.push(instance);
        }
        let agents: Vec<_> = serving(&instances).map(|one| one.addresses()[1]).collect();
        wires.balance(&agents)?;
        Ok(Self { instances, wires, network, doors, access: None, config, dir })
    }

    /// Signs in as the first administrator, makes an enrolment secret, and leaves a context per
    /// instance for [`Instance::command`]. [`Cluster::start`] has done so.
    ///
    /// # Errors
    /// When no instance made the first administrator.
    pub fn sign_in(&mut self) -> anyhow::Result<()> {
        let access = Arc::new(Access::gain(&self.instances, self.dir.path())?);
        access.leave_contexts(&self.instances)?;
        self.access = Some(access);
        Ok(())
    }

    /// All instances.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// One instance, by its place in the options.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn instance(&self, index: usize) -> &Instance {
        &self.instances[index]
    }

    /// The administrator's token, the CA and the enrolment secret.
    ///
    /// # Errors
    /// When nobody has signed in.
    pub fn access(&self) -> anyhow::Result<&Access> {
        self.access.as_deref().context("nobody has signed in")
    }

    /// The configuration file of all instances.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A place for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Whether instances are in network namespaces of their own.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        !matches!(self.network, Network::Loopback)
    }

    /// Agents' URLs of the instances that serve agents.
    #[must_use]
    pub fn agents_urls(&self) -> Vec<String> {
        serving(&self.instances).map(Instance::agents_url).collect()
    }

    /// One URL for agents that know only one: a plain balancer in front of all instances that serve
    /// agents.
    ///
    /// # Errors
    /// When there is none.
    pub fn balanced_agents_url(&self) -> anyhow::Result<String> {
        let address = self.wires.balancer().context("there is no balancer")?;
        Ok(format!("https://{address}"))
    }

    /// A fleet of simulated native agents that are spread over all instances, and go on to the next
    /// when one is away: `muster loadgen native`.
    ///
    /// # Errors
    /// When there is no binary, or nobody has signed in.
    pub fn native_agents(&self, args: &[&str]) -> anyhow::Result<Command> {
        let access = self.access()?;
        let mut command = dying(&crate::binary()?);
        command.args(["loadgen", "native", "--interval", "1"]);
        for url in self.agents_urls() {
            command.args(["--server", &url]);
        }
        command.arg("--ca").arg(&access.ca).arg("--secret-file").arg(&access.secret_file);
        command.args(args);
        Ok(command)
    }

    /// A fleet of simulated osquery agents behind the balancer: `muster loadgen osquery`.
    ///
    /// # Errors
    /// As [`Cluster::native_agents`].
    pub fn osquery_agents(&self, args: &[&str]) -> anyhow::Result<Command> {
        let (access, url) = (self.access()?, self.balanced_agents_url()?);
        let mut command = dying(&crate::binary()?);
        command.args(["loadgen", "osquery", "--interval", "1", "--server", &url]);
        command.arg("--ca").arg(&access.ca).args(args);
        command.env("MUSTER_ENROL_SECRET", access.secret()?);
        Ok(command)
    }

    /// Takes a store away from an instance: packets are dropped, in silence. The store is named as in
    /// [`Stores::door`].
    ///
    /// # Errors
    /// When the options asked for no partitions, or there is no such store.
    pub fn sever(&self, instance: usize, store: &str) -> anyhow::Result<()> {
        self.switch(instance, store, Flow::Silent)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// As [`Cluster::sever`].
    pub fn heal(&self, instance: usize, store: &str) -> anyhow::Result<()> {
        self.switch(instance, store, Flow::Open)
    }

    fn switch(&self, instance: usize, store: &str, flow: Flow) -> anyhow::Result<()> {
        let door = self.doors.iter().position(|door| door == store);
        let door = door.with_context(|| format!("no store is called {store:?}"))?;
        match &self.network {
            Network::Loopback => self.wires.set(instance, store, flow),
            network => network.set(instance, door + 1, flow == Flow::Open),
        }
    }
}

/// Those that serve agents.
fn serving(instances: &[Instance]) -> impl Iterator<Item = &Instance> {
    instances.iter().filter(|instance| instance.has_role("frontend"))
}
