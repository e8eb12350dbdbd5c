//! Transport and answers (sections 1, 2, 3).

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{Means, enrolment, read_reply, request};
use crate::rig::Rig;

const READ: &str = "/api/v1/osquery/distributed/read";
const PATHS: [&str; 7] =
    ["enroll", "config", "log", "distributed/read", "distributed/write", "carve/begin", "yara/x"];

#[tokio::test]
async fn answers_are_always_json_objects_that_are_not_empty() {
    let rig = Rig::start().await;
    let garbage: [&[u8]; 6] = [b"", b"{}", b"[]", b"null", b"\xff\xff", b"{\"node_key\":7}"];
    for path in PATHS {
        for body in garbage {
            for prefix in ["/api/osquery/", "/api/v1/osquery/"] {
                let reply = rig.far.post(&format!("{prefix}{path}"), body, &[]).await;
                let answer = reply.json();
                assert!(answer.get("error").is_some_and(|e| !e.as_str().unwrap().is_empty()));
                assert!(!(300..400).contains(&reply.status), "never a redirect");
            }
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn answers_on_unknown_paths_are_errors_too() {
    let rig = Rig::start().await;
    for path in ["/api/v1/osquery/nothing", "/", "/api/osquery/carve", "/a/b/c/log"] {
        let reply = rig.far.post(path, "{}", &[]).await;
        assert_eq!((reply.status, reply.means()), (404, Means::KeepAndRetry), "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn requests_may_share_a_connection() {
    let rig = Rig::start().await;
    let body = json!({"node_key": rig.enrol("host-1", "a").await}).to_string();
    let tcp = tokio::net::TcpStream::connect(rig.far.address).await.unwrap();
    let mut io = rig.far.connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    for path in [READ, "/api/osquery/config", "/e/read", READ] {
        io.write_all(&request(path, body.as_bytes(), &[])).await.unwrap();
        assert_eq!(read_reply(&mut io).await.means(), Means::Success, "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn every_request_may_be_sent_twice() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let bodies = [
        ("config", json!({"node_key": key})),
        ("log", json!({"data": [{"name": "q"}], "log_type": "result", "node_key": key})),
        ("distributed/read", json!({"node_key": key})),
        ("distributed/write", json!({"queries": {}, "statuses": {}, "node_key": key})),
    ];
    for (path, body) in bodies {
        let path = format!("/api/osquery/{path}");
        let (one, two) =
            tokio::join!(rig.far.post_json(&path, &body), rig.far.post_json(&path, &body));
        assert_eq!((one.means(), two.means()), (Means::Success, Means::Success), "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn requests_with_a_large_body_and_a_bad_header_key_are_refused_before_it_is_read() {
    let rig = Rig::start().await;
    let head = "POST /api/osquery/log HTTP/1.1\r\nHost: x\r\nAuthorization: NodeKey foreign\r\n\
                Content-Length: 1000000\r\n\r\n";
    let tcp = tokio::net::TcpStream::connect(rig.far.address).await.unwrap();
    let mut io = rig.far.connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    io.write_all(head.as_bytes()).await.unwrap();
    let reply = read_reply(&mut io).await;
    assert_eq!(reply.json()["node_invalid"], Value::Bool(true));
    rig.stop().await;
}

#[tokio::test]
async fn an_agent_with_tls_1_2_alone_is_served() {
    let rig = Rig::start().await;
    let old = rig.seen_by(&[&rustls::version::TLS12]);
    let body = enrolment(&rig.secret, "host-1", "a");
    let reply = old.post_json("/api/osquery/enroll", &body).await;
    assert_eq!(reply.means(), Means::Success, "{reply:?}");
    let key = reply.json()["node_key"].as_str().unwrap().to_owned();
    let body = json!({"node_key": key});
    let reply = old.post_json("/api/osquery/distributed/read", &body).await;
    assert_eq!(reply.body, br#"{"queries":{}}"#);
    rig.stop().await;
}
