//! Several instances in one process, on one catalog and one bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::local::LocalBus;
use muster_catalog::{Priority, args, statements};
use muster_cluster::{Cluster, Error, InstanceInfo, Job, Options, Role};
use muster_testkit::TempCatalog;
use muster_types::{Epoch, InstanceId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

statements! {
    small LATE = "UPDATE instance SET heartbeat_at = heartbeat_at - 600000000, expires_at = 1";
}

pub struct World {
    pub temp: TempCatalog,
    pub bus: Arc<LocalBus>,
}

impl World {
    pub async fn both() -> [Self; 2] {
        let world = |temp| Self { temp, bus: LocalBus::new(64) };
        TempCatalog::both().await.unwrap().map(world)
    }

    /// From now on it is long ago that any instance renewed its leases.
    pub async fn is_late(&self) {
        self.temp.catalog.execute(Priority::Api, &LATE, args![]).await.unwrap();
    }
}

/// Nothing expires within a test.
pub fn options() -> Options {
    Options {
        ttl: Duration::from_secs(120),
        renew: Duration::from_secs(1),
        hand_over: Duration::from_millis(10),
        share_ttl: Duration::from_secs(300),
        ..Options::default()
    }
}

/// What crashes is taken over soon.
pub fn quick() -> Options {
    let (ttl, renew) = (Duration::from_millis(1500), Duration::from_millis(200));
    Options { ttl, renew, ..options() }
}

pub fn info(n: u128, roles: &[Role], level: u32) -> InstanceInfo {
    InstanceInfo {
        id: InstanceId(Uuid::from_u128(n)),
        name: format!("node-{n}"),
        roles: roles.iter().copied().collect(),
        version: "0.1.0".to_owned(),
        level,
        addresses: vec!["127.0.0.1:1".to_owned()],
        facts: muster_cluster::Facts::default(),
    }
}

pub struct Node {
    pub cluster: Cluster,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Node {
    pub async fn start(world: &World, n: u128, options: Options) -> Self {
        Self::start_as(world, n, &Role::ALL, 1, options).await
    }

    pub async fn start_as(
        world: &World,
        n: u128,
        roles: &[Role],
        level: u32,
        options: Options,
    ) -> Self {
        Self::start_with(world, info(n, roles, level), options).await
    }

    pub async fn start_with(world: &World, info: InstanceInfo, options: Options) -> Self {
        let (catalog, bus) = (world.temp.catalog.clone(), world.bus.clone());
        let (cluster, service) = Cluster::start(catalog, bus, info, options).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Self { cluster, shutdown, task }
    }

    pub fn held(&self, job: Job) -> BTreeMap<u16, Epoch> {
        self.cluster.leases(job).borrow().epochs.clone()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it between two instructions, as `kill -9` does; the handle is what its zombie sees.
    pub async fn crash(self) -> Cluster {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.cluster
    }
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn assert_one_holder_each(nodes: &[Node]) {
    for job in Job::ALL {
        let mut holders = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            for (n, _) in node.held(job) {
                assert_eq!(holders.insert(n, at), None, "two hold {n} of {job:?}");
            }
        }
    }
}
