//! Two instances that may be behind anything, and a way to use them through a balancer.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use muster_testkit::{Cluster, ClusterOptions, Postgres, Stores};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::support::{Balancer, Kind, Relays};

pub const CLIENT: &str = "127.0.0.7";
pub const HTTP: &str = "127.0.0.9";
pub const PASSED: &str = "127.0.0.8";

/// Whoever may be in front of it.
const BEHIND: &str = "names: [muster.test]
listeners: {trusted_proxies: [127.0.0.9], proxy_protocol: [127.0.0.8], plain: [operators, agents]}
drain: {delay: 5s}
instance: {advertise: [127.0.0.1]}
";

/// Two instances, and a way to use them through a balancer.
pub struct Site {
    pub cluster: Cluster,
    pub runtime: tokio::runtime::Runtime,
    pub client: Client,
    _relays: Relays,
    _dir: tempfile::TempDir,
}

impl Site {
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let catalog = Postgres::start()?.database()?;
        let stores = Stores::default().key("catalog", "url", &catalog);
        let (relays, stores) = Relays::start(dir.path(), stores)?;
        let options = ClusterOptions::new(stores)
            .extra(BEHIND)
            .env("MUSTER_AGENTS__TRUSTED_PROXIES", "[\"127.0.0.9\"]");
        let cluster = Cluster::start(&options)?;
        let pem = std::fs::read(&cluster.access()?.ca)?;
        let client = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .local_address(CLIENT.parse::<IpAddr>()?)
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { cluster, runtime, client, _relays: relays, _dir: dir })
    }

    /// Arguments that name the instances.
    fn instances(&self) -> Vec<String> {
        let ports = |one: &muster_testkit::Instance| one.addresses().map(|address| address.port());
        let named = self.cluster.instances().iter().map(ports);
        named.map(|[one, other, _]| format!("--instance=127.0.0.1:{one},{other}")).collect()
    }

    pub fn balancer(&self, kind: Kind, args: &[&str]) -> anyhow::Result<Balancer> {
        let instances = self.instances();
        let args: Vec<&str> =
            instances.iter().map(String::as_str).chain(args.iter().copied()).collect();
        Balancer::start(kind, &self.cluster, Some([HTTP, PASSED]), &args)
    }

    /// One request of an operator, whatever comes of it.
    pub fn ask(
        &self,
        balancer: &Balancer,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}{path}", balancer.operators_url());
        let mut request =
            self.client.request(method, url).bearer_auth(&self.cluster.access()?.token);
        // Whoever believed this would write it into the audit log.
        request = request.header("X-Forwarded-For", "203.0.113.1");
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.with_context(|| path.to_owned())?;
            let (status, body) = (answer.status(), answer.bytes().await?);
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        })
    }
}
