//! A fleet in a catalog, and a stand-in for the fold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, Priority, args};
use muster_cluster::Held;
use muster_endpoints::{Directory, Presence};
use muster_hunts::{Definition, Dispatcher, HuntKind, Hunts, Limits, NewHunt, ShardProgress};
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{
    AgentNo, Epoch, HuntNo, InstanceId, OrgId, Outcome, ScopeSpec, Shard, SystemClock,
};
use tokio::sync::watch;
use tokio::time::Instant;

muster_catalog::statements! {
    ENDPOINTS = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        WITH RECURSIVE n(n) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT n - 1 FROM n WHERE n > 1)
        SELECT n, 1, 'host-' || CAST(n AS TEXT), NULL, 1, NULL, $2 FROM n";
    AGENTS = "INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        SELECT no, 1, no, $1, CAST(no AS TEXT), NULL, 'active', name, 'linux', '', '', '', '', '', 1, '',
            NULL, 1, 1, '', NULL, NULL, $2
        FROM endpoint";
    PUT_PROGRESS = "INSERT INTO hunt_shard (hunt_no, shard, progress, row_count, byte_count, change)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (hunt_no, shard) DO UPDATE
        SET progress = excluded.progress,
            row_count = excluded.row_count,
            byte_count = excluded.byte_count,
            change = excluded.change";
}

/// One instance over a catalog.
pub struct World {
    pub catalog: Catalog,
    pub directory: Directory,
    pub presence: Presence,
    pub hunts: Hunts,
    pub stream: MemoryStream,
    pub progress: BTreeMap<(HuntNo, Shard), ShardProgress>,
}

/// Puts native agents `1..=size`, each on an endpoint of its own, into the catalog.
pub async fn fleet(catalog: &Catalog, size: u32) {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    let change = tx.bump("directory").await.unwrap();
    tx.bump_by("number/agent", size.into()).await.unwrap();
    tx.bump_by("number/endpoint", size.into()).await.unwrap();
    tx.execute(&ENDPOINTS, args![size, change]).await.unwrap();
    tx.execute(&AGENTS, args!["native", change]).await.unwrap();
    tx.commit().await.unwrap();
}

impl World {
    pub async fn open(temp: &TempCatalog) -> Self {
        let (catalog, bus) = (temp.catalog.clone(), LocalBus::new(1_024));
        let clock = Arc::new(SystemClock);
        let directory = Directory::open(catalog.clone(), bus.clone()).await.unwrap();
        let presence = Presence::new(InstanceId(uuid::Uuid::from_u128(1)), clock.clone());
        let opened =
            Hunts::open(catalog.clone(), bus, directory.clone(), presence.clone(), clock).await;
        let stream = MemoryStream::new();
        let hunts = opened.unwrap();
        Self { catalog, directory, presence, hunts, stream, progress: BTreeMap::new() }
    }

    pub fn online(&self, agents: impl IntoIterator<Item = u32>) {
        for agent in agents {
            self.presence.connected(AgentNo(agent));
        }
    }

    pub fn dispatcher(&self, epoch: u64) -> Dispatcher {
        let epochs = (0..16).map(|partition| (partition, Epoch(epoch))).collect();
        let valid_until = Instant::now() + Duration::from_secs(600);
        let (_, leases) = watch::channel(Held { epochs, valid_until });
        Dispatcher::new(self.hunts.clone(), Arc::new(self.stream.clone()), leases)
    }

    /// What the fold would commit: these agents ended so, with this many rows of 100 bytes each.
    pub async fn end(
        &mut self,
        no: HuntNo,
        agents: impl IntoIterator<Item = u32>,
        outcome: Outcome,
        rows: u64,
    ) {
        let mut tx = self.catalog.begin(Priority::Intake).await.unwrap();
        let change = tx.bump("progress").await.unwrap();
        let mut touched = std::collections::BTreeSet::new();
        for agent in agents.into_iter().map(AgentNo) {
            let progress = self.progress.entry((no, agent.shard())).or_default();
            progress.deliver(agent);
            if progress.end(agent, outcome) {
                progress.row_count += rows;
                progress.byte_count += rows * 100;
            }
            touched.insert(agent.shard());
        }
        for shard in touched {
            let progress = &self.progress[&(no, shard)];
            let (rows, bytes) = (progress.row_count, progress.byte_count);
            let args = args![no, shard, progress.encode(), rows, bytes, change];
            tx.execute(&PUT_PROGRESS, args).await.unwrap();
        }
        tx.commit().await.unwrap();
        self.hunts.refresh().await.unwrap();
    }
}

/// A hunt for `SELECT 1` on everything.
pub fn hunt(kind: HuntKind, limits: Limits) -> NewHunt {
    NewHunt {
        org: OrgId::DEFAULT,
        kind,
        title: "a test".into(),
        artifact: String::new(),
        definition: Definition::ad_hoc("SELECT 1"),
        scope: ScopeSpec::all(),
        caller_scope: vec![ScopeSpec::all()],
        limits,
        requested_by: "ana".into(),
        reason: String::new(),
        incident: None,
        expires_in: Duration::from_secs(3_600),
        needs_approval: false,
    }
}
