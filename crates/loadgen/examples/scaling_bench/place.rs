//! Servers and stores of a measurement.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, ClusterOptions, Nats, Postgres, S3, Server, ServerOptions, Stores};
use serde::Serialize;
use serde_json::{Value, json};

use crate::load::{self, Target};
use crate::processes;

/// Where everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Planes {
    /// In the server's own folder.
    Embedded,
    /// PostgreSQL, NATS and S3, one server each, with everything synced.
    Scaled,
}

/// Servers, with what they stand on.
pub enum Place {
    /// One server.
    Embedded(Box<Server>),
    /// Some servers.
    Scaled(Box<Cluster>, Box<(Nats, S3, Postgres)>),
}

/// What was used and done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Processor seconds of all servers.
    pub servers: f64,
    /// Processor seconds of all stores.
    pub stores: f64,
    /// Rows folded.
    pub rows: f64,
}

impl Used {
    /// Since then.
    pub fn since(self, before: &Self) -> Self {
        Self {
            servers: self.servers - before.servers,
            stores: self.stores - before.stores,
            rows: self.rows - before.rows,
        }
    }
}

const ENV: [(&str, &str); 2] =
    [("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "100000"), ("MUSTER_LOG__LEVEL", "error")];

impl Place {
    /// Starts so many servers.
    pub fn start(planes: Planes, count: usize) -> anyhow::Result<Self> {
        if planes == Planes::Embedded {
            let env = ENV.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
            let args = vec!["--no-agent".to_owned()];
            return Ok(Self::Embedded(Box::new(Server::up(ServerOptions { env, args })?)));
        }
        let (nats, archive, catalog) = (Nats::start()?, S3::start()?, Postgres::own()?);
        let stores = Stores::scaled(&catalog, &nats, &archive)?;
        let mut options = ClusterOptions::new(stores).instances(count);
        for (key, value) in ENV {
            options = options.env(key, value);
        }
        let cluster = Cluster::start(&options)?;
        Ok(Self::Scaled(Box::new(cluster), Box::new((nats, archive, catalog))))
    }

    /// The servers' processes.
    pub fn servers(&self) -> anyhow::Result<Vec<u32>> {
        match self {
            Self::Embedded(server) => Ok(vec![server.pid().context("no server")?]),
            Self::Scaled(cluster, _) => {
                cluster.instances().iter().map(|one| one.pid().context("no server")).collect()
            }
        }
    }

    fn stores(&self) -> anyhow::Result<Vec<u32>> {
        let Self::Scaled(_, stores) = self else { return Ok(Vec::new()) };
        let (nats, archive, catalog) = stores.as_ref();
        let pids = [nats.pid(0), archive.pid(), catalog.pid()];
        pids.into_iter().map(|pid| pid.context("a store does not run")).collect()
    }

    /// What was used and done so far.
    pub fn used(&self) -> anyhow::Result<Used> {
        let rows = self.metric("muster_worker_rows_total")?;
        let (servers, stores) = (processes::cpu(&self.servers()?), processes::cpu(&self.stores()?));
        Ok(Used { servers, stores, rows })
    }

    /// A metric, summed over all servers.
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        match self {
            Self::Embedded(server) => server.metric(name),
            Self::Scaled(cluster, _) => {
                cluster.instances().iter().map(|one| one.metric(name)).sum()
            }
        }
    }

    /// Waits until nothing more is folded.
    pub fn settle(&self, most: Duration) -> anyhow::Result<()> {
        let (began, mut before) = (Instant::now(), self.metric("muster_worker_rows_total")?);
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let now = self.metric("muster_worker_rows_total")?;
            if (now - before).abs() < 1.0 {
                return Ok(());
            }
            ensure!(began.elapsed() < most, "the servers still fold after {most:?}");
            before = now;
        }
    }

    /// Enrols so many osquery agents at each server.
    pub fn enrol(&self, agents: usize) -> anyhow::Result<Vec<Target>> {
        let (ca, secret, urls) = match self {
            Self::Embedded(server) => {
                let data = server.data_dir();
                let secret = std::fs::read_to_string(data.join("enrol-secret"))?;
                (data.join("ca.pem"), secret.trim().to_owned(), vec![server.agents_url()])
            }
            Self::Scaled(cluster, _) => {
                let access = cluster.access()?;
                (access.ca.clone(), access.secret()?, cluster.agents_urls())
            }
        };
        let pem = std::fs::read_to_string(ca)?;
        let tls = load::connector(&pem)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes())?])
            .no_proxy()
            .build()?;
        let mut targets = Vec::new();
        for (server, url) in urls.iter().enumerate() {
            let address = url.trim_start_matches("https://").parse()?;
            for agent in 0..agents {
                let name = format!("bench-{server}-{agent}");
                let body = json!({"enroll_secret": secret, "host_identifier": name,
                    "platform_type": "9", "host_details": {"system_info": {"hostname": name}}});
                let answer = runtime.block_on(async {
                    let sent = http.post(format!("{url}/api/v1/osquery/enroll")).json(&body);
                    anyhow::Ok(sent.send().await?.json::<Value>().await?)
                })?;
                let key = answer["node_key"].as_str().with_context(|| format!("{answer}"))?;
                targets.push(Target { address, tls: tls.clone(), key: key.to_owned() });
            }
        }
        Ok(targets)
    }
}
