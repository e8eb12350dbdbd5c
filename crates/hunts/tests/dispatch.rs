//! The dispatcher over a fleet.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{World, fleet, hunt};
use muster_endpoints::{AgentReport, Enrol, delete_endpoint, enrol, join_agent};
use muster_hunts::{HuntKind, HuntState, Limits, resume};
use muster_testkit::TempCatalog;
use muster_types::{
    Access, AgentKind, AgentNo, AgentSet, Body, EndpointNo, HuntNo, OrgId, Outcome, Shard,
    TaskFact, Timestamp,
};

const ORG: OrgId = OrgId::DEFAULT;

muster_catalog::statements! {
    WAVES = "SELECT agents, agent_count, committed_at FROM hunt_wave WHERE hunt_no = $1 ORDER BY wave";
    REMOVE = "DELETE FROM agent WHERE no = $1";
}

/// Agents of each wave, with its time in microseconds.
async fn waves(world: &World, no: HuntNo) -> Vec<(AgentSet, i64)> {
    let rows = world.catalog.fetch_all(&WAVES, muster_catalog::args![no]).await.unwrap();
    let read = |row: &muster_catalog::Row| {
        let agents: Vec<u8> = row.get("agents").unwrap();
        let agents = AgentSet::from_bytes(&agents).unwrap();
        assert_eq!(agents.len(), row.get::<u64>("agent_count").unwrap());
        (agents, row.get("committed_at").unwrap())
    };
    rows.iter().map(read).collect()
}

fn quick() -> Limits {
    Limits { rate_per_second: 20_000, canary: 0, ..Limits::default() }
}

async fn state(world: &World, no: HuntNo) -> HuntState {
    world.hunts.get(no).await.unwrap().unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_query_takes_who_is_online_at_once_and_is_over_when_they_have_answered() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 300).await;
    let mut world = World::open(&temp).await;
    world.online(1..=250);
    let slow = Limits { rate_per_second: 1, canary: 1, ..Limits::default() };
    let mut dispatcher = world.dispatcher(1);
    let started = Instant::now();
    let no = world.hunts.create(&hunt(HuntKind::Live, slow)).await.unwrap();
    dispatcher.round().await;
    println!("from create to the wave committed and known: {:?}", started.elapsed());
    assert_eq!(waves(&world, no).await.len(), 1);
    assert!(world.hunts.has_work(AgentNo(250)) && !world.hunts.has_work(AgentNo(251)));
    assert_eq!(world.hunts.work_for(AgentNo(250)).len(), 1);

    let coverage = world.hunts.coverage(no, &Access::all(ORG)).await.unwrap().unwrap();
    assert_eq!((coverage.total, coverage.recruited), (300, 250));
    assert_eq!(coverage.count(Outcome::Waiting), 300);
    world.end(no, 1..=249, Outcome::Rows, 2).await;
    dispatcher.round().await;
    assert_eq!(state(&world, no).await, HuntState::Running);
    world.end(no, [250], Outcome::Empty, 0).await;
    assert!(world.hunts.work_for(AgentNo(250)).is_empty());
    assert!(!world.hunts.has_work(AgentNo(250)));
    dispatcher.round().await;
    assert_eq!(state(&world, no).await, HuntState::Finished);
    let coverage = world.hunts.coverage(no, &Access::all(ORG)).await.unwrap().unwrap();
    assert_eq!(coverage.count(Outcome::Rows), 249);
    assert_eq!(coverage.count(Outcome::Empty), 1);
    assert_eq!(coverage.count(Outcome::Expired), 50);
    assert_eq!((coverage.row_count, coverage.byte_count), (Some(498), Some(49_800)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_exact_by_the_databases_clock() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 5_000).await;
    let world = World::open(&temp).await;
    world.online(1..=5_000);
    let limits = Limits { rate_per_second: 2_000, ..quick() };
    let no = world.hunts.create(&hunt(HuntKind::Hunt, limits)).await.unwrap();
    let created = world.hunts.get(no).await.unwrap().unwrap().created_at;
    let mut dispatcher = world.dispatcher(1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while dispatcher.round().await {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waves = waves(&world, no).await;
    let mut seen = BTreeSet::new();
    for (agents, at) in &waves {
        for agent in agents.iter() {
            assert!(seen.insert(agent), "{agent} was recruited twice");
        }
        // One second's worth was in the bucket at the start.
        let due = (at - created.0 + 1_000_000) * 2_000 / 1_000_000;
        assert!(seen.len() as i64 <= due, "{} recruited where {due} were due", seen.len());
    }
    assert_eq!(seen.len(), 5_000);
    let took = Timestamp(waves.last().unwrap().1).since(created);
    assert!(took >= Duration::from_millis(1_499), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_goes_first_and_its_errors_pause_the_hunt() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 200).await;
    let mut world = World::open(&temp).await;
    world.online(1..=200);
    let limits = Limits { canary: 20, ..quick() };
    let no = world.hunts.create(&hunt(HuntKind::Hunt, limits)).await.unwrap();
    let mut dispatcher = world.dispatcher(1);
    dispatcher.round().await;
    world.end(no, 1..=17, Outcome::Failed, 0).await;
    dispatcher.round().await;
    assert_eq!(waves(&world, no).await.len(), 1);
    assert_eq!(waves(&world, no).await[0].0.len(), 20);
    world.end(no, [18], Outcome::Rows, 1).await;
    dispatcher.round().await;
    let def = world.hunts.get(no).await.unwrap().unwrap();
    assert_eq!(def.state, HuntState::Paused);
    let reason = "errors: 17 of 18 endpoints that answered failed or timed out, more than 50 %";
    assert_eq!(def.pause_reason.as_deref(), Some(reason));
    assert!(world.hunts.work_for(AgentNo(19)).is_empty());

    let mut tx = world.catalog.begin(muster_catalog::Priority::Api).await.unwrap();
    resume(&mut tx, ORG, no).await.unwrap();
    tx.commit().await.unwrap();
    world.hunts.announce().await.unwrap();
    assert_eq!(world.hunts.work_for(AgentNo(19)).len(), 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while waves(&world, no).await.iter().map(|(agents, _)| agents.len()).sum::<u64>() < 200 {
        assert!(Instant::now() < deadline);
        dispatcher.round().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_recruit_nobody_twice() {
    for temp in TempCatalog::both().await.unwrap() {
        fleet(&temp.catalog, 5_000).await;
        let (first, second) = (World::open(&temp).await, World::open(&temp).await);
        for world in [&first, &second] {
            world.online(1..=5_000);
        }
        let no = first.hunts.create(&hunt(HuntKind::Hunt, quick())).await.unwrap();
        second.hunts.refresh().await.unwrap();
        // The first one is a zombie: its lease was taken over, and it does not know.
        let (mut zombie, mut holder) = (first.dispatcher(1), second.dispatcher(2));
        let run = async |dispatcher: &mut muster_hunts::Dispatcher| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while dispatcher.round().await && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::join!(run(&mut zombie), run(&mut holder));
        let mut seen = BTreeSet::new();
        for (agents, _) in waves(&first, no).await {
            for agent in agents.iter() {
                assert!(seen.insert(agent), "{agent} was recruited twice");
            }
        }
        assert_eq!(seen.len(), 5_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_come_later_take_part_and_deleted_ones_are_retired() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 10).await;
    let mut world = World::open(&temp).await;
    world.online(1..=4);
    let no = world.hunts.create(&hunt(HuntKind::Hunt, quick())).await.unwrap();
    let mut dispatcher = world.dispatcher(1);
    dispatcher.round().await;
    assert_eq!(waves(&world, no).await[0].0.len(), 4);
    world.online([7]);
    tokio::time::sleep(Duration::from_millis(210)).await;
    dispatcher.round().await;
    assert!(world.hunts.is_recruited(no, AgentNo(7)).await.unwrap());
    assert!(!world.hunts.is_recruited(no, AgentNo(8)).await.unwrap());

    world.end(no, [2], Outcome::Rows, 1).await;
    for endpoint in [2, 3, 9] {
        let now = Timestamp(5);
        assert!(delete_endpoint(&world.catalog, ORG, EndpointNo(endpoint), now).await.unwrap());
    }
    world.directory.refresh().await.unwrap();
    let coverage = world.hunts.coverage(no, &Access::all(ORG)).await.unwrap().unwrap();
    // The ninth was never asked: it is no part of the scope any more.
    assert_eq!(coverage.total, 9);
    assert_eq!(coverage.count(Outcome::Rows), 1);
    assert_eq!(coverage.count(Outcome::Retired), 1);
    assert_eq!(coverage.count(Outcome::Waiting), 7);
    let outcomes = world.hunts.outcomes(no, &Access::all(ORG)).await.unwrap().unwrap();
    assert_eq!(outcomes.len(), 9);
    assert_eq!(outcomes[2].outcome, Outcome::Retired);
}

/// What another agent says, that is put on an endpoint which has one.
fn joining() -> Enrol {
    Enrol {
        org: ORG,
        kind: AgentKind::Native,
        external_id: "joining".into(),
        public_key: None,
        machine: None,
        report: AgentReport::default(),
        secret: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_known_here_yet_keeps_others_of_its_endpoint_from_being_recruited() {
    for temp in TempCatalog::both().await.unwrap() {
        fleet(&temp.catalog, 2).await;
        // The dispatcher's instance, whose directory is behind from here on.
        let late = World::open(&temp).await;
        late.online([1]);
        let second = enrol(&temp.catalog, &joining(), Timestamp(2)).await.unwrap();
        assert!(join_agent(&temp.catalog, ORG, second.agent, EndpointNo(1)).await.unwrap());
        let asks = World::open(&temp).await;
        asks.online([second.agent.0]);
        let no = asks.hunts.create(&hunt(HuntKind::Collection, quick())).await.unwrap();
        let first = waves(&asks, no).await;
        assert_eq!(first[0].0, AgentSet::from_iter([second.agent]));

        late.hunts.refresh().await.unwrap();
        assert!(late.directory.snapshot().agent(second.agent).is_none());
        let mut dispatcher = late.dispatcher(1);
        dispatcher.round().await;
        assert_eq!(waves(&late, no).await, first, "its endpoint has its agent");
        assert!(late.directory.snapshot().agent(second.agent).is_some());
        // Others are recruited as ever.
        late.online([2]);
        dispatcher.round().await;
        assert_eq!(waves(&late, no).await[1].0, AgentSet::from_iter([AgentNo(2)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_in_no_catalog_any_more_holds_nobody_up() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 3).await;
    let world = World::open(&temp).await;
    world.online([3]);
    let no = world.hunts.create(&hunt(HuntKind::Collection, quick())).await.unwrap();
    let mut tx = world.catalog.begin(muster_catalog::Priority::Api).await.unwrap();
    tx.execute(&REMOVE, muster_catalog::args![AgentNo(3)]).await.unwrap();
    tx.commit().await.unwrap();
    let after = World::open(&temp).await;
    after.online([1, 2]);
    let mut dispatcher = after.dispatcher(1);
    dispatcher.round().await;
    assert_eq!(waves(&after, no).await[1].0, AgentSet::from_iter([AgentNo(1), AgentNo(2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_without_a_source_end_as_unsupported_at_once() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 3).await;
    let mut world = World::open(&temp).await;
    world.online([1, 2]);
    let mut new = hunt(HuntKind::Collection, quick());
    new.definition.sources.remove(&muster_types::AgentKind::Native);
    let no = world.hunts.create(&new).await.unwrap();
    let mut dispatcher = world.dispatcher(1);
    dispatcher.round().await;
    let mut facts = Vec::new();
    for shard in Shard::all() {
        facts.extend(world.stream.entries(shard).into_iter().map(|entry| entry.record));
    }
    assert_eq!(facts.len(), 2);
    for record in &facts {
        let Body::Fact(TaskFact::Ended { task, outcome, .. }) = &record.body else { panic!() };
        assert_eq!((task.hunt, *outcome), (no, Outcome::Unsupported));
    }
    world.end(no, [1, 2], Outcome::Unsupported, 0).await;
    dispatcher.round().await;
    // The third is offline, and a collection waits.
    assert_eq!(state(&world, no).await, HuntState::Running);
    world.online([3]);
    dispatcher.round().await;
    world.end(no, [3], Outcome::Unsupported, 0).await;
    dispatcher.round().await;
    assert_eq!(state(&world, no).await, HuntState::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hunt_expires_by_the_databases_clock() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 4).await;
    let mut world = World::open(&temp).await;
    world.online([1, 2]);
    let mut new = hunt(HuntKind::Hunt, quick());
    new.expires_in = Duration::from_secs(3);
    let no = world.hunts.create(&new).await.unwrap();
    let mut dispatcher = world.dispatcher(1);
    dispatcher.round().await;
    world.end(no, [1], Outcome::Empty, 0).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while state(&world, no).await != HuntState::Expired {
        assert!(Instant::now() < deadline);
        dispatcher.round().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let coverage = world.hunts.coverage(no, &Access::all(ORG)).await.unwrap().unwrap();
    assert_eq!((coverage.count(Outcome::Empty), coverage.count(Outcome::Expired)), (1, 3));
}

/// Three instances hand a hunt over while it recruits; those who lost it go on as if they had not.
#[tokio::test(flavor = "multi_thread")]
async fn rate_canary_and_cap_are_exact_over_hand_overs() {
    const RATE: u32 = 100;
    const CANARY: u32 = 10;
    const CAP: u32 = 250;
    const FLEET: u32 = 400;
    for temp in TempCatalog::both().await.unwrap() {
        fleet(&temp.catalog, FLEET).await;
        let mut worlds = Vec::new();
        for _ in 0..3 {
            let world = World::open(&temp).await;
            world.online(1..=FLEET);
            worlds.push(world);
        }
        let limits = Limits {
            rate_per_second: RATE,
            canary: CANARY,
            endpoints_max: CAP,
            ..Limits::default()
        };
        let no = worlds[0].hunts.create(&hunt(HuntKind::Hunt, limits)).await.unwrap();
        let created = worlds[0].hunts.get(no).await.unwrap().unwrap().created_at;
        let mut dispatchers: Vec<_> =
            (1..).zip(&worlds).map(|(epoch, world)| world.dispatcher(epoch)).collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut recruited = 0;
        while recruited < u64::from(CAP) {
            assert!(Instant::now() < deadline, "{recruited} after 30 s");
            // The lease moves on at 80 and at 160; earlier holders do not hear of it.
            let holders = 1 + usize::try_from(recruited / 80).unwrap().min(2);
            for world in &worlds[..holders] {
                world.hunts.refresh().await.unwrap();
            }
            let rounds = dispatchers[..holders].iter_mut().map(|dispatcher| dispatcher.round());
            futures_util::future::join_all(rounds).await;
            let waves = waves(&worlds[0], no).await;
            recruited = waves.iter().map(|(agents, _)| agents.len()).sum();
            if recruited == u64::from(CANARY) {
                let first: Vec<u32> = waves[0].0.iter().map(|agent| agent.0).collect();
                worlds[0].end(no, first, Outcome::Rows, 1).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for dispatcher in &mut dispatchers {
            dispatcher.round().await;
        }
        let mut seen = BTreeSet::new();
        for (agents, at) in waves(&worlds[0], no).await {
            for agent in agents.iter() {
                assert!(seen.insert(agent), "{agent} was recruited twice");
            }
            let due = (at - created.0 + 1_000_000) * i64::from(RATE) / 1_000_000;
            assert!(seen.len() as i64 <= due, "{} recruited where {due} were due", seen.len());
        }
        assert_eq!(seen.len() as u32, CAP, "the cap");
        assert_eq!(waves(&worlds[0], no).await[0].0.len(), u64::from(CANARY), "the canary");
        let rest: Vec<u32> = seen.iter().map(|agent| agent.0).collect();
        worlds[0].end(no, rest, Outcome::Rows, 1).await;
        let coverage = worlds[0].hunts.coverage(no, &Access::all(ORG)).await.unwrap().unwrap();
        assert_eq!((coverage.recruited, coverage.count(Outcome::Rows)), (CAP.into(), CAP.into()));
        assert_eq!(coverage.total, u64::from(FLEET));
        let sum: u64 = Outcome::ALL.iter().map(|outcome| coverage.count(*outcome)).sum();
        assert_eq!(sum, coverage.total, "one outcome each");
    }
}
