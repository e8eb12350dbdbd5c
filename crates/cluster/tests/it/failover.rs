//! The catalog's primary dies and its standby takes over: nobody acts on a lease meanwhile, and the
//! leases afterwards are those of before or newer ones.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, Options as CatalogOptions};
use muster_cluster::{Cluster, Job, Role};
use muster_testkit::Postgres;
use muster_types::Epoch;
use tokio_util::sync::CancellationToken;

use crate::support::{eventually, info, quick};

type Held = BTreeMap<(Job, u16), Epoch>;

fn held(clusters: &[Cluster]) -> Vec<Held> {
    let of = |cluster: &Cluster| {
        // Shares of limits outlive an outage on purpose.
        let all = Job::ALL.into_iter().filter(|job| !job.is_share()).flat_map(|job| {
            let held = cluster.leases(job).borrow().clone();
            let valid = held.is_valid();
            held.epochs.into_iter().filter(move |_| valid).map(move |(n, epoch)| ((job, n), epoch))
        });
        all.collect()
    };
    clusters.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_survive_a_fail_over_fenced() {
    let primary = Postgres::own().unwrap();
    let url = primary.tcp_database().unwrap();
    let standby = primary.standby().unwrap();
    let both = format!("{},{}", primary.address(), standby.address());
    let url = url.replace(&primary.address(), &both);
    let bus = LocalBus::new(64);
    let (mut clusters, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    let shutdown = CancellationToken::new();
    for n in 1..=2 {
        let catalog = Catalog::open(&url, CatalogOptions::default()).await.unwrap();
        catalog.migrate().await.unwrap();
        let (cluster, service) =
            Cluster::start(catalog, bus.clone(), info(n, &Role::ALL, 1), quick()).await.unwrap();
        tasks.spawn(service.run(shutdown.clone()));
        clusters.push(cluster);
    }
    let shared = |clusters: &[Cluster]| {
        let all = held(clusters);
        all.iter().all(|one| one.len() > 32) && all.iter().map(Held::len).sum::<usize>() >= 64
    };
    eventually("both to have their share", || shared(&clusters)).await;
    let before = held(&clusters);

    primary.kill().unwrap();
    // Longer than a lease lives: whoever had one may not act on it any more.
    eventually("nobody to act on a lease", || held(&clusters).iter().all(Held::is_empty)).await;
    standby.promote().unwrap();
    eventually("both to have their share again", || shared(&clusters)).await;
    let after = held(&clusters);
    for (at, now) in after.iter().enumerate() {
        for (partition, epoch) in now {
            let was = before.iter().position(|held| held.contains_key(partition));
            let Some(was) = was else { continue };
            let old = before[was][partition];
            // Who was quick enough to renew before the lease was over goes on; another is a newer holder.
            let fenced = if was == at { *epoch >= old } else { *epoch > old };
            assert!(fenced, "{partition:?}: epoch {epoch:?} after {old:?}, {was} and {at}");
        }
    }
    shutdown.cancel();
    for ended in tokio::time::timeout(Duration::from_secs(20), tasks.join_all()).await.unwrap() {
        ended.unwrap();
    }
}
