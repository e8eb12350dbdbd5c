//! A seeded world: agents that repeat themselves, instances that crash between any two steps, lose leases
//! and go on writing as zombies, planes that fail before or after the fact. No real time.
//!
//! `MUSTER_SIM_SEED=n` runs one seed, `MUSTER_SIM_RUNS=n` that many from a random one.

mod agents;
mod check;
mod faults;
mod hunts;
mod instances;
mod state;
mod world;

use std::collections::BTreeMap;

use world::World;

const RUNS: u64 = 4;
const STEPS: usize = 600;

#[test]
fn every_acknowledged_row_is_stored_once_and_every_recruited_agent_has_one_outcome() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("MUSTER_SIM_SEED");
    let runs = number("MUSTER_SIM_RUNS").unwrap_or_else(|| if seed.is_some() { 1 } else { RUNS });
    let first = seed.unwrap_or_else(rand::random);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for run in 0..runs {
        let seed = first.wrapping_add(run);
        println!("MUSTER_SIM_SEED={seed}");
        runtime.block_on(one(seed));
    }
}

async fn one(seed: u64) {
    let mut world = World::new(seed).await;
    let mut last = BTreeMap::new();
    for _ in 0..STEPS {
        world.step().await;
        check::positions(&world, &mut last).await;
    }
    world.heal().await;
    check::positions(&world, &mut last).await;
    check::everything(&world).await;
    check::states(&world).await;
    world.merge_all().await;
    check::states(&world).await;
    println!(
        "  {} rows, {} commits, {} merges, {} crashes, {} fenced, {} adopted",
        world.rows.len(),
        world.commits,
        world.compacted,
        world.crashes,
        world.fenced,
        world.adopted
    );
    world.temp.catalog.close().await;
}
