//! An osquery agent: what osqueryd does on the wire, over the tables of Muster's own agent.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use muster_agent::query::{Bounds, Engine};
use muster_testkit::Server;
use serde_json::{Map, Value, json};

use super::roots;

const BOUNDS: Bounds = Bounds { rows_max: 100_000, bytes_max: 4 << 20 };

/// An agent, one request after the other, each on a connection of its own.
pub struct Osqueryd {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    engine: Engine,
    url: String,
    secret: String,
    name: String,
    /// Its node key.
    pub key: String,
}

/// Rows as osquery has them, or what is wrong with a query.
type Ran = Result<Vec<Value>, String>;

impl Osqueryd {
    /// Enrols.
    pub fn enrol(server: &Server, name: &str) -> anyhow::Result<Self> {
        roots(server)?;
        let ca = std::fs::read(server.data_dir().join("ca.pem"))?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca)?])
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(16));
        let secret = std::fs::read_to_string(server.data_dir().join("enrol-secret"))?;
        let mut agent = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            client: client.build()?,
            engine: Engine::open(muster_agent::tables::all(), None)?,
            url: server.agents_url(),
            secret: secret.trim().to_owned(),
            name: name.to_owned(),
            key: String::new(),
        };
        agent.renew()?;
        Ok(agent)
    }

    /// Enrols again: it was told that its key is bad.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        let host = json!({"os_version": {"name": "Ubuntu", "version": "24.04", "platform": "ubuntu"},
            "osquery_info": {"version": "5.22.1", "instance_id": format!("i-{}", self.name)},
            "system_info": {"hostname": self.name}});
        let request = json!({"enroll_secret": self.secret, "host_identifier": self.name,
            "platform_type": "9", "host_details": host});
        let answer = self.post("/api/v1/osquery/enroll", &request)?;
        answer["node_key"].as_str().with_context(|| format!("{answer}"))?.clone_into(&mut self.key);
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let request = self.client.post(url).body(body.to_string());
        let answer = self.runtime.block_on(async { request.send().await?.bytes().await })?;
        serde_json::from_slice(&answer).with_context(|| format!("{path}: {answer:?}"))
    }

    /// One request with its key, to `config`, `log` and so on.
    pub fn call(&self, path: &str, mut body: Value) -> anyhow::Result<Value> {
        body["node_key"] = self.key.clone().into();
        self.post(&format!("/api/v1/osquery/{path}"), &body)
    }

    /// One cycle: read, run in the order of names, write. What was asked.
    pub fn cycle(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.call("distributed/read", json!({}))?;
        let queries = answer["queries"].as_object().with_context(|| format!("{answer}"))?;
        let probes = answer.get("discovery").and_then(Value::as_object);
        let sorted: BTreeMap<&String, &str> =
            queries.iter().filter_map(|(id, sql)| Some((id, sql.as_str()?))).collect();
        let [mut rows, mut statuses, mut messages, mut stats] = [(); 4].map(|()| json!({}));
        for (id, sql) in &sorted {
            let probe = probes.and_then(|probes| probes.get(id.as_str())?.as_str());
            if probe.is_some_and(|probe| self.run(probe).is_ok_and(|rows| rows.is_empty())) {
                continue;
            }
            let ran = self.run(sql);
            statuses[id.as_str()] = i64::from(ran.is_err()).into();
            let used = json!({"wall_time_ms": 7, "user_time": 5, "system_time": 1, "memory": 4096});
            stats[id.as_str()] = used;
            messages[id.as_str()] = ran.as_ref().err().cloned().unwrap_or_default().into();
            rows[id.as_str()] = ran.unwrap_or_default().into();
        }
        if !sorted.is_empty() {
            let body = json!({"queries": rows, "statuses": statuses, "messages": messages,
                "stats": stats});
            let answer = self.call("distributed/write", body)?;
            anyhow::ensure!(answer.get("error").is_none(), "{answer}");
        }
        Ok(sorted.into_values().map(str::to_owned).collect())
    }

    /// Runs every query of its configuration once, as snapshots, and leaves the lines. Their names.
    pub fn run_schedule(&self) -> anyhow::Result<Vec<String>> {
        let config = self.call("config", json!({}))?;
        anyhow::ensure!(config.get("error").is_none(), "{config}");
        let nothing = Map::new();
        let mut queries: Vec<(String, &Value)> = Vec::new();
        for (name, query) in config["schedule"].as_object().unwrap_or(&nothing) {
            queries.push((name.clone(), query));
        }
        for (pack, content) in config["packs"].as_object().unwrap_or(&nothing) {
            for (name, query) in content["queries"].as_object().unwrap_or(&nothing) {
                queries.push((format!("pack/{pack}/{name}"), query));
            }
        }
        let (mut results, mut statuses) = (Vec::new(), Vec::new());
        for (name, query) in &queries {
            match self.run(query["query"].as_str().unwrap_or_default()) {
                Ok(rows) => results.push(json!({"name": name, "hostIdentifier": self.name,
                    "unixTime": 1_800_000_000, "epoch": 0, "counter": 0, "action": "snapshot",
                    "snapshot": rows})),
                Err(why) => statuses.push(json!({"severity": 2, "filename": "scheduler.cpp",
                    "line": 1, "message": format!("{name}: {why}")})),
            }
        }
        for (log_type, lines) in [("result", results), ("status", statuses)] {
            let answer = self.call("log", json!({"data": lines, "log_type": log_type}))?;
            anyhow::ensure!(answer == json!({}), "{answer}");
        }
        Ok(queries.into_iter().map(|(name, _)| name).collect())
    }

    /// Runs SQL over this machine; all values are text, as osquery's are.
    fn run(&self, sql: &str) -> Ran {
        // Every agent has this table of its own tables.
        if sql.contains("osquery_registry") {
            return Ok(Vec::new());
        }
        let mut rows: Vec<Map<String, Value>> = Vec::new();
        let answer = self.engine.run(sql, &BTreeMap::new(), BOUNDS, &mut |_, json| {
            rows.extend(serde_json::from_slice::<Vec<_>>(json)?);
            Ok(())
        });
        answer.result.map_err(|error| error.to_string())?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let row = |row: Map<String, Value>| -> Value {
            row.into_iter().map(|(name, value)| (name, Value::from(text(value)))).collect()
        };
        Ok(rows.into_iter().map(row).collect())
    }
}
