//! Never two holders of one partition at a time, whatever instances do and however they stall.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::World;
use muster_catalog::Catalog;
use muster_cluster::{Job, Member, Options, Role};
use muster_types::Epoch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// How long it runs, in times to live of a lease.
const RUN: u32 = 10;

/// From when until when one incarnation believed that it held a partition.
#[derive(Clone, Copy, Debug)]
struct Belief {
    holder: (u128, u64),
    epoch: Epoch,
    from: Instant,
    until: Instant,
}

type Beliefs = BTreeMap<(Job, u16), Vec<Belief>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_stalls_crashes_and_leaves() {
    let seed: u64 =
        std::env::var("MUSTER_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("MUSTER_SEED={seed}");
    for world in World::both().await {
        // A round has to fit its time to live, on this machine too; the first makes all that there is.
        let first = crate::support::info(9, &Role::ALL, 1);
        let catalog = world.temp.catalog.clone();
        let mut first = Member::register(catalog, &first, crate::support::options()).await.unwrap();
        let began = Instant::now();
        first.round().await.unwrap();
        let ttl = Duration::from_millis(240).max(began.elapsed() * 2);
        first.leave().await.unwrap();
        let hand_over = Duration::from_millis(5);
        let options = Options {
            ttl,
            renew: ttl / 4,
            hand_over,
            share_ttl: ttl * 2,
            ..crate::support::options()
        };
        let mut tasks = tokio::task::JoinSet::new();
        for n in 1..=3 {
            let rng = StdRng::seed_from_u64(seed ^ u64::try_from(n).unwrap());
            tasks.spawn(live(world.temp.catalog.clone(), n, options.clone(), rng));
        }
        let mut all = Beliefs::new();
        while let Some(beliefs) = tasks.join_next().await {
            for (partition, some) in beliefs.unwrap() {
                all.entry(partition).or_default().extend(some);
            }
        }
        let mut changes_of_holder = 0;
        for (partition, mut beliefs) in all {
            beliefs.sort_by_key(|belief| (belief.epoch, belief.from));
            for pair in beliefs.windows(2) {
                let [a, b] = pair else { unreachable!() };
                if a.holder != b.holder {
                    changes_of_holder += 1;
                    assert!(
                        a.epoch < b.epoch,
                        "{partition:?}: one epoch, two holders: {a:?} {b:?}"
                    );
                    assert!(a.until <= b.from, "{partition:?}: two holders at a time: {a:?} {b:?}");
                }
            }
        }
        assert!(changes_of_holder > 50, "nothing happened: {changes_of_holder}");
    }
}

/// One instance after another with the same id, each ending in its own way.
async fn live(catalog: Catalog, n: u128, options: Options, mut rng: StdRng) -> Beliefs {
    let mut beliefs = Beliefs::new();
    let end = Instant::now() + options.ttl * RUN;
    while Instant::now() < end {
        let info = crate::support::info(n, &Role::ALL, 1);
        let Ok(mut member) = Member::register(catalog.clone(), &info, options.clone()).await else {
            continue;
        };
        let holder = (n, member.incarnation().0);
        for _ in 0..rng.random_range(1..12) {
            let Ok(after) = member.round().await else { continue };
            note(&member, holder, &mut beliefs);
            if rng.random_bool(0.15) {
                // Asleep past its time to live, like a stopped process.
                tokio::time::sleep(options.ttl.mul_f64(rng.random_range(0.5..2.0))).await;
            } else {
                tokio::time::sleep_until(after.next).await;
            }
        }
        if rng.random_bool(0.5) {
            cut(holder, &mut beliefs, |_| false);
            let _ = member.leave().await;
        } else {
            // A crash: what worked under its leases ends with it.
            cut(holder, &mut beliefs, |_| false);
        }
    }
    beliefs
}

/// Notes what is held now; what is no longer shown as held ended here.
fn note(member: &Member, holder: (u128, u64), beliefs: &mut Beliefs) {
    let held: BTreeMap<_, _> =
        Job::ALL.map(|job| (job, member.leases(job).borrow().clone())).into();
    cut(holder, beliefs, |(job, n)| held[&job].epochs.contains_key(&n));
    for (job, held) in held {
        for (n, epoch) in held.epochs {
            let (from, until) = (Instant::now(), held.valid_until);
            beliefs.entry((job, n)).or_default().push(Belief { holder, epoch, from, until });
        }
    }
}

fn cut(holder: (u128, u64), beliefs: &mut Beliefs, still: impl Fn((Job, u16)) -> bool) {
    let now = Instant::now();
    for (partition, beliefs) in beliefs {
        if let Some(last) = beliefs.last_mut().filter(|last| last.holder == holder)
            && !still(*partition)
        {
            last.until = last.until.min(now);
        }
    }
}
