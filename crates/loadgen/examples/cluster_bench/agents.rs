//! Processes of simulated agents.

use std::process::{Child, Stdio};

use anyhow::Context;
use muster_testkit::Cluster;

/// One process of agents that know all instances; it ends with this.
pub struct Agents(Child);

impl Agents {
    /// Starts it, with further flags of `muster loadgen native`.
    pub fn start(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = cluster.native_agents(args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().context("start muster loadgen")?))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
