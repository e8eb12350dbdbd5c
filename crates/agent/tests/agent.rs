//! The whole agent against a scripted server.

mod common;

use std::time::Duration;

use common::{Ca, SECRET, Server, contents, options};
use muster_agent::{AgentOptions, Error, Standing};
use muster_codec_native::{Bye, Cancel, Cas, Credential, Nack, Rekey};
use muster_types::{AgentNo, Outcome};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(options: AgentOptions) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(muster_agent::run(options, stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(common::PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// As a kill would: nothing is finished, nothing said.
    async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test]
async fn it_enrols_once_answers_and_knows_itself_after_a_restart() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, hello) = server.welcomed().await;
    assert_eq!(hello.agent_no, AgentNo(41));
    assert_eq!(hello.machine_id, "machine-1");
    assert!(hello.host.capabilities.contains(&"table:processes".to_owned()));
    {
        let enrolments = server.enrolments.lock().unwrap();
        assert_eq!(enrolments.requests[0].credential, Credential::Secret(SECRET.into()));
    }
    // What this process holds is not the query's.
    let ballast = vec![1_u8; 256 << 20];
    std::hint::black_box(&ballast);
    link.task(7, "SELECT uid, username FROM users WHERE uid = 0").await;
    let (rows, end) = link.answer(7).await;
    assert_eq!(rows, [serde_json::json!({"uid": 0, "username": "root"})]);
    assert_eq!((end.outcome, end.message.as_str()), (None, ""));
    let used = end.spent.used.expect("a process uses something");
    assert!((1 << 20..128 << 20).contains(&used.memory_bytes), "{used:?}");
    assert!(used.user_micros + used.system_micros > 0, "{used:?}");
    link.settled().await;
    agent.stop().await;

    let agent = Running::start(options(&server, data.path()));
    let (mut link, again) = server.welcomed().await;
    assert_eq!(again.agent_no, hello.agent_no);
    assert_eq!(again.first_unacked, None);
    assert_ne!(again.process_nonce, hello.process_nonce);
    assert_eq!(server.enrolments.lock().unwrap().requests.len(), 1);
    // The server has lost sight of what it acknowledged: the end comes again, the rows do not.
    link.task(7, "SELECT 1").await;
    let (rows, end) = link.answer(7).await;
    assert_eq!((rows.len(), end.outcome), (0, None));
    agent.stop().await;
}

#[tokio::test]
async fn what_was_not_acked_comes_again_with_its_number_and_is_not_run_again() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    link.task(1, "SELECT 1 AS x").await;
    let first = link.batch().await;
    agent.abort().await;
    drop(link);

    let agent = Running::start(options(&server, data.path()));
    let (mut link, hello) = server.welcomed().await;
    assert_eq!(hello.first_unacked.unwrap().seq, first.seq);
    link.task(1, "SELECT 1 AS x").await;
    link.task(2, "SELECT 2 AS x").await;
    let again = link.batch().await;
    assert_eq!(again, first);
    link.ack(&again).await;
    let (rows, _) = link.answer(2).await;
    assert_eq!(rows, [serde_json::json!({"x": 2})]);
    agent.stop().await;
}

#[tokio::test]
async fn a_task_interrupted_by_a_kill_leaves_nothing_and_runs_again_in_full() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) \
               SELECT x FROM n";
    for round in 0..3 {
        let agent = Running::start(options(&server, data.path()));
        let (mut link, _) = server.welcomed().await;
        link.task(9, sql).await;
        if round < 2 {
            tokio::time::sleep(Duration::from_millis(30 + 60 * round)).await;
            agent.abort().await;
            continue;
        }
        let (rows, end) = link.answer(9).await;
        assert_eq!(end.outcome, None);
        assert!(rows.iter().enumerate().all(|(at, row)| row["x"] == at + 1));
        assert_eq!(rows.len(), 300_000);
        agent.stop().await;
    }
}

#[tokio::test]
async fn cancel_kills_and_is_answered_also_for_what_never_began() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                   SELECT count(*) FROM n";
    for hunt in 1..=3 {
        link.task(hunt, endless).await;
    }
    // The third waits for its turn; the fourth never came.
    for hunt in [3, 1, 2, 4] {
        link.say(Cancel { task: common::id(hunt) }).await;
        let (_, end) = link.answer(hunt).await;
        assert_eq!(end.outcome, Some(Outcome::Cancelled), "{hunt}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn batches_in_flight_are_bounded_and_a_nack_keeps_them() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    for hunt in 1..=6 {
        link.task(hunt, "SELECT 1").await;
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(link.batch().await);
    }
    link.ping().await;
    let more = tokio::time::timeout(Duration::from_millis(300), link.hear()).await;
    assert!(more.is_err(), "a fifth batch before any was acknowledged");
    link.say(Nack { retry_after_ms: 1 }).await;

    let (mut link, hello) = server.welcomed().await;
    assert_eq!(hello.first_unacked.unwrap().seq, 1);
    for batch in &seen {
        let again = link.batch().await;
        assert_eq!(&again, batch);
        link.ack(&again).await;
    }
    let mut ended = 0;
    while ended < 2 {
        let batch = link.batch().await;
        ended += (1..=6).filter(|hunt| contents(&batch, *hunt).1.is_some()).count();
        link.ack(&batch).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_copy_takes_a_key_of_its_own_and_drops_what_it_inherited() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    link.task(1, "SELECT 1").await;
    let inherited = link.batch().await;
    drop(link);
    let mut link = server.link().await;
    link.challenge().await;
    link.say(Rekey { ticket: "ticket".into() }).await;
    let (mut link, hello) = server.welcomed().await;
    assert_eq!(hello.agent_no, AgentNo(42));
    assert_eq!(hello.first_unacked, None);
    {
        let requests = &server.enrolments.lock().unwrap().requests;
        assert_eq!(requests[1].credential, Credential::Ticket("ticket".into()));
        assert_ne!(requests[1].public_key, requests[0].public_key);
    }
    link.task(1, "SELECT 1").await;
    let own = link.batch().await;
    assert_ne!(own.stream, inherited.stream);
    assert_eq!(own.seq, 1);
    agent.stop().await;
}

#[tokio::test]
async fn cas_are_rotated_and_a_set_that_locks_out_is_refused() {
    let (old, new, data) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&old).await;
    let port = server.port;
    let configured = options(&server, data.path());
    let agent = Running::start(configured.clone());
    let mut link = server.link().await;
    let hello = link.challenge().await;
    link.welcome(hello.agent_no, &new.pem()).await;
    drop(link);
    let mut link = server.link().await;
    let hello = link.challenge().await;
    link.welcome(hello.agent_no, &(old.pem() + &new.pem())).await;
    link.task(1, "SELECT 1").await;
    link.answer(1).await;
    drop((link, server));

    // The leaf now comes from the new CA alone; the configured file still names the old one.
    let mut server = Server::start_on(&new, &format!("127.0.0.1:{port}")).await;
    server.welcomed().await;
    agent.stop().await;
    let agent = Running::start(configured);
    server.welcomed().await;
    agent.stop().await;
}

#[tokio::test]
async fn cas_that_change_during_a_link_are_learnt_and_the_link_goes_on() {
    let (old, new, data) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&old).await;
    let port = server.port;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    let trusted = || muster_agent::trusted_cas(data.path(), &old.pem());
    // A set that would not vouch for this server is not taken.
    link.say(Cas { server_cas: new.pem() }).await;
    link.task(1, "SELECT 1").await;
    link.answer(1).await;
    assert_eq!(trusted(), old.pem());
    link.say(Cas { server_cas: old.pem() + &new.pem() }).await;
    link.task(2, "SELECT 1").await;
    link.answer(2).await;
    assert_eq!(trusted(), old.pem() + &new.pem());
    drop((link, server));
    let mut server = Server::start_on(&new, &format!("127.0.0.1:{port}")).await;
    server.welcomed().await;
    agent.stop().await;
}

#[tokio::test]
async fn an_unknown_ca_is_not_believed_and_gets_no_secret() {
    let (ca, other, data) = (Ca::new("ours"), Ca::new("theirs"), tempfile::tempdir().unwrap());
    let server = Server::start(&other).await;
    let mut options = options(&server, data.path());
    options.ca_pem = ca.pem();
    let error = muster_agent::enrol(&options).await.unwrap_err().to_string();
    assert!(error.starts_with("TLS with https://127.0.0.1:"), "{error}");
    assert_eq!(server.enrolments.lock().unwrap().requests.len(), 0);
}

#[tokio::test]
async fn a_refused_enrolment_says_why_and_is_tried_again() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let refusal = r#"{"reason":"wrong_secret","hint":"ask for a new secret","retry_after_ms":10}"#;
    server.enrolments.lock().unwrap().refuse = Some((403, refusal.into()));
    let error = muster_agent::enrol(&options(&server, data.path())).await.unwrap_err();
    assert!(error.to_string().contains("ask for a new secret"), "{error}");
    server.enrolments.lock().unwrap().refuse = Some((403, refusal.into()));
    let agent = Running::start(options(&server, data.path()));
    let (_, hello) = server.welcomed().await;
    assert_eq!(hello.agent_no, AgentNo(43));
    agent.stop().await;
}

#[tokio::test]
async fn another_server_is_taken_when_one_is_away_and_bye_is_honoured() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let mut options = options(&server, data.path());
    options.servers.push("https://127.0.0.1:1".parse().unwrap());
    options.servers.push("https://[::1]:1".parse().unwrap());
    let agent = Running::start(options);
    let mut link = server.link().await;
    link.challenge().await;
    let start = std::time::Instant::now();
    link.say(Bye { reason: "draining".into(), retry_after_ms: 400 }).await;
    server.welcomed().await;
    assert!(start.elapsed() >= Duration::from_millis(400));
    agent.stop().await;
}

#[tokio::test]
async fn a_full_buffer_fails_the_task_and_says_so() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let mut options = options(&server, data.path());
    options.buffer.quota_bytes = 100_000;
    let agent = Running::start(options);
    let (mut link, _) = server.welcomed().await;
    link.task(1, "SELECT hex(zeroblob(100000)) AS x").await;
    let (rows, end) = link.answer(1).await;
    assert_eq!((rows.len(), end.outcome), (0, Some(Outcome::Failed)));
    assert!(end.message.starts_with("buffer full"), "{}", end.message);
    link.task(2, "SELECT 1").await;
    assert_eq!(link.answer(2).await.0.len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn errors_of_queries_reach_the_server() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let agent = Running::start(options(&server, data.path()));
    let (mut link, _) = server.welcomed().await;
    link.task(1, "SELECT * FROM proceses").await;
    let (_, end) = link.answer(1).await;
    assert_eq!(end.outcome, Some(Outcome::Failed));
    assert_eq!(end.message, "no such table: proceses; did you mean processes?");
    agent.stop().await;
}

#[tokio::test]
async fn a_server_that_drains_or_dies_is_left_for_another_at_once() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let (mut first, mut second) = (Server::start(&ca).await, Server::start(&ca).await);
    let mut options = options(&first, data.path());
    options.servers.push(second.url().parse().unwrap());
    // One that refuses connections: the port of a server that is gone.
    let gone = Server::start(&ca).await.url();
    options.servers.push(gone.parse().unwrap());
    let agent = Running::start(options);
    // Whichever it is at: it is sent away for an hour, and soon at the other.
    let (mut link, at_first) = tokio::select! {
        link = first.link() => (link, true),
        link = second.link() => (link, false),
    };
    let hello = link.challenge().await;
    link.welcome(hello.agent_no, "").await;
    link.say(Bye { reason: "draining".into(), retry_after_ms: 3_600_000 }).await;
    let (one, other) = if at_first { (first, &mut second) } else { (second, &mut first) };
    for _ in 0..3 {
        // Within the patience of this test, which is no hour.
        let (link, _) = other.welcomed().await;
        // It dies, and is found again: nobody else has it.
        drop(link);
    }
    drop(one);
    agent.stop().await;
}

#[tokio::test]
async fn only_the_server_can_say_whether_a_number_is_its_own() {
    let (ca, data) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let options = options(&server, data.path());
    assert_eq!(muster_agent::standing(&options).await.unwrap(), Standing::NotEnrolled);
    assert_eq!(muster_agent::enrol(&options).await.unwrap(), AgentNo(41));

    let asking = tokio::spawn({
        let options = options.clone();
        async move { muster_agent::standing(&options).await }
    });
    let (mut link, hello) = server.welcomed().await;
    assert_eq!(hello.agent_no, AgentNo(41));
    assert_eq!(asking.await.unwrap().unwrap(), Standing::Known(AgentNo(41)));
    assert!(link.hear().await.is_none());

    let asking = tokio::spawn(async move { muster_agent::standing(&options).await });
    let mut link = server.link().await;
    link.challenge().await;
    let reason = "unknown agent or wrong key".to_owned();
    link.say(Bye { reason: reason.clone(), retry_after_ms: 60_000 }).await;
    let refused = Standing::Refused { agent_no: AgentNo(41), reason };
    assert_eq!(asking.await.unwrap().unwrap(), refused);
}
