//! What an idle link costs. A measurement, run by hand:
//! `cargo test -p muster-gateway-native --test idle -- --ignored --nocapture`

mod rig;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use muster_endpoints::Enrol;
use muster_types::{AgentKind, AgentNo, Clock as _, OrgId, SystemClock};
use rig::Rig;
use rig::client::{Agent, Far, Key};

const LINKS: u32 = 4000;
const FAR: &str = "MUSTER_TEST_FAR";

fn key(n: u32) -> Key {
    let seed = digest(&SHA256, &n.to_le_bytes());
    Key(Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap())
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
#[ignore = "the other process of `an_idle_link`"]
async fn far_end() {
    let Ok(far) = std::env::var(FAR) else { return };
    let (address, certificate) = far.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let connector = rig::trusting(rig::from_hex(certificate).into());
    let far = Far { address, connector };
    let mut links = Vec::new();
    for n in 1..=LINKS {
        let agent = Agent { key: key(n), no: AgentNo(n), process: [0; 16] };
        links.push(far.welcomed(&agent).await);
    }
    println!("ready");
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    drop(links);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn an_idle_link() {
    let rig = Rig::start().await;
    for n in 1..=LINKS {
        let key = key(n);
        let enrolment = Enrol {
            org: OrgId::DEFAULT,
            kind: AgentKind::Native,
            external_id: format!("{n}"),
            public_key: Some(key.public().to_vec()),
            machine: None,
            report: muster_endpoints::AgentReport {
                hostname: "web-1".into(),
                platform: "linux".into(),
                version: "0.1.0".into(),
                address: "127.0.0.1".into(),
                ..Default::default()
            },
            secret: None,
        };
        muster_endpoints::enrol(&rig.store.catalog, &enrolment, SystemClock.now()).await.unwrap();
    }
    rig.directory.refresh().await.unwrap();
    for storm in 1..=4 {
        let (before, begun) = (resident_bytes(), Instant::now());
        let mut far = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "far_end"])
            .env(FAR, format!("{} {}", rig.address, rig.certificate_hex))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(far.stdout.take().unwrap()).lines();
        tokio::task::spawn_blocking(move || lines.any(|line| line.unwrap().ends_with("ready")))
            .await
            .unwrap();
        assert_eq!(rig.sessions.len(), LINKS as usize);
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let grown = resident_bytes().saturating_sub(before);
        let each = grown / LINKS as usize;
        let total = resident_bytes() / LINKS as usize;
        println!(
            "storm {storm}: {LINKS} links in {took:?}, grown {each} B each; all resident memory over links {total} B"
        );
        drop(far.stdin.take());
        far.wait().unwrap();
        rig::until("all are gone", || rig.sessions.is_empty()).await;
    }
    rig.stop().await;
}
