//! The server of a run, and which core is whose.

use anyhow::Context;
use clap::Args;
use muster_testkit::{Server, ServerOptions};

use crate::api::Api;
use crate::{measure, servers};

/// Who has which core.
#[derive(Args, Clone, Debug)]
pub struct Cores {
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The simulators' core.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Server and simulators share all cores instead.
    #[arg(long)]
    shared: bool,
}

impl Cores {
    /// Cores that the server may use.
    pub fn of_server(&self) -> f64 {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        if self.shared { all as f64 } else { 1.0 }
    }

    /// What starts a simulator.
    pub fn of_load(&self) -> Option<usize> {
        (!self.shared).then_some(self.load_core)
    }
}

/// A server, and what it takes to reach it.
pub struct Place {
    /// The server.
    pub server: Server,
    /// Its API.
    pub api: Api,
    /// The enrolment secret.
    pub secret: String,
    /// Who has which core.
    pub cores: Cores,
}

impl Place {
    /// Starts a server with embedded stores that enrols as fast as it can.
    pub fn up(cores: &Cores) -> anyhow::Result<Self> {
        let env =
            [("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "1000000"), ("MUSTER_LOG__LEVEL", "error")];
        let server = Server::up(ServerOptions {
            env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            args: vec!["--no-agent".to_owned()],
        })?;
        let secret = std::fs::read_to_string(server.data_dir().join("enrol-secret"))?;
        let api = Api::new(&server)?;
        let place = Self { server, api, secret: secret.trim().to_owned(), cores: cores.clone() };
        place.pin()?;
        Ok(place)
    }

    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.server.pid().context("no server")
    }

    /// Stops it in order, so that it can be started again.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().map(drop)
    }

    /// Starts it again, on its core.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.server.start()?;
        // Each start leaves a token of its own.
        self.api = Api::new(&self.server)?;
        self.pin()
    }

    /// Its processor time so far, in seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        Ok(measure::cpu(self.pid()?)?.total)
    }

    fn pin(&self) -> anyhow::Result<()> {
        if self.cores.shared {
            return Ok(());
        }
        servers::pin(self.pid()?, self.cores.server_core)
    }
}
