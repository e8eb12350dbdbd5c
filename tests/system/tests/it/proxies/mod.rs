//! Real balancers with the configuration that `muster generate` prints, in front of two instances.
//!
//! Clients come from 127.0.0.7 and balancers from 127.0.0.9, where they speak HTTP, or 127.0.0.8, where
//! they pass TLS on: so it shows whom the instances take for the client.

mod site;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{dying, wait_for};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{AgentProcess, Balancer, Fleet, Kind, SOON};
use site::{CLIENT, HTTP, PASSED, Site};

const AGENTS: u64 = 6;

impl Site {
    /// All that operators do.
    fn operators(&self, balancer: &Balancer) -> anyhow::Result<()> {
        // Both instances answer the requests of one session.
        let mut answered = BTreeSet::new();
        for _ in 0..40 {
            let (status, version) = self.ask(balancer, Method::GET, "/v1/version", None)?;
            ensure!(status == 200, "{status}");
            answered.insert(version["instance"].as_str().unwrap_or_default().to_owned());
        }
        ensure!(answered.len() == 2, "answered by {answered:?}");
        let (status, _) = self.ask(
            balancer,
            Method::POST,
            "/v1/login",
            Some(json!({"name": "nobody", "password": "x"})),
        )?;
        ensure!(status == 401, "{status}");
        let (_, audit) = self.ask(balancer, Method::GET, "/v1/audit?limit=20", None)?;
        let text = audit.to_string();
        ensure!(text.contains(CLIENT) && !text.contains("203.0.113.1"), "{text}");
        for other in [HTTP, PASSED] {
            ensure!(!text.contains(&format!("\"{other}\"")), "{text}");
        }
        // Too long for any request of the API.
        let long = json!({"name": "x".repeat(3 << 20)});
        let (status, _) = self.ask(balancer, Method::POST, "/v1/labels", Some(long))?;
        ensure!(status == 413, "{status}");
        self.streams(balancer)
    }

    /// Events come when they happen, not when a buffer is full.
    fn streams(&self, balancer: &Balancer) -> anyhow::Result<()> {
        let url = format!("{}/v1/updates", balancer.operators_url());
        let request = self.client.get(url).bearer_auth(&self.cluster.access()?.token);
        self.runtime.block_on(async {
            let began = Instant::now();
            let mut answer = request.send().await?;
            let first = answer.chunk().await?.context("an event")?;
            let took = began.elapsed();
            ensure!(first.starts_with(b"event: all"), "{first:?}");
            println!("  first event after {took:?}");
            // A silent stream says something every 15 s, which would push it through a buffer.
            ensure!(took < Duration::from_secs(10), "{took:?}");
            Ok(())
        })
    }

    /// Both kinds of agents: what they do, and whom they are taken for.
    fn agents(&self, balancer: &Balancer, name: &str) -> anyhow::Result<()> {
        let access = self.cluster.access()?;
        let mut command = dying(&muster_testkit::binary()?);
        command.args(["loadgen", "native", "--interval", "1", "--canned", "3"]);
        command.args(["--server", &balancer.agents_url(), "--endpoints", &AGENTS.to_string()]);
        command.args(["--seed", &name.bytes().map(u64::from).sum::<u64>().to_string()]);
        command.arg("--ca").arg(&access.ca).arg("--secret-file").arg(&access.secret_file);
        let mut fleet = Fleet::spawn(command)?;
        fleet.up(AGENTS, AGENTS).with_context(|| balancer.log())?;
        let both = self.cluster.instances().iter().map(|one| one.metric("muster_gateway_sessions"));
        let both: Vec<f64> = both.collect::<anyhow::Result<_>>()?;
        ensure!(both.iter().all(|sessions| *sessions >= 1.0), "sessions {both:?}");
        self.osquery(balancer, name)?;
        let seen = wait_for("addresses of agents", SOON, || {
            let (_, page) = self.ask(balancer, Method::GET, "/v1/agents?limit=1000", None)?;
            let agents = page["items"].as_array().cloned().unwrap_or_default();
            let seen: BTreeSet<String> = agents
                .iter()
                .filter_map(|agent| agent["last_address"].as_str().map(str::to_owned))
                .collect();
            Ok(seen.contains(CLIENT).then_some(seen))
        })?;
        // Simulated native agents come from addresses of their own; none is the balancer's.
        ensure!(!seen.contains(HTTP) && !seen.contains(PASSED), "agents are taken for {seen:?}");
        fleet.stop().map(drop)
    }

    fn osquery(&self, balancer: &Balancer, name: &str) -> anyhow::Result<()> {
        let secret = self.cluster.access()?.secret()?;
        let post = |path: &str, body: Vec<u8>| -> anyhow::Result<(StatusCode, Value)> {
            let url = format!("{}/api/v1/osquery/{path}", balancer.agents_url());
            let request = self.client.post(url).header("X-Forwarded-For", "203.0.113.1").body(body);
            self.runtime.block_on(async {
                let answer = request.send().await.with_context(|| path.to_owned())?;
                let (status, body) = (answer.status(), answer.bytes().await?);
                Ok((
                    status,
                    serde_json::from_slice(&body).with_context(|| format!("{path}: {body:?}"))?,
                ))
            })
        };
        let host = json!({"enroll_secret": secret.trim(), "host_identifier": format!("host-{name}"),
            "platform_type": "9", "host_details": {"system_info": {"hostname": name},
            "osquery_info": {"version": "5.22.1", "instance_id": name}}});
        let (_, enrolled) = post("enroll", host.to_string().into())?;
        let key = enrolled["node_key"].as_str().with_context(|| enrolled.to_string())?;
        let (status, read) = post("distributed/read", json!({"node_key": key}).to_string().into())?;
        ensure!(status == 200 && read["queries"].is_object(), "{status} {read}");
        // 20 MB of a log: more than an instance keeps, and it says so in osquery's own terms.
        let line = json!({"name": "big", "columns": {"x": "y".repeat(1000)}, "action": "added"});
        let line = line.to_string();
        let lines = vec![line.as_str(); (20 << 20) / line.len()].join(",");
        // As osquery writes it, with the key at the end.
        let log = format!("{{\"data\":[{lines}],\"log_type\":\"result\",\"node_key\":\"{key}\"}}");
        let began = Instant::now();
        let (status, answer) = post("log", log.into())?;
        println!("  20 MB in {:?}: {status} {answer}", began.elapsed());
        ensure!(status == 200 && answer.get("node_invalid") != Some(&json!(true)), "{answer}");
        Ok(())
    }

    /// An instance goes and comes back while an operator asks: nobody notices.
    fn restart(&self, balancer: &Balancer) -> anyhow::Result<()> {
        let instance = self.cluster.instance(1);
        std::thread::scope(|scope| {
            let restarted = scope.spawn(|| -> anyhow::Result<()> {
                instance.stop()?;
                instance.start()
            });
            let mut asked = 0;
            while !restarted.is_finished() || asked < 20 {
                let body = json!({"name": "nobody", "password": "x"});
                let (status, answer) =
                    self.ask(balancer, Method::POST, "/v1/labels/bad/x", Some(body))?;
                ensure!(
                    status == 404,
                    "after {asked} requests: {status} {answer}\n{}",
                    balancer.log()
                );
                asked += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            println!("  {asked} requests over a restart");
            restarted.join().expect("no panic")
        })
    }
}

/// An agent that joined one server knows the others, and is at the next one soon.
fn joins_all(site: &Site) -> anyhow::Result<()> {
    let access = site.cluster.access()?;
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&access.ca);
    let fingerprint = String::from_utf8(openssl.output()?.stdout)?;
    let (_, fingerprint) = fingerprint.trim().split_once('=').context("a fingerprint")?;
    let mut join = dying(&muster_testkit::binary()?);
    join.args(["agent", "join", "--ca-sha256", fingerprint, "--server"])
        .arg(site.cluster.instance(0).agents_url())
        .arg("--data")
        .arg(site.cluster.scratch().join("joined"))
        .env("MUSTER_ENROL_SECRET", access.secret()?.trim());
    let _agent = AgentProcess::spawn(join)?;
    let holder = || -> anyhow::Result<Option<usize>> {
        for (at, instance) in site.cluster.instances().iter().enumerate() {
            if instance.metric("muster_gateway_sessions").is_ok_and(|sessions| sessions == 1.0) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    };
    for _ in 0..2 {
        let at = wait_for("the agent to be linked", SOON, holder)?;
        site.cluster.instance(at).kill();
        let began = Instant::now();
        let next = wait_for("the agent to be linked elsewhere", SOON, holder)?;
        println!("instance {at} was killed; linked to instance {next} after {:?}", began.elapsed());
        ensure!(next != at, "{next}");
        site.cluster.instance(at).start()?;
    }
    Ok(())
}

/// One way to set a balancer up.
fn works(site: &Site, kind: Kind, name: &str, args: &[&str]) -> anyhow::Result<()> {
    println!("{kind}, {name}");
    let balancer = site.balancer(kind, args)?;
    let all = || {
        site.operators(&balancer)?;
        site.agents(&balancer, &format!("{kind}-{name}"))?;
        site.restart(&balancer)
    };
    all().with_context(|| format!("{kind}, {name}\n{}", balancer.log()))
}

/// A configuration whose instances take plain connections from the balancer, as an argument.
fn plain(site: &Site) -> anyhow::Result<String> {
    let path = site.cluster.scratch().join("plain.yaml");
    std::fs::write(
        &path,
        "{listeners: {plain: [operators, agents], trusted_proxies: [127.0.0.9]}, \
         agents: {trusted_proxies: [127.0.0.9]}, drain: {delay: 5s}}",
    )?;
    Ok(format!("--config={}", path.display()))
}

#[test]
fn nginx_as_generated() -> anyhow::Result<()> {
    let site = Site::start()?;
    works(&site, Kind::Nginx, "mixed", &["--tls=mixed", "--proxy-protocol"])?;
    works(&site, Kind::Nginx, "end", &["--tls=end"])
}

#[test]
fn haproxy_as_generated() -> anyhow::Result<()> {
    let site = Site::start()?;
    works(&site, Kind::Haproxy, "mixed", &["--tls=mixed", "--proxy-protocol"])?;
    works(&site, Kind::Haproxy, "end, plain", &["--tls=end", &plain(&site)?])
}

#[test]
fn apache_as_generated() -> anyhow::Result<()> {
    let site = Site::start()?;
    works(&site, Kind::Apache, "end", &["--tls=end"])
}

#[test]
fn who_joins_one_server_knows_all() -> anyhow::Result<()> {
    let site = Site::start()?;
    let probe = Command::new(muster_testkit::binary()?)
        .args(["probe", &site.cluster.instance(0).addresses()[2].to_string()])
        .status()?;
    ensure!(probe.success(), "{probe}");
    joins_all(&site)
}
