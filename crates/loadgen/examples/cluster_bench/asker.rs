//! Somebody who asks an instance, on a connection that stays open.

use anyhow::Context;
use muster_testkit::Cluster;
use muster_types::{Clock, SystemClock};
use reqwest::Certificate;
use serde_json::{Value, json};

/// A client of one instance.
pub struct Asker {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
}

/// A question that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number of its hunt.
    pub hunt: u64,
    /// Just before the request was sent, in microseconds since 1970.
    pub sent: i64,
    /// When its answer was read.
    pub accepted: i64,
}

impl Asker {
    /// Of this instance.
    pub fn of(cluster: &Cluster, instance: usize) -> anyhow::Result<Self> {
        let access = cluster.access()?;
        let ca = Certificate::from_pem(&std::fs::read(&access.ca)?)?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok(Self {
            runtime: runtime.worker_threads(1).enable_all().build()?,
            client: reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?,
            url: cluster.instance(instance).operators_url(),
            token: access.token.clone(),
        })
    }

    /// Asks some endpoints; none: all that are online.
    pub fn ask(&self, endpoints: &[u64]) -> anyhow::Result<Asked> {
        let scope = match endpoints {
            [] => json!({}),
            some => json!({ "endpoints": some }),
        };
        let body =
            json!({"query": "SELECT pid FROM processes", "scope": scope, "timeout_seconds": 10});
        let url = format!("{}/v1/queries", self.url);
        let request = self.client.post(url).bearer_auth(&self.token).json(&body);
        let sent = now();
        let answer: Value = self
            .runtime
            .block_on(async { request.send().await?.error_for_status()?.json().await })?;
        let accepted = now();
        let hunt = answer["no"].as_u64().with_context(|| format!("not asked: {answer}"))?;
        Ok(Asked { hunt, sent, accepted })
    }
}

fn now() -> i64 {
    SystemClock.now().0
}
