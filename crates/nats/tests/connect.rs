//! Connections to real servers: TLS, passwords, what is refused, and what is found.

use std::path::Path;
use std::time::Duration;

use muster_nats::{ConnectError, Expected, Finding, Options, Severity, connect, durability};
use muster_testkit::{Nats, NatsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::time::timeout;

/// Writes a CA, a server certificate and a client certificate.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn install_provider() {
    let _ = async_nats::rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[tokio::test]
async fn tls_with_client_certificates_and_a_password() {
    install_provider();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    certificates(dir.path());
    std::fs::write(at("password"), "a secret\n").unwrap();
    let extra = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
         authorization {{ user: ana, password: \"a secret\" }}",
        at("server.pem"),
        at("server.key"),
        at("ca.pem"),
    );
    let nats = Nats::with(&NatsOptions { extra, ..NatsOptions::default() }).unwrap();
    let url = nats.url().replace("nats://", "tls://");
    let mut options = Options::new(&url, "test");
    options.ca = Some(at("ca.pem"));
    options.certificate = Some(at("client.pem"));
    options.key = Some(at("client.key"));
    options.user = Some("ana".to_owned());
    options.password_file = Some(at("password"));
    let connection = connect(&options).await.unwrap();
    assert!(connection.is_connected());
    assert!(connection.round_trip("nobody".to_owned(), Duration::from_secs(5)).await);

    // What is wrong is said at once and not waited for.
    let refused = async |change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        timeout(Duration::from_secs(20), connect(&options)).await.unwrap().unwrap_err()
    };
    std::fs::write(at("wrong"), "another").unwrap();
    let error = refused(&|options| options.password_file = Some(at("wrong"))).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("another"));
    // The servers' certificate is not signed by this one.
    let error = refused(&|options| options.ca = Some(at("client.pem"))).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    let error = refused(&|options| options.ca = Some(at("missing.pem"))).await;
    assert!(error.to_string().contains("missing.pem"), "{error}");
    let error = refused(&|options| options.key = None).await;
    assert!(error.to_string().contains("nats.key"), "{error}");
}

#[tokio::test]
async fn a_lost_server_is_looked_for_until_it_is_back() {
    install_provider();
    let mut nats = Nats::start().unwrap();
    let connection = connect(&Options::new(nats.url(), "test")).await.unwrap();
    let mut status = connection.status();
    assert_eq!(status.borrow().reconnects(), 0);
    nats.kill(0).unwrap();
    status.wait_for(|status| !status.connected).await.unwrap();
    nats.restart(0).unwrap();
    let back = status.wait_for(|status| status.connected);
    timeout(Duration::from_secs(20), back).await.unwrap().unwrap();
    assert_eq!(connection.status().borrow().reconnects(), 1);
}

async fn found(nats: &Nats, expected: &Expected) -> Vec<Finding> {
    let connection = connect(&Options::new(nats.url(), "test")).await.unwrap();
    durability(&connection, expected).await
}

fn has(findings: &[Finding], code: &str, severity: Severity) -> bool {
    findings.iter().any(|finding| finding.code == code && finding.severity == severity)
}

#[tokio::test]
async fn what_is_not_durable_is_found() {
    install_provider();
    let mut nats =
        Nats::with(&NatsOptions { sync_always: false, ..NatsOptions::default() }).unwrap();
    let monitors = vec![nats.monitor_url(0)];
    let expected = Expected { replicas: 1, streams: Vec::new(), monitors };
    let findings = found(&nats, &expected).await;
    assert!(has(&findings, "nats-sync", Severity::Fault), "{findings:?}");
    assert!(has(&findings, "nats-replicas", Severity::Fault), "{findings:?}");
    // What cannot be seen is not called healthy.
    let blind = found(&nats, &Expected { monitors: Vec::new(), ..expected.clone() }).await;
    assert!(has(&blind, "nats-sync-unseen", Severity::Unverified), "{blind:?}");
    assert!(!has(&blind, "nats-sync", Severity::Fault));
    let missing = Expected { streams: vec!["muster_stream_0".to_owned()], ..expected.clone() };
    assert!(has(&found(&nats, &missing).await, "nats-stream", Severity::Fault));
    let connection = connect(&Options::new(nats.url(), "test")).await.unwrap();
    nats.kill(0).unwrap();
    connection.status().wait_for(|status| !status.connected).await.unwrap();
    assert!(has(&durability(&connection, &expected).await, "nats-away", Severity::Fault));
    let off = Nats::with(&NatsOptions { jetstream: false, ..NatsOptions::default() }).unwrap();
    assert!(has(&found(&off, &expected).await, "nats-jetstream", Severity::Fault));
}

#[tokio::test]
async fn a_healthy_cluster_has_no_findings_and_a_lost_node_is_one() {
    install_provider();
    let mut nats = Nats::cluster().unwrap();
    let name = "muster_stream_0".to_owned();
    let client = async_nats::connect(nats.url_of(0)).await.unwrap();
    let config = async_nats::jetstream::stream::Config {
        name: name.clone(),
        subjects: vec!["muster.s.*".to_owned()],
        num_replicas: 3,
        max_bytes: 1 << 20,
        ..Default::default()
    };
    let context = async_nats::jetstream::new(client);
    // Its leader is still being chosen.
    let made = async {
        while context.create_stream(config.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(40), made).await.unwrap();
    let monitors: Vec<String> = (0..3).map(|node| nats.monitor_url(node)).collect();
    let expected = Expected { replicas: 3, streams: vec![name], monitors };
    // The copies of a new stream are behind for a moment.
    let healthy = async {
        while !found(&nats, &expected).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), healthy).await.unwrap();
    let some = Expected { monitors: expected.monitors[..2].to_vec(), ..expected.clone() };
    assert!(has(&found(&nats, &some).await, "nats-sync-unseen", Severity::Unverified));
    nats.kill(2).unwrap();
    let lost = async {
        loop {
            let findings = found(&nats, &expected).await;
            let monitor = has(&findings, "nats-monitor", Severity::Warning);
            if monitor && findings.iter().any(|found| found.code == "nats-copy") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), lost).await.unwrap();
}
