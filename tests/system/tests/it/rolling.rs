//! A rolling restart of every instance, behind nginx, under load: no row is lost, and no request of an
//! operator fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, ClusterOptions, Postgres, Stores, dying, wait_for};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{Ask, Balancer, Fleet, Kind, OsqueryFleet, Relays, SOON};

const AGENTS: u64 = 30;
const ROWS: u64 = 4;
const HOSTS: u64 = 10;

/// As an operator runs it: nginx tells instances whose connection it is by `X-Forwarded-For`.
const BEHIND: &str = "listeners: {trusted_proxies: [127.0.0.9]}
drain: {delay: 5s, spread: 2s}
# They ask as fast as they are answered, which is more than one account may by default.
api: {requests_per_second: 5000, requests_burst: 5000}
";

/// What operators ask all the time, and what came of it.
struct Operators {
    stop: AtomicBool,
    asked: AtomicU64,
    labels: AtomicU64,
}

impl Operators {
    /// Asks until it is told to stop: what reads, and changes with a key of their own, each once.
    async fn ask(
        &self,
        client: Client,
        url: String,
        token: String,
        name: u32,
    ) -> anyhow::Result<()> {
        let mut no = 0;
        while !self.stop.load(Ordering::Relaxed) {
            no += 1;
            let asked = format!("operator {name}, request {no}");
            let read = client.get(format!("{url}/v1/hunts")).bearer_auth(&token);
            done(read, &asked).await?;
            let key = format!("rolling-{name}-{no}");
            let body = json!({"name": key});
            let change = client.request(Method::POST, format!("{url}/v1/labels"));
            let change = change.bearer_auth(&token).header("Idempotency-Key", &key).json(&body);
            done(change, &asked).await?;
            self.asked.fetch_add(2, Ordering::Relaxed);
            self.labels.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

async fn done(request: reqwest::RequestBuilder, asked: &str) -> anyhow::Result<Value> {
    let answer = request.send().await.with_context(|| asked.to_owned())?;
    let (status, body) = (answer.status(), answer.bytes().await.with_context(|| asked.to_owned())?);
    let text = String::from_utf8_lossy(&body);
    ensure!(status.is_success(), "{asked}: {status} {text}");
    Ok(serde_json::from_slice(&body)?)
}

#[test]
fn every_instance_restarts_and_nobody_notices() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let postgres = Postgres::start()?;
    let url = postgres.database()?;
    let stores = Stores::default().key("catalog", "url", &url);
    let (_relays, stores) = Relays::start(dir.path(), stores)?;
    let cluster = Cluster::start(&ClusterOptions::new(stores).instances(3).extra(BEHIND))?;
    let instances = cluster.instances();
    // What nginx needs to know it asks the instances that live.
    let nginx = Balancer::start(Kind::Nginx, &cluster, Some(["127.0.0.9", "127.0.0.1"]), &[])?;

    let access = cluster.access()?;
    let mut command = dying(&muster_testkit::binary()?);
    command.args(["loadgen", "native", "--interval", "1", "--canned", &ROWS.to_string()]);
    command.args(["--server", &nginx.agents_url(), "--endpoints", &AGENTS.to_string()]);
    command.arg("--ca").arg(&access.ca).arg("--secret-file").arg(&access.secret_file);
    let mut native = Fleet::spawn(command)?;
    let mut command = dying(&muster_testkit::binary()?);
    command.args(["loadgen", "osquery", "--interval", "1", "--server", &nginx.agents_url()]);
    command.args(["--hosts", &HOSTS.to_string(), "--start", "1", "--distributed-interval", "1"]);
    command.args([
        "--config-interval",
        "5",
        "--log-interval",
        "1",
        "--lines",
        "2",
        // A large line is one line and many rows, and comes by chance; here lines are counted by rows.
        "--large",
        "0",
        "--drain",
        "60",
    ]);
    command.arg("--ca").arg(&access.ca).env("MUSTER_ENROL_SECRET", access.secret()?);
    let mut osquery = OsqueryFleet::spawn(command)?;
    native.up(AGENTS, AGENTS)?;
    let count = |report: &Value, of: &str| report[of].as_u64().unwrap_or_default();
    osquery.wait("hosts to log", |report| count(report, "lines_taken") > HOSTS)?;

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let pem = std::fs::read(&access.ca)?;
    let operators = Arc::new(Operators {
        stop: AtomicBool::default(),
        asked: AtomicU64::default(),
        labels: AtomicU64::default(),
    });
    let mut asking: Vec<_> = (0..3)
        .map(|name| {
            // The last one speaks HTTP/2, as a browser does.
            let client = Client::builder()
                .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
                .retry(reqwest::retry::never())
                .no_proxy()
                .timeout(Duration::from_secs(30));
            let client = if name == 2 { client } else { client.http1_only() }.build()?;
            let (operators, url, token) =
                (Arc::clone(&operators), nginx.operators_url(), access.token.clone());
            Ok(runtime.spawn(async move { operators.ask(client, url, token, name).await }))
        })
        .collect::<anyhow::Result<_>>()?;

    let question = ["--sql", "SELECT pid, name FROM processes", "--canary", "0"];
    let mut hunts = Vec::new();
    for at in 0..instances.len() {
        let other = &instances[(at + 1) % instances.len()];
        hunts.push(other.hunt(&question)?);
        let began = Instant::now();
        instances[at].stop()?;
        let stopped = began.elapsed();
        hunts.push(other.hunt(&question)?);
        instances[at].start()?;
        let asked = operators.asked.load(Ordering::Relaxed);
        println!("{}: gone after {stopped:?}, {asked} requests so far", instances[at].name());
        if let Some(gave_up) = asking.iter_mut().find(|one| one.is_finished()) {
            runtime.block_on(gave_up)?.with_context(|| nginx.log())?;
        }
    }
    // And the last one is in use again.
    std::thread::sleep(Duration::from_secs(6));
    operators.stop.store(true, Ordering::Relaxed);
    for one in asking {
        runtime.block_on(one)?.with_context(|| nginx.log())?;
    }
    let (asked, labels) =
        (operators.asked.load(Ordering::Relaxed), operators.labels.load(Ordering::Relaxed));
    println!("{asked} requests of operators, none failed");
    ensure!(asked > 100, "only {asked} requests");

    // Rows of a result table in segments, as the manifest has them.
    let (_, database) = url.rsplit_once('/').context("a database's URL")?;
    let stored = |table: &str| -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT COALESCE(sum(p.row_count), 0) FROM segment_part p
             WHERE p.table_name = '{table}' AND p.object IN (SELECT object FROM segment)"
        );
        Ok(postgres.sql_in(database, &sql)?.parse()?)
    };
    for hunt in hunts {
        let all =
            |c: &crate::support::Coverage| c.is_complete(AGENTS + HOSTS) || c.is_complete(AGENTS);
        let covered = instances[0].covered(hunt, "all to answer", all)?;
        ensure!(covered.sums(), "hunt {hunt}: {covered:?}");
        let rows = native.acked(hunt, AGENTS)?;
        ensure!(rows == AGENTS * ROWS, "hunt {hunt}: {rows} rows acknowledged");
        let (counted, there) = (covered.get("row_count"), stored(&format!("hunt_{hunt}"))?);
        ensure!(counted >= rows && counted == there, "hunt {hunt}: {counted}, {there} stored");
    }
    let made = instances[1].list(&["label", "list"])?;
    let made = made
        .iter()
        .filter(|label| label["name"].as_str().is_some_and(|name| name.starts_with("rolling-")));
    ensure!(made.count() as u64 == labels, "{labels} labels were made");
    let last = osquery.stop()?;
    for none in ["lines_buffered", "lines_forgotten", "node_invalid", "restarts"] {
        ensure!(last[none] == 0, "{none}: {last}");
    }
    ensure!(last["lost"] == json!({}) && last["lines_made"] == last["lines_taken"], "{last}");
    // What agents were told is taken is stored, once.
    let taken = last["taken_of"]["own"].as_u64().context("lines by their kind")?;
    wait_for("all lines to be stored", SOON, || {
        Ok((stored("osquery_other")? >= taken).then_some(()))
    })?;
    ensure!(stored("osquery_other")? == taken, "{taken} lines taken: {}", stored("osquery_other")?);
    native.stop().map(drop)
}
