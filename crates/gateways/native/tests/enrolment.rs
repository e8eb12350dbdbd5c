//! Enrolment through the door agents use.

mod rig;

use muster_codec_native::{Credential, ENROL_PATH, RefusalReason};
use muster_gateway::{EnrolmentRates, Refusal};
use muster_gateway_native::Options;
use muster_types::{AgentNo, Timestamp};
use rig::Rig;
use rig::client::Key;

#[tokio::test]
async fn a_machine_enrols_and_asking_again_gives_the_same_number() {
    let rig = Rig::start().await;
    let key = Key::new();
    let request = rig.request(&key, Credential::Secret(rig.secret.clone()));
    let answer = rig.try_enrol(&request).await.unwrap();
    assert_eq!(answer.agent_no, AgentNo(1));
    assert_eq!(answer.server_cas, "the CAs");
    assert_eq!(rig.try_enrol(&request).await.unwrap(), answer);
    let snapshot = rig.directory.snapshot();
    let agent = snapshot.agent(AgentNo(1)).expect("known at once");
    assert_eq!(agent.public_key.as_deref(), Some(&key.public()[..]));
    assert_eq!(&*agent.hostname, "web-1");
    assert_eq!(rig.metrics.enrolled.get(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let rig = Rig::start().await;
    let key = Key::new();

    let wrong = rig.request(&key, Credential::Secret("guessed".into()));
    let refusal = rig.try_enrol(&wrong).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::WrongSecret);
    assert!(refusal.hint.contains("current one"), "{}", refusal.hint);

    let mut request = rig.request(&key, Credential::Secret(rig.secret.clone()));
    request.machine_id = "another".into();
    let refusal = rig.try_enrol(&request).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Malformed);
    assert!(refusal.hint.contains("signature"), "{}", refusal.hint);

    let mut request = rig.request(&key, Credential::Secret(rig.secret.clone()));
    request.time = Timestamp(request.time.0 - 3 * Timestamp::DAY_MICROS);
    let refusal = rig.try_enrol(&request).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Clock);
    assert!(refusal.hint.contains("72 hours behind"), "{}", refusal.hint);

    let ticket = rig.request(&key, Credential::Ticket("forged".into()));
    let refusal = rig.try_enrol(&ticket).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::WrongTicket);

    let (status, body) = rig.post_enrol("{\"not\":\"it\"}").await;
    assert_eq!(status, 400);
    assert!(body.contains("malformed"), "{body}");
    let (status, _) = rig.post_enrol(&"x".repeat(100_000)).await;
    assert_eq!(status, 413);

    assert_eq!(rig.metrics.refusals(Refusal::Enrolment), 5);
    rig.stop().await;
}

#[tokio::test]
async fn enrolments_with_a_good_secret_are_bounded_in_rate() {
    let rates = EnrolmentRates { per_second: 1, ..EnrolmentRates::default() };
    let rig = Rig::limited(Options::default(), rates).await;
    for _ in 0..3 {
        let guess = rig.request(&Key::new(), Credential::Secret("guessed".into()));
        let refusal = rig.try_enrol(&guess).await.unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::WrongSecret, "guesses take nobody's place");
    }
    let request = || rig.request(&Key::new(), Credential::Secret(rig.secret.clone()));
    rig.try_enrol(&request()).await.expect("the first one's place");
    let mut busy = 0;
    for _ in 0..3 {
        if let Err(refusal) = rig.try_enrol(&request()).await {
            assert_eq!(refusal.reason, RefusalReason::Busy);
            assert!(refusal.retry_after_ms > 0);
            busy += 1;
        }
    }
    assert!(busy > 0);
    rig.stop().await;
}

#[tokio::test]
async fn each_address_may_try_so_often() {
    let rates =
        EnrolmentRates { source_per_second: 1, source_burst: 2, ..EnrolmentRates::default() };
    let rig = Rig::limited(Options::default(), rates).await;
    let from = |address: &str| {
        let request = rig.request(&Key::new(), Credential::Secret("guessed".into()));
        let body = serde_json::to_string(&request).unwrap();
        format!(
            "POST {ENROL_PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             x-forwarded-for: {address}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut refusals = Vec::new();
    for _ in 0..6 {
        refusals.push(rig.http(from("192.0.2.7")).await.0);
    }
    assert_eq!(refusals[..2], [401, 401]);
    assert!(refusals.contains(&503), "{refusals:?}");
    assert_eq!(rig.http(from("192.0.2.8")).await.0, 401, "another address is not in its way");
    assert_eq!(rig.http(from("1.1.1.1, 192.0.2.9")).await.0, 401, "who the proxy says it is");
    rig.stop().await;
}

#[tokio::test]
async fn other_requests_reach_the_other_routes() {
    let rig = Rig::start().await;
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!(rig.http(get("/healthz")).await, (200, "ok".to_owned()));
    assert_eq!(rig.http(get("/nothing")).await.0, 404);
    assert_eq!(rig.http(get("/v1/agent/link")).await.0, 400, "a link without an upgrade");
    rig.stop().await;
}
