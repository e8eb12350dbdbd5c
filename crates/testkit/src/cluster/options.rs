//! What a cluster is made of.

use std::fmt::Write as _;
use std::path::Path;

use super::network::{Network, PORTS};
use super::stores::Stores;

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub(super) stores: Stores,
    pub(super) instances: Vec<InstanceOptions>,
    pub(super) env: Vec<(String, String)>,
    pub(super) extra: String,
    pub(super) partitions: bool,
    pub(super) namespaces: bool,
}

/// How one instance differs from the others.
#[derive(Clone, Debug, Default)]
pub struct InstanceOptions {
    /// Its roles; all without any.
    pub roles: Vec<String>,
    /// More environment.
    pub env: Vec<(String, String)>,
    /// Another binary than the one under test, for example of another version.
    pub binary: Option<std::path::PathBuf>,
    /// What is put before its program, such as `taskset -c 1`.
    pub prefix: Vec<String>,
}

impl InstanceOptions {
    /// With these roles, as `frontend,api`.
    #[must_use]
    pub fn roles(roles: &str) -> Self {
        Self { roles: roles.split(',').map(str::to_owned).collect(), ..Self::default() }
    }
}

impl ClusterOptions {
    /// Two instances with all roles on these stores, on loopback.
    #[must_use]
    pub fn new(stores: Stores) -> Self {
        Self {
            stores,
            instances: vec![InstanceOptions::default(); 2],
            env: Vec::new(),
            extra: String::new(),
            partitions: false,
            namespaces: false,
        }
    }

    /// So many instances with all roles.
    #[must_use]
    pub fn instances(mut self, count: usize) -> Self {
        self.instances = vec![InstanceOptions::default(); count];
        self
    }

    /// Exactly these instances.
    #[must_use]
    pub fn with(mut self, instances: Vec<InstanceOptions>) -> Self {
        self.instances = instances;
        self
    }

    /// An environment variable of all instances.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// More lines of the configuration file (YAML).
    #[must_use]
    pub fn extra(mut self, yaml: &str) -> Self {
        let _ = writeln!(self.extra, "{}", yaml.trim_end());
        self
    }

    /// Instances reach each store through a wire of their own, which [`super::Cluster::sever`] cuts.
    #[must_use]
    pub fn partitions(mut self) -> Self {
        self.partitions = true;
        self
    }

    /// Each instance in a network namespace of its own, with a link to each store. Needs root, see
    /// [`Network::available`].
    #[must_use]
    pub fn namespaces(mut self, namespaces: bool) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// The configuration file: one for all instances. What differs (folder, roles, on loopback ports,
    /// with partitions the way to the stores) is told by arguments and environment.
    pub(super) fn file(&self, dir: &Path, network: &Network) -> String {
        let mut text = self.stores.yaml();
        let _ = writeln!(text, "tls: {{secret_key_file: '{}'}}", dir.join("secret.key").display());
        if let Network::Namespaces(_) = network {
            let [operators, agents, metrics] = PORTS.map(|port| format!("'0.0.0.0:{port}'"));
            let _ = writeln!(
                text,
                "listeners: {{operators: {operators}, agents: {agents}, metrics: {metrics}}}"
            );
        }
        // All simulated agents come from one address.
        text += "agents: {enrolments_per_second: 5000, enrolments_per_address: 20000, \
                 enrolments_per_address_per_second: 5000, connections_per_address: 20000}\n";
        text + &self.extra
    }
}
