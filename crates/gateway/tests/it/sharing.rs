//! One port, several protocols, and proxies in front.

use crate::rig::{Rig, post};

#[tokio::test]
async fn requests_of_all_kinds_come_on_one_connection() {
    let rig = Rig::start().await;
    let mut proxy = rig.connect().await;
    assert!(proxy.ask(&post("/agent/read", "", "")).await.body.contains("/agent/read"));
    let got = proxy.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!((got.status, got.body.as_str()), (200, "ok"));
    let got = proxy.ask(&post("/agent/read", "", "12345")).await;
    assert!(got.body.contains("\"len\":5"), "the router knows the service, too: {}", got.body);
    assert_eq!(proxy.ask(&post("/nothing", "", "")).await.status, 404);
    rig.stop().await;
}

#[tokio::test]
async fn a_request_for_somebody_else_in_pieces() {
    let rig = Rig::start().await;
    for cut in [2, 6, 12, 20, 30] {
        let mut client = rig.connect().await;
        let text = "GET /healthz?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        client.ask(&post("/agent/read", "", "")).await;
        client.send(&text[..cut]).await;
        assert_eq!(client.ask(&text[cut..]).await.body, "ok", "{cut}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn chunked_bodies_are_taken() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let head = "POST /agent/log HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let got = agent.ask(&format!("{head}5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n")).await;
    assert!(got.body.contains("\"len\":9,\"first\":\"hello you\""), "{}", got.body);
    let long = "x".repeat(20_000);
    let got = agent.ask(&format!("{head}4e20\r\n{long}\r\n4\r\n key\r\n0\r\n\r\n")).await;
    assert!(got.body.contains("\"len\":10000") && got.body.contains("\"tail\":\"xxxxxx key\""));
    rig.stop().await;
}

#[tokio::test]
async fn who_asks_is_who_the_trusted_proxy_says() {
    let rig = Rig::start().await;
    let mut proxy = rig.connect().await;
    for (field, from) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 1.1.1.1, 198.51.100.8\r\n", "198.51.100.8"),
        ("X-Forwarded-For: 198.51.100.9, 127.0.0.3\r\n", "198.51.100.9"),
        ("X-Forwarded-For: nonsense\r\n", "127.0.0.1"),
    ] {
        let got = proxy.ask(&post("/agent/read", field, "")).await;
        assert!(got.body.contains(&format!("\"from\":\"{from}\"")), "{field}: {}", got.body);
    }
    rig.stop().await;
}
