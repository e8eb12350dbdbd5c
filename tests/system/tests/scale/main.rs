//! Whole clusters under faults: every row an agent was told is stored is there exactly once, every
//! recruited endpoint has one outcome, and a scheduled task took effect once.
//!
//! `three_instances_and_every_fault` is the short form. The long form, with separate roles, a NATS cluster and a
//! PostgreSQL standby, is `cargo xtask long`; see docs/src/testing.md.

mod fault;
mod support;
mod truth;
mod world;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use fault::Fault;
use support::seed;
use world::{Shape, World};

/// Whether a fault is wanted: `MUSTER_FAULTS` is part of a name such as `Sever`, to look at one alone.
fn wanted(fault: &Fault) -> bool {
    std::env::var("MUSTER_FAULTS").map_or(true, |part| format!("{fault:?}").contains(&part))
}

/// One fault, and when something does not hold what the servers have logged.
fn round(world: &mut World, fault: &Fault, moment: Duration) -> anyhow::Result<()> {
    let done = strike(world, fault, moment);
    if done.is_err() {
        for one in world.cluster.instances() {
            eprintln!("{}:\n{}", one.name(), one.log());
        }
    }
    done
}

/// One fault under running hunts and logs, and what must hold afterwards.
fn strike(world: &mut World, fault: &Fault, moment: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    println!("-- {fault}, {} ms into its hunts", moment.as_millis());
    let hunts = world.ask(fault.operator(world))?;
    std::thread::sleep(moment);
    fault.strike(world)?;
    if !fault.lasts() {
        fault.mend(world)?;
    }
    let struck = began.elapsed();
    truth::holds(world, &hunts, fault.operator(world))?;
    let settled = began.elapsed();
    if fault.lasts() {
        fault.mend(world)?;
    }
    println!(
        "   struck for {:.1} s, all true after {:.1} s",
        struck.as_secs_f64(),
        settled.as_secs_f64()
    );
    Ok(())
}

#[test]
fn three_instances_and_every_fault() -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut world = World::start(&Shape::three())?;
    let mut order = [0, 1, 2];
    order.shuffle(&mut rng);
    let [a, b, c] = order;
    let faults = [
        Fault::Kill(a),
        Fault::Kill(b),
        Fault::Away(c),
        Fault::Sever(a, "catalog"),
        Fault::Sever(b, "nats"),
        Fault::Sever(c, "archive"),
        Fault::RestartCatalog,
        Fault::RestartNats(0),
        Fault::Pause(b),
        Fault::TwoOfEverything,
        Fault::ClockJump,
    ];
    for fault in faults.iter().filter(|fault| wanted(fault)) {
        round(&mut world, fault, Duration::from_millis(rng.random_range(0..1200)))?;
    }
    world.finish()
}

/// `MUSTER_LONG_ROUNDS`, of which each strikes once with every fault in an order of its own.
fn long_rounds() -> u32 {
    let given = std::env::var("MUSTER_LONG_ROUNDS").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(2)
}

#[test]
#[ignore = "takes half an hour: cargo xtask long"]
fn separate_roles_a_nats_cluster_and_a_standby() -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut world = World::start(&Shape::separate())?;
    let rounds = long_rounds();
    for turn in 0..rounds {
        // Each is killed once in every round, and stays away or not; as many as there are roles are paused.
        let count = world.cluster.instances().len();
        let mut faults: Vec<Fault> = (0..count)
            .map(|one| *[Fault::Kill(one), Fault::Away(one)].choose(&mut rng).expect("some"))
            .collect();
        faults.extend((0..4).map(|_| Fault::Pause(rng.random_range(0..count))));
        for store in ["catalog", "catalog-standby", "nats-0", "nats-1", "nats-2", "archive"] {
            faults.push(Fault::Sever(rng.random_range(0..world.cluster.instances().len()), store));
        }
        faults.extend([
            Fault::LoseNode(rng.random_range(0..3)),
            Fault::RestartNats(rng.random_range(0..3)),
            Fault::RestartCatalog,
            Fault::TwoOfEverything,
            Fault::ClockJump,
        ]);
        faults.shuffle(&mut rng);
        // The standby takes over once: there is no other after it.
        if turn + 1 == rounds {
            faults.push(Fault::FailOver);
        }
        println!("== round {} of {rounds}", turn + 1);
        for fault in faults.iter().filter(|fault| wanted(fault)) {
            round(&mut world, fault, Duration::from_millis(rng.random_range(0..2000)))?;
        }
    }
    world.finish()
}
