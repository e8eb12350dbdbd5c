//! Requests and answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::rig::{BODY_MAX, Rig, post, until};

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_come_together() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let got = agent.ask(&post("/agent/read", "", "{}")).await;
    assert_eq!(got.status, 200);
    assert!(got.head.contains("content-type: application/json\r\n"), "{}", got.head);
    assert!(got.body.contains("\"path\":\"/agent/read\"") && got.body.contains("\"len\":2"));
    let three = [post("/agent/a", "", "1"), post("/agent/b", "", ""), post("/agent/c", "", "333")];
    agent.send(&three.concat()).await;
    for path in ["/agent/a", "/agent/b", "/agent/c"] {
        assert!(agent.answer().await.unwrap().body.contains(path));
    }
    assert_eq!(rig.metrics.requests.get(), 4);
    until("all are told", || rig.told[0].load(Ordering::SeqCst) == 4).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_request_may_come_in_pieces() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let text = post("/agent/read", "", "0123456789abc");
    for cut in [1, 4, 20, 60, text.len() - 5, text.len() - 1] {
        agent.send(&text[..cut]).await;
        sleep(Duration::from_millis(2)).await;
        let got = agent.ask(&text[cut..]).await;
        assert!(got.body.contains("\"len\":13,\"first\":\"0123456789\""), "{cut}: {}", got.body);
    }
    for byte in text.chars() {
        agent.send(&byte.to_string()).await;
    }
    assert_eq!(agent.answer().await.unwrap().status, 200);
    rig.stop().await;
}

#[tokio::test]
async fn the_agent_asks_before_it_sends() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let head = "POST /agent/read HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let go = agent.ask(head).await;
    assert_eq!((go.status, go.body.as_str()), (100, ""));
    assert!(agent.ask("hello").await.body.contains("hello"));
    let refused = agent.ask(&head.replace("read", "refused")).await;
    assert_eq!(refused.status, 413);
    assert!(agent.answer().await.is_none(), "nobody knows whether the body comes");
    rig.stop().await;
}

#[tokio::test]
async fn of_a_body_over_the_cap_the_beginning_and_the_end_are_seen() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let body = format!("beginning!{}node_key=7", "x".repeat(5 * BODY_MAX));
    let got = agent.ask(&post("/agent/log", "", &body)).await;
    let seen = "\"len\":10000,\"first\":\"beginning!\",\"cut\":true,\"tail\":\"node_key=7\"";
    assert!(got.body.contains(seen), "{}", got.body);
    let got = agent.ask(&post("/agent/log", "", &body[..BODY_MAX + 12])).await;
    assert!(got.body.contains("\"cut\":true,\"tail\":\"xxxxxxxxxx\""), "{}", got.body);
    assert_eq!(agent.ask(&post("/agent/read", "", "")).await.status, 200, "the connection is kept");
    rig.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_wanted_is_skipped_or_ends_the_connection() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    for path in ["/agent/small", "/agent/refused"] {
        assert_eq!(agent.ask(&post(path, "", &"x".repeat(30_000))).await.status, 413);
    }
    assert_eq!(agent.ask(&post("/agent/small", "", "x")).await.status, 200);
    // More than is skipped, and still all of the answer arrives.
    let refused = agent.ask(&post("/agent/refused", "", &"x".repeat(1 << 20))).await;
    assert!(refused.head.contains("connection: close"), "{}", refused.head);
    assert!(refused.body.contains("too large"));
    assert!(agent.answer().await.is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    for _ in 0..2 {
        let got = agent.ask(&post("/agent/large", "", "")).await;
        assert_eq!(got.body.len(), 3 << 20);
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_told() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    agent.send(&post("/agent/later", "", "")).await;
    until("it is called", || rig.calls.load(Ordering::SeqCst) == 1).await;
    drop(agent);
    // The first write to a connection that was reset may still be taken by the kernel.
    rig.gate.add_permits(1);
    let told = || rig.told.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u32>();
    until("exactly one is told", || told() == 1).await;

    let mut agent = rig.connect().await;
    agent.send(&post("/agent/large", "", "")).await;
    drop(agent);
    until("the other, too", || told() == 2).await;
    assert!(rig.told[1].load(Ordering::SeqCst) >= 1, "3 MiB are more than sockets hold");
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_an_error_and_the_end() {
    let rig = Rig::start().await;
    for (text, status) in [
        ("POST /agent/read HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 411),
        ("POST /agent/read HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
        ("POST /agent/read HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        (format!("POST /agent/read HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000)), 431),
    ] {
        let mut agent = rig.connect().await;
        let got = agent.ask(&text).await;
        assert_eq!(got.status, status, "{text}");
        assert!(
            got.body.starts_with("{\"error\":\""),
            "agents look at the body only: {}",
            got.body
        );
        assert!(agent.answer().await.is_none());
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_agent_says_when_the_connection_ends() {
    let rig = Rig::start().await;
    let mut agent = rig.connect().await;
    let got = agent.ask(&post("/agent/read", "Connection: close\r\n", "")).await;
    assert!(got.head.contains("connection: close"));
    assert!(agent.answer().await.is_none());
    rig.stop().await;
}
