//! The link, frame by frame, through real TLS and an independent WebSocket.

mod rig;

use std::time::Duration;

use bytes::Bytes;
use muster_codec_native::{AgentFrame, Batch, ServerFrame};
use muster_gateway::{Budget, Refusal};
use muster_gateway_native::Options;
use muster_stream::AppendError;
use muster_types::{AgentNo, Class, Delta, Fact, HuntNo, RowFormat, Rows, Spent, TaskEnd, TaskId};
use rig::client::{Agent, Key, reading};
use rig::{Rig, until, wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TASK: TaskId = TaskId { hunt: HuntNo(7), attempt: 1 };

fn answer(json: Bytes) -> Vec<Fact> {
    let rows = Rows {
        task: Some(TASK),
        source: String::new(),
        columns: Vec::new(),
        format: RowFormat::Array,
        json,
        endpoint_time: None,
        delta: Delta::None,
    };
    let end =
        TaskEnd { task: TASK, outcome: None, message: String::new(), spent: Spent::micros(1) };
    vec![Fact::Rows(rows), Fact::End(end)]
}

fn small() -> Vec<Fact> {
    answer(Bytes::from_static(b"[{\"pid\":1}]"))
}

#[tokio::test]
async fn a_batch_is_acknowledged_when_it_is_in_the_stream_and_so_is_its_repeat() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    assert!(rig.presence.is_connected_here(agent.no));
    for seq in 1..=3 {
        link.batch(seq, small()).await;
    }
    link.acked(3).await;
    let records = rig.records(agent.no.shard(), 3).await;
    for (record, seq) in records.iter().zip(1..) {
        assert_eq!((record.agent, record.class), (agent.no, Class::Collected));
        let batch = Batch::decode(wire(record).unwrap()).unwrap();
        assert_eq!(batch, Batch { stream: 1, seq, items: small() });
    }
    link.batch(3, small()).await;
    link.acked(3).await;
    link.socket.close(None).await.unwrap();
    until("the agent is gone", || rig.sessions.is_empty()).await;
    assert!(!rig.presence.is_connected_here(agent.no));
    rig.stop().await;
}

#[tokio::test]
async fn a_large_batch_is_an_object_and_fragments_are_put_together() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    let json = Bytes::from(format!("[{{\"text\":\"{}\"}}]", "x".repeat(1 << 20)));
    link.batch(1, answer(json)).await;
    link.acked(1).await;
    assert_eq!(rig.metrics.claim_checks.get(), 1);

    let frame = AgentFrame::Batch(Batch { stream: 1, seq: 2, items: small() }).encode().unwrap();
    let (first, rest) = frame.split_at(10);
    use futures_util::SinkExt as _;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let data = |bytes: &[u8], kind, last| {
        Message::Frame(Frame::message(Bytes::copy_from_slice(bytes), OpCode::Data(kind), last))
    };
    link.socket.send(data(first, Data::Binary, false)).await.unwrap();
    link.socket.send(Message::Ping(Bytes::from_static(b"within"))).await.unwrap();
    link.socket.send(data(rest, Data::Continue, true)).await.unwrap();
    link.acked(2).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_bad_proof_an_unknown_agent_and_silence_are_refused() {
    let options = Options { handshake_timeout: Duration::from_secs(2), ..Options::default() };
    let rig = Rig::with(options).await;
    let agent = rig.enrol().await;

    let (mut link, challenge) = rig.open().await;
    let mut hello = agent.hello(&challenge);
    hello.proof[0] ^= 1;
    link.send(&AgentFrame::Hello(Box::new(hello))).await;
    let Some(ServerFrame::Bye(bye)) = link.next().await else { panic!("refused with a reason") };
    assert!(bye.reason.contains("unknown agent or wrong key"), "{}", bye.reason);
    assert_eq!(link.next().await, None);

    let (mut link, challenge) = rig.open().await;
    let mut hello = agent.hello(&challenge);
    hello.agent_no = AgentNo(999);
    link.send(&AgentFrame::Hello(Box::new(hello))).await;
    assert!(matches!(link.next().await, Some(ServerFrame::Bye(_))));

    let (mut link, _) = rig.open().await;
    link.batch(1, small()).await;
    assert!(matches!(link.next().await, Some(ServerFrame::Bye(_))), "hello comes first");

    let (mut link, _) = rig.open().await;
    assert_eq!(link.next().await, None, "silence is cut off");
    assert_eq!(rig.metrics.refusals(Refusal::Unauthenticated), 3);
    assert!(rig.sessions.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn garbage_and_oversize_end_the_link_and_disturb_nobody() {
    let options = Options { frame_bytes_max: 1 << 20, ..Options::default() };
    let rig = Rig::with(options).await;
    let (honest, liar) = (rig.enrol().await, rig.enrol().await);
    let mut beside = rig.connect(&honest).await;

    let mut link = rig.connect(&liar).await;
    link.send_bytes(Bytes::from_static(b"\x01\x02\x05\0\0\0gibberish")).await;
    assert!(matches!(link.next().await, Some(ServerFrame::Bye(_))));
    assert_eq!(link.next().await, None);
    assert_eq!(rig.metrics.malformed.get(), 1);

    let mut link = rig.connect(&liar).await;
    link.send_bytes(Bytes::from_static(b"\x63\x02")).await;
    let Some(ServerFrame::Bye(bye)) = link.next().await else { panic!("refused with a reason") };
    assert!(bye.reason.contains("newer than this program reads"), "{}", bye.reason);

    // The length alone is enough to be refused: not a byte of the body is sent.
    let mut link = rig.connect(&liar).await;
    let head = [0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    link.socket.get_mut().write_all(&head).await.unwrap();
    link.socket.get_mut().flush().await.unwrap();
    assert!(matches!(link.next().await, Some(ServerFrame::Bye(_))));
    assert_eq!(rig.metrics.oversize.get(), 1);

    // An unknown, newer type of frame is skipped.
    let mut link = rig.connect(&liar).await;
    link.send_bytes(Bytes::from_static(b"\x01\xf0\x02\0\0\0{}")).await;
    link.batch(1, small()).await;
    link.acked(1).await;

    beside.batch(1, small()).await;
    beside.acked(1).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_batch_is_answered_with_a_time_to_come_again_and_nothing_after_it_is_taken() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    link.batch(1, small()).await;
    link.acked(1).await;
    rig.stream.refuse(Some(AppendError::Full { retry_after: Duration::from_secs(2) }));
    for seq in 2..6 {
        link.batch(seq, small()).await;
    }
    let Some(ServerFrame::Nack(nack)) = link.next().await else { panic!("a nack comes") };
    assert!((2000..=4000).contains(&nack.retry_after_ms));
    rig.stream.refuse(None);
    assert_eq!(link.next().await, None);
    assert_eq!(rig.stream.entries(agent.no.shard()).len(), 1, "none overtook the refused one");
    let mut link = rig.connect(&agent).await;
    link.batch(2, small()).await;
    link.acked(2).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_now_is_tried_again_on_its_link_and_nothing_overtakes_it() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    rig.stream.refuse(Some(AppendError::Unavailable("the servers are away".to_owned())));
    for seq in 1..4 {
        link.batch(seq, small()).await;
    }
    until("it is tried again", || rig.metrics.append_retries.get() >= 2).await;
    // Those that came meanwhile would be stored now, if they were not kept behind the first.
    rig.stream.refuse(None);
    link.acked(3).await;
    let stored = rig.stream.entries(agent.no.shard());
    let seqs: Vec<u64> = stored
        .iter()
        .map(|entry| Batch::decode(wire(&entry.record).unwrap()).unwrap().seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(rig.metrics.refusals(Refusal::StreamUnavailable), 0);
    rig.stop().await;
}

#[tokio::test]
async fn while_memory_is_short_what_cannot_be_stored_ends_the_link_at_once() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    let _others = rig.admissions.budget().take(Budget::DEFAULT_BYTES as usize / 2 + 1).await;
    rig.stream.refuse(Some(AppendError::Unavailable("the servers are away".to_owned())));
    link.batch(1, small()).await;
    let Some(ServerFrame::Nack(_)) = link.next().await else { panic!("a nack comes") };
    assert_eq!(rig.metrics.append_retries.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_for_long_ends_the_link() {
    let options = Options { append_patience: Duration::from_millis(300), ..Options::default() };
    let rig = Rig::with(options).await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    rig.stream.refuse(Some(AppendError::Unavailable("the servers are away".to_owned())));
    link.batch(1, small()).await;
    let Some(ServerFrame::Nack(nack)) = link.next().await else { panic!("a nack comes") };
    assert!((5000..=10_000).contains(&nack.retry_after_ms));
    assert_eq!(link.next().await, None);
    rig.stop().await;
}

#[tokio::test]
async fn slow_starters_are_cut_off_and_silent_agents_are_given_up() {
    let options = Options {
        handshake_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_millis(100),
        ..Options::default()
    };
    let rig = Rig::with(options).await;

    let mut no_tls = TcpStream::connect(rig.address).await.unwrap();
    let mut no_request = rig.tls().await;
    let mut half = rig.tls().await;
    half.write_all(b"GET /v1/agent/li").await.unwrap();
    half.flush().await.unwrap();
    let mut byte = [0];
    let ended = async {
        let _ = no_tls.read(&mut byte).await;
        let _ = no_request.read(&mut byte).await;
        let _ = half.read(&mut byte).await;
    };
    tokio::time::timeout(rig::DEADLINE, ended).await.expect("all three are closed");
    until("they are counted", || rig.metrics.handshakes_failed.get() == 3).await;

    // Nobody reads this link, so nobody answers its pings.
    let agent = rig.enrol().await;
    let _link = rig.connect(&agent).await;
    until("it is given up", || rig.metrics.slow.get() == 1).await;
    until("it is gone", || rig.sessions.is_empty()).await;

    // One that is read lives on.
    let mut link = rig.connect(&agent).await;
    let alive = tokio::time::timeout(Duration::from_secs(1), link.next()).await;
    assert!(alive.is_err(), "{alive:?}");
    assert_eq!(rig.sessions.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_newest_link_of_a_process_wins() {
    let options = Options { clone_probe: Duration::from_millis(100), ..Options::default() };
    let rig = Rig::with(options).await;
    let agent = rig.enrol().await;
    let mut older = rig.connect(&agent).await;
    let mut newer = rig.connect(&agent).await;
    assert!(matches!(older.next().await, Some(ServerFrame::Bye(_))));
    assert_eq!(older.next().await, None);
    newer.batch(1, small()).await;
    newer.acked(1).await;
    until("one session is left", || rig.metrics.sessions.get() == 1).await;
    assert_eq!(rig.metrics.replaced.get(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_new_process_takes_over_from_a_dead_one() {
    let options = Options { clone_probe: Duration::from_millis(100), ..Options::default() };
    let rig = Rig::with(options).await;
    let mut agent = rig.enrol().await;
    // Kept open and never read: its process is dead, and its network does not know.
    let _dead = rig.connect(&agent).await;
    agent.process = [1; 16];
    let mut link = rig.connect(&agent).await;
    link.batch(1, small()).await;
    link.acked(1).await;
    assert_eq!(rig.metrics.clones.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_machine_copied_while_it_ran_is_found_although_its_processes_look_the_same() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let (enough, original) = reading(rig.connect(&agent).await);
    let (_link, answer) = rig.hello(&agent).await;
    assert!(matches!(answer, Some(ServerFrame::Rekey(_))), "{answer:?}");
    enough.send(()).unwrap();
    original.await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_copied_machine_gets_an_identity_of_its_own() {
    let rig = Rig::start().await;
    let mut agent = rig.enrol().await;
    let (enough, original) = reading(rig.connect(&agent).await);
    agent.process = [1; 16];
    let (link, answer) = rig.hello(&agent).await;
    let Some(ServerFrame::Rekey(rekey)) = answer else { panic!("told to rekey, not {answer:?}") };
    drop(link);
    enough.send(()).unwrap();
    let mut original = original.await.unwrap();
    original.batch(1, small()).await;
    original.acked(1).await;

    let key = Key::new();
    let ticket = muster_codec_native::Credential::Ticket(rekey.ticket);
    let request = rig.request(&key, ticket.clone());
    let copy = rig.try_enrol(&request).await.unwrap().agent_no;
    assert_ne!(copy, agent.no);
    assert_eq!(rig.directory.snapshot().agent(copy).unwrap().clone_of, Some(agent.no));
    let again = rig.request(&Key::new(), ticket);
    assert!(rig.try_enrol(&again).await.is_err(), "a ticket is good once");
    let mut link = rig.connect(&Agent { key, no: copy, process: [1; 16] }).await;
    link.batch(1, small()).await;
    link.acked(1).await;
    assert_eq!((rig.metrics.clones.get(), rig.sessions.len()), (1, 2));
    rig.stop().await;
}

#[tokio::test]
async fn on_shutdown_agents_are_told_when_to_return() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    rig.shutdown.cancel();
    let Some(ServerFrame::Bye(bye)) = link.next().await else { panic!("a good-bye comes") };
    assert!(bye.retry_after_ms <= 2000);
    assert_eq!(link.next().await, None);
    rig.stop().await;
}

#[tokio::test]
async fn who_is_linked_is_told_of_other_cas_and_comes_again_when_its_own_is_retired() {
    use muster_gateway_native::ServerCas;
    let options = Options { ping_interval: Duration::from_secs(1), ..Options::default() };
    let rig = Rig::with(options).await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    let tell = |pem: &str, signing, trusted: &[u32]| {
        let (pem, trusted) = (pem.to_owned(), trusted.to_vec());
        rig.cas.store(ServerCas { pem, signing, trusted }.into());
    };
    // Once each: what follows a change is the next change, not the same words again.
    for (pem, signing) in [("both", 1), ("both, turned", 2)] {
        tell(pem, signing, &[1, 2]);
        let told = link.next().await;
        assert!(matches!(&told, Some(ServerFrame::Cas(cas)) if cas.server_cas == pem), "{told:?}");
    }
    let late = rig.enrol().await;
    let (mut later, answer) = rig.hello(&late).await;
    let Some(ServerFrame::Welcome(welcome)) = answer else { panic!("{answer:?}") };
    assert_eq!(welcome.server_cas, "both, turned");
    tell("the second", 2, &[2]);
    let end = link.next().await;
    let Some(ServerFrame::Bye(bye)) = &end else { panic!("{end:?}") };
    assert!(bye.reason.contains("connect again"), "{bye:?}");
    let told = later.next().await;
    assert!(matches!(&told, Some(ServerFrame::Cas(cas)) if cas.server_cas == "the second"));

    // One of an earlier version would skip the frame: it is told when it connects again.
    let old = rig.enrol().await;
    let (mut link, challenge) = rig.open().await;
    link.send(&AgentFrame::Hello(Box::new(old.old_hello(&challenge)))).await;
    assert!(matches!(link.next().await, Some(ServerFrame::Welcome(_))));
    tell("the second and a third", 2, &[2, 3]);
    let end = link.next().await;
    assert!(matches!(&end, Some(ServerFrame::Bye(_))), "{end:?}");
    let (_, answer) = rig.hello(&old).await;
    let Some(ServerFrame::Welcome(welcome)) = answer else { panic!("{answer:?}") };
    assert_eq!(welcome.server_cas, "the second and a third");
    rig.stop().await;
}
