//! `POST /sql` and live rows, with a small stand-in for the child process.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, StringArray};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use http_body_util::BodyExt as _;
use muster_bus::Topic;
use muster_types::{AgentKind, Clock as _, HuntNo};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::kit::{Adjust, Api, request};

/// A child that runs this script with the answer's file as `$0`.
fn child(script: &str, dir: &std::path::Path) -> impl FnOnce(&mut Adjust) {
    let columns: [(&str, arrow::array::ArrayRef); 2] = [
        ("pid", Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))),
        ("name", Arc::new(StringArray::from(vec!["init", "two\nlines, \"quoted\"", "x"]))),
    ];
    child_with(script, dir, &RecordBatch::try_from_iter(columns).unwrap())
}

/// The same with rows of choice.
pub fn child_with(
    script: &str,
    dir: &std::path::Path,
    batch: &RecordBatch,
) -> impl FnOnce(&mut Adjust) + use<> {
    let mut bytes = b"{\"answer\":\"ok\"}\n".to_vec();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let file = dir.join("answer");
    std::fs::write(&file, bytes).unwrap();
    let arguments = vec!["-c".to_owned(), script.to_owned(), file.display().to_string()];
    move |with| {
        with.sql.program = Some("/bin/sh".into());
        with.sql.arguments = arguments;
    }
}

/// Takes the question and answers.
pub const ANSWERS: &str = "read line; cat \"$0\"";

async fn ask(api: &Api, format: &str, body: Value) -> crate::kit::Answer {
    api.post(&api.root, &format!("/v1/sql?format={format}"), body).await
}

#[tokio::test]
async fn rows_come_in_the_asked_form() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child(ANSWERS, dir.path())).await;
    let question = json!({"sql": "SELECT 1"});
    let document = ask(&api, "json", question.clone()).await.expect(200);
    assert_eq!(
        document,
        json!({
            "columns": [{"name": "pid", "type": "int"}, {"name": "name", "type": "text"}],
            "rows": [
                {"pid": 1, "name": "init"},
                {"pid": 2, "name": "two\nlines, \"quoted\""},
                {"pid": null, "name": "x"},
            ],
            "row_count": 3,
            "truncated": false,
        })
    );
    let cut = ask(&api, "json", json!({"sql": "SELECT 1", "rows": 2})).await.expect(200);
    assert_eq!((&cut["row_count"], &cut["truncated"]), (&json!(2), &json!(true)));
    let lines = ask(&api, "ndjson", question.clone()).await;
    assert_eq!(lines.bytes.iter().filter(|byte| **byte == b'\n').count(), 3);
    let csv = ask(&api, "csv", question.clone()).await;
    assert!(csv.bytes.starts_with(b"pid,name\n1,init\n"));
    let arrow = ask(&api, "arrow", question).await;
    let reader = arrow::ipc::reader::StreamReader::try_new(&arrow.bytes[..], None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
    let records = api.audited("operation=sql").await;
    assert_eq!(records.len(), 5);
    assert_eq!(records[0]["details"]["query"], "SELECT 1");
    assert_eq!(records[0]["details"]["rows"], 3);
}

/// Who did not say how many rows it wants does not take a cut answer for a whole one.
#[tokio::test]
async fn an_answer_that_is_longer_than_allowed_is_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let answers = child(ANSWERS, dir.path());
    let api = Api::with(move |with| {
        answers(with);
        with.sql.rows = 2;
    })
    .await;
    let cut = ask(&api, "json", json!({"sql": "SELECT 1"})).await.expect(200);
    assert_eq!((&cut["row_count"], &cut["truncated"]), (&json!(2), &json!(true)));
    for format in ["ndjson", "csv", "arrow"] {
        for asked in [None, Some(9)] {
            let question = json!({"sql": "SELECT 1", "rows": asked});
            let answer = ask(&api, format, question).await;
            assert!(answer.broken_off, "{format} {asked:?}");
            assert_eq!(answer.headers["muster-rows-max"], "2");
        }
        let wanted = ask(&api, format, json!({"sql": "SELECT 1", "rows": 2})).await;
        assert!(!wanted.broken_off, "{format}: it has what was asked for");
        assert!(!wanted.headers.contains_key("muster-rows-max"));
    }
    let lines = ask(&api, "ndjson", json!({"sql": "SELECT 1"})).await;
    assert_eq!(lines.bytes.iter().filter(|byte| **byte == b'\n').count(), 2, "what there is comes");
}

#[tokio::test]
async fn a_refusal_and_a_death_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let refusal =
        r#"read line; echo '{"answer":"error","message":"no table x","user_error":true}'"#;
    let api = Api::with(child(refusal, dir.path())).await;
    let detail = ask(&api, "json", json!({"sql": "SELECT"})).await.refused(422, "invalid_query");
    assert_eq!(detail, "no table x");
    let api = Api::with(child("exit 3", dir.path())).await;
    ask(&api, "json", json!({"sql": "SELECT"})).await.refused(500, "internal");
    let api =
        Api::with(child("echo memory allocation of 9 bytes failed >&2; kill -9 $$", dir.path()))
            .await;
    ask(&api, "json", json!({"sql": "SELECT"})).await.refused(507, "query_memory");
    let failed = api.audited("operation=sql").await;
    assert_eq!(failed[0]["outcome"], "failed");
}

#[tokio::test]
async fn a_child_is_killed_at_its_deadline_and_when_the_asker_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
    let api = Api::with(child(&script, dir.path())).await;
    let body = json!({"sql": "SELECT 1", "timeout_seconds": 3});
    ask(&api, "json", body).await.refused(504, "query_timeout");
    gone(&pid_file).await;

    let script =
        format!("echo $$ > {}; read line; cat \"$0\"; exec sleep 1000", pid_file.display());
    let api = Api::with(child(&script, dir.path())).await;
    let request = request(&api.root, http::Method::POST, "/v1/sql", &json!({"sql": "SELECT 1"}));
    let response = api.router.clone().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"pid\":1"));
    drop(body);
    gone(&pid_file).await;
}

#[tokio::test]
async fn a_reader_that_stops_keeps_others_waiting_until_its_time_is_up() {
    let dir = tempfile::tempdir().unwrap();
    // More than fits between the child and a reader.
    let numbers: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(0..200_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let answers = child_with(ANSWERS, dir.path(), &batch);
    let api = Api::with(|with| {
        answers(with);
        with.sql.concurrent = 1;
    })
    .await;
    let body = json!({"sql": "SELECT 1", "timeout_seconds": 3});
    let asked = request(&api.root, http::Method::POST, "/v1/sql?format=arrow", &body);
    let stopped = api.router.clone().oneshot(asked).await.unwrap();
    assert_eq!(stopped.status(), 200);
    let next = ask(&api, "json", json!({"sql": "SELECT 2", "rows": 1}));
    let next = tokio::time::timeout(Duration::from_secs(10), next).await.expect("the slot");
    assert_eq!(next.expect(200)["rows"], json!([{"n": 0}]));
    let records = api.audited("operation=sql").await;
    let first = records.iter().find(|record| record["details"]["query"] == "SELECT 1").unwrap();
    assert_eq!(first["details"]["code"], "query_timeout", "{first}");
    // What was on its way comes, and then not an end that would look like a good one.
    let mut body = stopped.into_body();
    let mut pieces = 0;
    let broken = loop {
        match body.frame().await {
            Some(Ok(_)) => pieces += 1,
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken && pieces > 0, "{pieces} pieces");
}

async fn gone(pid_file: &std::path::Path) {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let proc = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    let wait = async {
        while proc.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the child still runs");
}

#[tokio::test]
async fn live_rows_reach_who_may_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child("exit 1", dir.path())).await;
    api.endpoint("dev-1", true, "dev").await;
    api.endpoint("board-1", true, "board").await;
    let dee = api.user("dee", json!([{"role": "analyst", "labels": ["dev"]}])).await;
    let made = api.post(&dee, "/v1/queries", json!({"query": "SELECT 1"})).await.expect(201);
    assert_eq!(made["match"], 1);
    let no = made["no"].as_u64().unwrap();
    // Published before anybody looks: the watch was opened with the question.
    for agent in [2, 1] {
        let hint = json!({
            "shard": agent, "pos": 7, "agent": agent, "row_count": 1, "rows": [{"a": agent}],
            "truncated": false, "end": {"outcome": "rows", "message": ""},
        });
        api.bus.publish(Topic::Live(HuntNo(no)), hint.to_string().into());
        api.bus.publish(Topic::Live(HuntNo(no)), hint.to_string().into());
    }
    let request = request(&dee, http::Method::GET, &format!("/v1/hunts/{no}/live"), &Value::Null);
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut seen = String::new();
    let read = async {
        while seen.matches("event: outcome").count() < 2 || !seen.contains("event: progress") {
            let frame = body.frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("events");
    assert_eq!(seen.matches("event: rows").count(), 1, "{seen}");
    assert!(seen.contains(r#""name":"dev-1","agent":1,"rows":[{"a":1}]"#), "{seen}");
    assert!(!seen.contains("board"), "{seen}");
}

#[tokio::test]
async fn who_waits_for_an_agent_that_polls_is_told_for_how_long() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child("exit 1", dir.path())).await;
    let (agent, _) = api.enrolled("web-7", AgentKind::Osquery).await;
    for _ in 0..2 {
        api.presence.polled(agent, api.clock.now());
        api.clock.advance(Duration::from_secs(40));
    }
    api.presence.polled(agent, api.clock.now());
    api.clock.advance(Duration::from_secs(6));
    let made = api.post(&api.root, "/v1/hunts", json!({"query": "SELECT 1"})).await.expect(201);
    let no = made["no"].as_u64().unwrap();
    let outcomes = api.get(&api.root, &format!("/v1/hunts/{no}/outcomes")).await.expect(200);
    assert_eq!(outcomes["items"][0]["note"], "waiting for poll, 34 s at most", "{outcomes}");
    let path = format!("/v1/hunts/{no}/live");
    let request = request(&api.root, http::Method::GET, &path, &Value::Null);
    let mut body = api.router.clone().oneshot(request).await.unwrap().into_body();
    let mut seen = String::new();
    let read = async {
        while !seen.contains("event: progress") {
            let frame = body.frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("events");
    assert!(
        seen.contains(r#""waiting":1"#) && seen.contains(r#""next_poll_seconds":34"#),
        "{seen}"
    );
}

#[tokio::test]
async fn who_joins_late_gets_the_stored_rows_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let columns: [(&str, arrow::array::ArrayRef); 4] = [
        ("agent", Arc::new(Int64Array::from(vec![1, 1, 1]))),
        ("found", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("_shard", Arc::new(Int64Array::from(vec![1, 1, 1]))),
        ("_pos", Arc::new(Int64Array::from(vec![5, 5, 9]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let api = Api::with(child_with(ANSWERS, dir.path(), &batch)).await;
    api.endpoint("dev-1", true, "").await;
    let made = api.post(&api.root, "/v1/hunts", json!({"query": "SELECT 1"})).await.expect(201);
    let no = made["no"].as_u64().unwrap();
    let path = format!("/v1/hunts/{no}/live");
    let request = request(&api.root, http::Method::GET, &path, &Value::Null);
    let mut body = api.router.clone().oneshot(request).await.unwrap().into_body();
    let mut seen = String::new();
    let read = async {
        while !seen.contains("event: progress") {
            let frame = body.frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
        // A hint of a record that was read from the segments already is not told again.
        let hint = json!({"shard": 1, "pos": 9, "agent": 1, "rows": [{"found": "c"}]});
        api.bus.publish(Topic::Live(HuntNo(no)), hint.to_string().into());
        api.post(&api.root, &format!("/v1/hunts/{no}/stop"), Value::Null).await.expect(204);
        while let Some(frame) = body.frame().await {
            seen.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("events");
    assert_eq!(seen.matches("event: rows").count(), 2, "{seen}");
    assert!(seen.contains(r#""rows":[{"found":"a"},{"found":"b"}]"#), "{seen}");
    let end = seen.split("event: end").nth(1).unwrap();
    assert!(end.contains(r#""state":"stopped""#) && end.contains(r#""row_count":3"#), "{end}");
    assert!(end.contains(r#""cancelled":1"#), "{end}");
}

/// Follows a hunt; the stream is read from the answer's body.
async fn follow(api: &Api, token: &str, no: &Value) -> http::Response<axum::body::Body> {
    let path = format!("/v1/hunts/{no}/live");
    let request = request(token, http::Method::GET, &path, &Value::Null);
    api.router.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn an_account_follows_so_many_hunts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child("exit 1", dir.path())).await;
    api.endpoint("dev-1", true, "").await;
    let ana = api.user("ana", json!([{"role": "viewer"}])).await;
    let made = api.post(&api.root, "/v1/hunts", json!({"query": "SELECT 1"})).await.expect(201);
    let no = &made["no"];
    let mut streams = Vec::new();
    for _ in 0..16 {
        let stream = follow(&api, &ana, no).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let path = format!("/v1/hunts/{no}/live");
    let answer = api.get(&ana, &path).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.refused(429, "too_many_requests");
    assert_eq!(follow(&api, &api.root, no).await.status(), 200, "another account");
    drop(streams.pop());
    let again = async {
        while follow(&api, &ana, no).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the place of the first");
}

#[tokio::test]
async fn who_is_disabled_stops_following_a_busy_hunt() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child("exit 1", dir.path())).await;
    api.endpoint("dev-1", true, "").await;
    let ana = api.user("ana", json!([{"role": "viewer"}])).await;
    let made = api.post(&api.root, "/v1/hunts", json!({"query": "SELECT 1"})).await.expect(201);
    let no = &made["no"];
    let hunt = HuntNo(no.as_u64().unwrap());
    let mut body = follow(&api, &ana, no).await.into_body();
    body.frame().await.unwrap().unwrap();
    api.post(&api.root, "/v1/users/ana/disable", Value::Null).await.expect(204);
    // More comes than is read, so that there is a hint whenever it looks.
    let read = async {
        let mut pos = 0;
        loop {
            for _ in 0..8 {
                let hint = json!({"shard": 1, "pos": pos, "agent": 1, "rows": [{"a": pos}]});
                api.bus.publish(Topic::Live(hunt), hint.to_string().into());
                pos += 1;
            }
            if body.frame().await.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the end of the stream");
    let ended = async {
        loop {
            let records = api.audited("operation=hunts.live").await;
            if let Some(record) = records.first() {
                break record["details"]["ended_by"].clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await.expect("its record");
    assert_eq!(ended, "signedout");
}

#[tokio::test]
async fn what_hints_told_before_the_end_comes_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::with(child("exit 1", dir.path())).await;
    api.endpoint("dev-1", true, "").await;
    let made = api.post(&api.root, "/v1/hunts", json!({"query": "SELECT 1"})).await.expect(201);
    let no = &made["no"];
    let mut body = follow(&api, &api.root, no).await.into_body();
    body.frame().await.unwrap().unwrap();
    // More than waits for a reader, so that some still wait as hints when the end is known.
    for pos in 0..40 {
        let end = json!({"outcome": "failed", "message": "no such table"});
        let hint = json!({"shard": 1, "pos": pos, "agent": 1, "rows": [{"a": pos}], "end": end});
        api.bus.publish(Topic::Live(HuntNo(no.as_u64().unwrap())), hint.to_string().into());
    }
    api.post(&api.root, &format!("/v1/hunts/{no}/stop"), Value::Null).await.expect(204);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let mut seen = String::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            seen.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("the end");
    let (before, _) = seen.split_once("event: end").expect("an end");
    let count = |what: &str| before.matches(what).count();
    assert_eq!((count("no such table"), count("event: rows")), (40, 40));
}
