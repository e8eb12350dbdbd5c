use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use axum::body::{Body, to_bytes};
use http::Request;
use muster_types::SystemClock;
use tower::ServiceExt as _;

use super::*;
use muster_authority::Authority;

fn install() -> Install {
    let ca = || Authority::generate(&SystemClock).unwrap().certificate_pem;
    let (signing, other) = (ca(), ca());
    let names = ["muster.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned).to_vec();
    let cas = move || Cas { signing: signing.clone(), trusted: format!("{signing}{other}") };
    let (cas, names) = (Box::new(cas), Box::new(move || names.clone()));
    Install { cas, advertised: Advertised::default(), names }
}

async fn get(router: &Router, path: &str, host: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn run(script: &str, dir: &Path, stdin: &str, environment: Option<&str>) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("OSQUERY_DIR", dir).env_remove("MUSTER_ENROL_SECRET");
    if let Some(secret) = environment {
        command.env("MUSTER_ENROL_SECRET", secret);
    }
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The script may not read it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_script_writes_what_osqueryd_needs() {
    let install = install();
    let pem = (install.cas)().trusted;
    let (status, script) = get(&router(install), "/install", "muster.example:8443").await;
    assert_eq!(status, 200);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("osquery");
    let done = run(&script, &dir, "mes_from-stdin\n", None);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("ca.pem").trim(), pem.trim());
    assert_eq!(read("enroll_secret"), "mes_from-stdin\n");
    assert_eq!(mode(&dir.join("enroll_secret")), 0o600);
    let flags = read("osquery.flags");
    assert!(flags.starts_with("--tls_hostname=muster.example:8443\n"), "{flags}");
    assert!(flags.contains(&format!("--tls_server_certs={}/ca.pem\n", dir.display())), "{flags}");

    // Once more, with a secret from the environment: what was there is kept aside.
    let done = run(&script, &dir, "", Some("mes_from-environment"));
    assert!(done.status.success());
    assert_eq!(read("enroll_secret"), "mes_from-environment\n");
    assert_eq!(read("enroll_secret.bak"), "mes_from-stdin\n");
}

#[tokio::test]
async fn without_a_secret_nothing_is_written() {
    let (_, script) = get(&router(install()), "/install", "muster.example").await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("osquery");
    let done = run(&script, &dir, "", None);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("no enrolment secret"));
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_ca_that_is_not_the_one_named_is_refused() {
    let (_, script) = get(&router(install()), "/install", "muster.example").await;
    let other = Authority::generate(&SystemClock).unwrap().certificate_pem;
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let (from, to) = (script.find(begin).unwrap(), script.find(end).unwrap() + end.len());
    let forged = format!("{}{}{}", &script[..from], other.trim(), &script[to..]);
    let dir = tempfile::tempdir().unwrap();
    let done = run(&forged, dir.path(), "secret\n", None);
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("damaged"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_names_of_the_certificate_get_into_the_script() {
    let router = router(install());
    for host in ["192.0.2.7:8443", "[2001:db8::7]:8443", "MUSTER.example"] {
        assert_eq!(get(&router, "/install", host).await.0, 200, "{host}");
    }
    for host in ["evil.example", "a'; rm -rf / #", "$(id):1", "muster.example:x", ""] {
        let (status, body) = get(&router, "/install", host).await;
        assert_eq!(status, 421, "{host}");
        assert!(!body.contains("#!"), "{host}");
    }
}

#[tokio::test]
async fn the_ca_that_is_served_bears_the_fingerprint_of_the_line() {
    let install = install();
    let line = line("muster.example:8443", &fingerprint(&(install.cas)().signing).unwrap());
    let (status, pem) = get(&router(install), "/install/ca.pem", "whatever").await;
    assert_eq!(status, 200);
    assert!(line.contains(&fingerprint(&pem).unwrap()));
    // The secret is never part of it.
    assert!(!line.contains("SECRET"), "{line}");
}
