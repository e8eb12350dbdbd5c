//! File carving (section 8).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_gateway_osquery::Options;
use muster_types::{AgentNo, Fact, UploadNo};
use serde_json::{Value, json};

use crate::client::{Means, Reply};
use crate::rig::{Rig, Setup};

muster_catalog::statements! {
    FAIL = "UPDATE upload SET state = 'failed' WHERE no = $1";
}

impl Rig {
    /// As tidying up gives up an upload.
    async fn fail_upload(&self, upload: UploadNo) {
        let values = muster_catalog::args![upload];
        self.store.catalog.execute(muster_catalog::Priority::Intake, &FAIL, values).await.unwrap();
    }

    async fn carve(&self, key: &str, carve: &str) -> Reply {
        let body = json!({"block_count": 2, "block_size": 8, "carve_size": 12, "carve_id": carve,
            "request_id": "r", "node_key": key});
        self.far.post_json("/api/v1/osquery/carve/begin", &body).await
    }

    async fn block(&self, session: &Value, block: u32, bytes: &[u8]) -> Reply {
        let body = json!({"block_id": block, "session_id": session, "request_id": "r",
            "data": STANDARD.encode(bytes)});
        self.far.post_json("/api/v1/osquery/carve/block", &body).await
    }
}

#[tokio::test]
async fn carve_blocks_need_no_key_but_their_session() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let session = rig.carve(&key, "guid-1").await.json()["session_id"].clone();
    assert!(!session.as_str().unwrap().is_empty());
    assert_eq!(rig.block(&session, 0, b"12345678").await.json(), json!({"success": true}));
    assert_eq!(rig.block(&session, 1, b"9012").await.means(), Means::Success);
    let blocks: Vec<_> = rig
        .said()
        .into_iter()
        .flat_map(|(agent, facts)| facts.items.into_iter().map(move |fact| (agent, fact)))
        .filter_map(|(agent, fact)| match fact {
            Fact::Block(block) => Some((agent, block.upload, block.index, block.bytes.to_vec())),
            _ => None,
        })
        .collect();
    let (me, upload) = (AgentNo(1), UploadNo(1));
    assert_eq!(blocks, [(me, upload, 0, b"12345678".to_vec()), (me, upload, 1, b"9012".to_vec())]);
    rig.stop().await;
}

#[tokio::test]
async fn carve_that_begins_twice_is_one_upload() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let first = rig.carve(&key, "guid-1").await.json();
    assert_eq!(rig.carve(&key, "guid-1").await.json(), first, "the double send");
    assert_ne!(rig.carve(&key, "guid-2").await.json(), first);
    rig.stop().await;
}

#[tokio::test]
async fn carve_that_is_refused_gets_no_session() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let reply = rig.carve("foreign", "guid-1").await;
    assert!(reply.json().get("session_id").is_none());
    let body = json!({"block_count": 0, "block_size": 8, "carve_id": "g", "node_key": key});
    let reply = rig.far.post_json("/e/init", &body).await;
    assert!(reply.json().get("session_id").is_none(), "{reply:?}");
    rig.stop().await;
}

/// JSON without a session would be the end of the carve; what is no JSON makes agents come again.
#[tokio::test]
async fn carve_over_the_bound_is_refused_with_no_json_and_begins_later() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let names: Vec<String> = (1..=17).map(|n| format!("guid-{n}")).collect();
    let begun =
        futures_util::future::join_all(names.iter().map(|name| rig.carve(&key, name))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = begun.iter().partition(|reply| reply.status == 200);
    assert_eq!((taken.len(), refused.len()), (16, 1));
    assert_eq!((refused[0].status, refused[0].means()), (503, Means::KeepAndRetry));
    assert!(serde_json::from_slice::<Value>(&refused[0].body).is_err(), "{:?}", refused[0]);
    // All sixteen go on, and once one is over the seventeenth begins.
    let sessions: Vec<Value> =
        taken.iter().map(|reply| reply.json()["session_id"].clone()).collect();
    for session in &sessions {
        assert_eq!(rig.block(session, 0, b"12345678").await.json(), json!({"success": true}));
    }
    rig.fail_upload(UploadNo(1)).await;
    let late = begun.iter().position(|reply| reply.status != 200).unwrap();
    let session = rig.carve(&key, &names[late]).await.json()["session_id"].clone();
    assert_eq!(rig.block(&session, 0, b"12345678").await.means(), Means::Success);
    // Another host has a bound of its own.
    let other = rig.enrol("host-2", "b").await;
    assert!(rig.carve(&other, "guid-1").await.json()["session_id"].is_string());
    rig.stop().await;
}

/// Its blocks would be stored for nobody.
#[tokio::test]
async fn carve_that_was_given_up_takes_no_blocks() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let session = rig.carve(&key, "guid-1").await.json()["session_id"].clone();
    assert_eq!(rig.block(&session, 0, b"12345678").await.means(), Means::Success);
    rig.fail_upload(UploadNo(1)).await;
    rig.clock.advance(std::time::Duration::from_secs(60));
    let before = rig.said().len();
    let reply = rig.block(&session, 1, b"9012").await;
    assert_eq!(reply.status, 403);
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err(), "{reply:?}");
    assert_eq!(rig.said().len(), before);
    // To begin it again is the end of the carve on the agent, not a retry.
    let again = rig.carve(&key, "guid-1").await;
    assert_eq!(again.status, 400);
    assert!(again.json()["error"].as_str().unwrap().contains("has failed"), "{again:?}");
    rig.stop().await;
}

#[tokio::test]
async fn carve_that_cannot_begin_in_time_is_answered_with_no_json() {
    let setup = Setup {
        options: Options { time_max: std::time::Duration::from_secs(2), ..Options::default() },
        ..Setup::default()
    };
    let rig = Rig::with(setup).await;
    let key = rig.enrol("host-1", "a").await;
    let busy = rig.store.catalog.begin(muster_catalog::Priority::Api).await.unwrap();
    let reply = rig.carve(&key, "guid-1").await;
    assert_eq!(reply.status, 503);
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err(), "{reply:?}");
    busy.rollback().await;
    assert!(rig.carve(&key, "guid-1").await.json()["session_id"].is_string());
    rig.stop().await;
}

/// Agents do not look at `error` here: any JSON is success to them.
#[tokio::test]
async fn carve_block_that_is_not_taken_is_answered_with_no_json() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let session = rig.carve(&key, "guid-1").await.json()["session_id"].clone();
    let forged = Value::from(format!("{}A", session.as_str().unwrap()));
    for (session, block) in [(&forged, 0), (&session, 2), (&Value::from(""), 0)] {
        let reply = rig.block(session, block, b"x").await;
        assert!(serde_json::from_slice::<Value>(&reply.body).is_err(), "{reply:?}");
        assert!(!reply.body.is_empty());
    }
    let retry = std::time::Duration::from_secs(1);
    rig.stream.refuse(Some(muster_stream::AppendError::Full { retry_after: retry }));
    assert_eq!(rig.block(&session, 0, b"x").await.means(), Means::KeepAndRetry);
    rig.stop().await;
}

#[tokio::test]
async fn carve_block_without_room_is_answered_with_no_json() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let session = rig.carve(&key, "guid-1").await.json()["session_id"].clone();
    let all = rig.budget.try_take(usize::MAX).unwrap();
    let refused = rig.block(&session, 0, &[b'x'; 60_000]).await;
    assert_eq!(refused.status, 503);
    assert!(serde_json::from_slice::<Value>(&refused.body).is_err(), "{refused:?}");
    drop(all);
    rig.stop().await;
}
