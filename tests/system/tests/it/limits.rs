//! Limits of three instances are those of one: sign-ins, requests, enrolments, through real processes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, ClusterOptions, Nats, Postgres, Stores, wait_for};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::{Value, json};

use crate::support::{Ask, Fleet, SOON};

/// How many of the requests to all instances, asked by turns without a pause, were admitted, and how many
/// were sent.
async fn admitted(
    client: &Client,
    requests: &[impl Fn(&Client) -> reqwest::RequestBuilder],
    time: Duration,
    expected: StatusCode,
) -> anyhow::Result<(u32, u32, Duration)> {
    let (began, mut admitted, mut sent) = (Instant::now(), 0, 0);
    while began.elapsed() < time {
        for request in requests {
            let status = request(client).send().await?.status();
            admitted += u32::from(status == expected);
            sent += 1;
            ensure!([expected, StatusCode::TOO_MANY_REQUESTS].contains(&status), "{status}");
        }
    }
    Ok((admitted, sent, began.elapsed()))
}

#[test]
fn three_instances_admit_what_one_would() -> anyhow::Result<()> {
    const PER_SECOND: u32 = 10;
    const BURST: u32 = 30;
    let (dir, nats) = (tempfile::tempdir()?, Nats::start()?);
    let stores = Stores::default()
        .key("catalog", "url", &Postgres::start()?.database()?)
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1")
        .key("archive", "url", &format!("file://{}", dir.path().join("archive").display()));
    let options = ClusterOptions::new(stores)
        .instances(3)
        .env("MUSTER_LOG__LEVEL", "warn")
        .env("MUSTER_API__REQUESTS_PER_SECOND", "10")
        .env("MUSTER_API__REQUESTS_BURST", "30")
        .env("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "10");
    let cluster = Cluster::start(&options)?;
    let access = cluster.access()?;
    let shares = |job: &str| -> anyhow::Result<Vec<u64>> {
        let told = cluster.instance(0).list(&["instances"])?;
        let of = |one: &Value| {
            let leases = one["leases"].as_array().cloned().unwrap_or_default();
            let lease = leases.into_iter().find(|lease| lease["job"] == job);
            lease.and_then(|lease| lease["partitions"].as_u64()).unwrap_or(0)
        };
        Ok(told.iter().map(of).collect())
    };
    for job in ["requests", "enrolments"] {
        wait_for("a third each", SOON, || {
            std::thread::sleep(Duration::from_millis(300));
            Ok((shares(job)? == [16, 16, 16]).then_some(()))
        })?;
    }
    let ca = Certificate::from_pem(&std::fs::read(&access.ca)?)?;
    let client = Client::builder().tls_certs_only([ca]).no_proxy().build()?;
    let urls: Vec<String> = cluster.instances().iter().map(|one| one.operators_url()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    // Whatever the command line above has used is back by then.
    std::thread::sleep(Duration::from_secs(u64::from(BURST / PER_SECOND) + 1));
    let whoami: Vec<_> = urls
        .iter()
        .map(|url| {
            let (url, token) = (format!("{url}/v1/whoami"), access.token.clone());
            move |client: &Client| client.get(&url).bearer_auth(&token)
        })
        .collect();
    let time = Duration::from_secs(4);
    let (got, sent, took) = runtime.block_on(admitted(&client, &whoami, time, StatusCode::OK))?;
    let most = f64::from(BURST) + f64::from(PER_SECOND) * took.as_secs_f64();
    println!("requests: {got} of {sent} admitted in {took:?} by three instances, {most:.0} by one");
    ensure!(f64::from(got) <= most + 1.0, "{got} of {most}");
    // A machine that is too busy to come near the limit cannot show that it is reached.
    let lowest = most.min(f64::from(sent)) * 2.0 / 3.0 - 3.0;
    ensure!(f64::from(got) >= lowest, "{got} of {most}: more than a share below");

    let login: Vec<_> = urls
        .iter()
        .map(|url| {
            let (url, body) = (format!("{url}/v1/login"), json!({"name": "eve", "password": "x"}));
            move |client: &Client| client.post(&url).json(&body)
        })
        .collect();
    let denied = StatusCode::UNAUTHORIZED;
    let (got, sent, took) = runtime.block_on(admitted(&client, &login, time, denied))?;
    let most = 10.0 + took.as_secs_f64() / 6.0;
    println!("sign-ins: {got} of {sent} tried in {took:?} on three instances, {most:.0} on one");
    ensure!(f64::from(got) <= most && got >= sent.min(10), "{got} of {most}");

    let began = Instant::now();
    let mut fleet =
        Fleet::spawn(cluster.native_agents(&["--endpoints", "90", "--canned", "1"])?)?;
    let mut worst = f64::MIN;
    wait_for("everybody to enrol", SOON, || {
        fleet.say("report")?;
        let enrolled = fleet.report()["enrolled"].as_u64().unwrap_or(0);
        let most = f64::from(PER_SECOND) * (1.0 + began.elapsed().as_secs_f64());
        worst = worst.max(enrolled as f64 - most);
        std::thread::sleep(Duration::from_millis(50));
        Ok((enrolled == 90).then_some(()))
    })
    .context("enrolment")?;
    let took = began.elapsed();
    println!("enrolments: 90 in {took:?}, never more than {worst:.1} above the limit");
    ensure!(worst <= 1.0, "{worst} above the limit");
    ensure!(took > Duration::from_secs(7), "{took:?}");
    Ok(())
}
