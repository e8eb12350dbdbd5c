//! One osquery agent, by its requests.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::Cluster;
use reqwest::{Certificate, Client, ClientBuilder};
use serde_json::{Value, json};

/// An enrolled agent.
pub struct Osquery {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: String,
    key: String,
    lines: Cell<u64>,
    taken: Cell<u64>,
}

impl Osquery {
    pub fn enrol(cluster: &Cluster) -> anyhow::Result<Self> {
        let access = cluster.access()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let pem = std::fs::read(&access.ca)?;
        let client = ClientBuilder::new()
            .tls_certs_only([Certificate::from_pem(&pem)?])
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let url = cluster.instance(0).agents_url();
        let mut agent = Self {
            runtime,
            client,
            url,
            key: String::new(),
            lines: Cell::new(0),
            taken: Cell::new(0),
        };
        let body = json!({
            "enroll_secret": access.secret()?.trim(),
            "host_identifier": "outage-1",
            "platform_type": "9",
            "host_details": {"osquery_info": {"version": "5.12.0"}},
        });
        let answer = agent.post("enroll", &body)?.0;
        agent.key = answer["node_key"].as_str().with_context(|| answer.to_string())?.to_owned();
        Ok(agent)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<(Value, Duration)> {
        let began = Instant::now();
        let request = self.client.post(format!("{}/api/osquery/{path}", self.url)).json(body);
        self.runtime.block_on(async {
            let bytes = request.send().await.with_context(|| path.to_owned())?.bytes().await?;
            let answer: Value = serde_json::from_slice(&bytes)
                .with_context(|| format!("{path}: {}", String::from_utf8_lossy(&bytes)))?;
            Ok((answer, began.elapsed()))
        })
    }

    /// Asks for questions and for the configuration; how long the slower of the two took.
    pub fn check_in(&self) -> anyhow::Result<Duration> {
        let (questions, one) = self.post("distributed/read", &json!({"node_key": self.key}))?;
        ensure!(questions["queries"].is_object(), "no questions: {questions}");
        let (config, two) = self.post("config", &json!({"node_key": self.key}))?;
        ensure!(config["schedule"].is_object() || config["options"].is_object(), "{config}");
        Ok(one.max(two))
    }

    /// Sends two lines of results; whether they were taken, and how long that took. What was not taken
    /// is sent again the next time, as agents do.
    pub fn log(&self) -> anyhow::Result<(bool, Duration)> {
        let line = |n: u64| {
            json!({
                "name": "pack_outage", "hostIdentifier": "outage-1", "calendarTime": "now",
                "unixTime": 1_700_000_000 + n, "epoch": 0, "counter": n, "numerics": false,
                "columns": {"n": n.to_string()}, "action": "added",
            })
        };
        let first = self.lines.get();
        let body = json!({
            "node_key": self.key, "log_type": "result", "data": [line(first), line(first + 1)],
        });
        let (answer, took) = self.post("log", &body)?;
        let taken = answer.get("error").is_none();
        ensure!(taken || answer["node_invalid"] != true, "{answer}");
        if taken {
            self.lines.set(first + 2);
            self.taken.set(self.taken.get() + 2);
        }
        Ok((taken, took))
    }

    /// Lines that were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }
}
