//! Copied agents whose links are on two instances, and agents that only moved from one to the other.

mod rig;

use std::time::Duration;

use muster_codec_native::ServerFrame;
use muster_gateway_native::Options;
use muster_types::{Fact, Shard};
use rig::client::{Agent, Key, Link, reading};
use rig::{Rig, until};

fn line(text: &str) -> Vec<Fact> {
    vec![Fact::Log { level: "info".into(), message: text.to_owned() }]
}

/// Batches of agents in a stream.
fn batches(rig: &Rig, shard: Shard) -> usize {
    rig.stream.entries(shard).iter().filter(|entry| rig::wire(&entry.record).is_some()).count()
}

/// Two instances with the agent linked to the first; the second has heard of it.
async fn two(options: Options) -> (Rig, Rig, Agent, Link) {
    let first = Rig::with(options.clone()).await;
    let second = first.beside(options).await;
    let agent = first.enrol().await;
    let link = first.connect(&agent).await;
    until("the other instance hears of it", || second.presence.is_elsewhere(agent.no)).await;
    (first, second, agent, link)
}

async fn is_told_to_rekey(first: Rig, second: Rig, copy: Agent, original: Link) {
    let number = copy.no;
    let (enough, task) = reading(original);
    let mut link = second.far.welcomed(&copy).await;
    // At once: what it says must not count as the original's.
    link.batch(1, line("the copy")).await;
    let answer = link.next().await;
    let Some(ServerFrame::Rekey(rekey)) = answer else { panic!("told to rekey, not {answer:?}") };
    drop(link);
    enough.send(()).unwrap();
    let mut original = task.await.unwrap();
    original.batch(1, line("the original")).await;
    original.acked(1).await;
    assert_eq!((first.metrics.clones.get(), second.metrics.clones.get()), (0, 1));
    let shard = number.shard();
    until("the copy's link is over", || second.sessions.get(number).is_none()).await;
    assert_eq!((batches(&first, shard), batches(&second, shard)), (1, 0));

    let key = Key::new();
    let ticket = muster_codec_native::Credential::Ticket(rekey.ticket);
    let request = second.request(&key, ticket);
    let no = second.try_enrol(&request).await.unwrap().agent_no;
    assert_ne!(no, number);
    assert_eq!(second.directory.snapshot().agent(no).unwrap().clone_of, Some(number));
    let mut link = second.connect(&Agent { key, no, process: copy.process }).await;
    link.batch(1, line("itself")).await;
    link.acked(1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_copy_on_another_instance_gets_an_identity_of_its_own() {
    let (first, second, mut agent, original) = two(Options::default()).await;
    agent.process = [1; 16];
    Box::pin(is_told_to_rekey(first, second, agent, original)).await;
}

#[tokio::test]
async fn a_copy_made_while_it_ran_is_found_on_another_instance() {
    let (first, second, agent, original) = two(Options::default()).await;
    Box::pin(is_told_to_rekey(first, second, agent, original)).await;
}

#[tokio::test]
async fn an_agent_whose_old_link_is_dead_goes_on_at_another_instance() {
    let options = Options { clone_probe: Duration::from_millis(300), ..Options::default() };
    // Kept open and never read: its machine has another address now.
    let (first, second, agent, _dead) = two(options).await;
    let mut link = second.connect(&agent).await;
    link.batch(1, line("moved")).await;
    link.acked(1).await;
    // Longer than the probe.
    for _ in 0..5 {
        assert!(link.is_quiet().await);
    }
    assert_eq!((first.metrics.clones.get(), second.metrics.clones.get()), (0, 0));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_agent_that_said_good_bye_is_read_at_once_elsewhere() {
    let (first, second, agent, link) = two(Options::default()).await;
    drop(link);
    let mut link = second.connect(&agent).await;
    let began = tokio::time::Instant::now();
    link.batch(1, line("moved")).await;
    link.acked(1).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!((first.metrics.clones.get(), second.metrics.clones.get()), (0, 0));
    first.stop().await;
    second.stop().await;
}
