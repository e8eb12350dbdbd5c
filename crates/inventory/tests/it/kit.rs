//! A few agents and instances over one catalog and one bus.

use std::sync::Arc;
use std::time::Duration;

use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, Priority};
use muster_endpoints::{Agent, AgentReport, Directory, Enrol, enrol};
use muster_inventory::policy::{self, NewPolicy, PolicyNo};
use muster_inventory::{Deps, Inventory};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, InstanceId, OrgId, TestClock, Timestamp};
use uuid::Uuid;

pub const NOW: Timestamp = Timestamp(1_763_640_000_000_000);
pub const ORG: OrgId = OrgId::DEFAULT;

pub struct World {
    pub catalog: Catalog,
    pub bus: Arc<dyn Bus>,
    pub directory: Directory,
    pub clock: Arc<TestClock>,
    _temp: TempCatalog,
}

impl World {
    pub async fn new() -> Self {
        Self::on(TempCatalog::sqlite().await.unwrap()).await
    }

    pub async fn on(temp: TempCatalog) -> Self {
        let bus: Arc<dyn Bus> = LocalBus::new(1_024);
        let catalog = temp.catalog.clone();
        let directory = Directory::open(catalog.clone(), Arc::clone(&bus)).await.unwrap();
        let clock = Arc::new(TestClock::new(NOW));
        Self { catalog, bus, directory, clock, _temp: temp }
    }

    /// One instance.
    pub async fn instance(&self, n: u128) -> Inventory {
        Inventory::open(Deps {
            catalog: self.catalog.clone(),
            bus: Arc::clone(&self.bus),
            directory: self.directory.clone(),
            clock: self.clock.clone(),
            instance: InstanceId(Uuid::from_u128(n)),
        })
        .await
        .unwrap()
    }

    /// An osquery agent on a machine of its own.
    pub async fn agent(&self, name: &str, platform: &str) -> Arc<Agent> {
        let new = Enrol {
            org: ORG,
            kind: AgentKind::Osquery,
            external_id: name.to_owned(),
            public_key: None,
            machine: None,
            report: AgentReport {
                hostname: name.to_owned(),
                platform: platform.to_owned(),
                ..AgentReport::default()
            },
            secret: None,
        };
        let enrolled = enrol(&self.catalog, &new, NOW).await.unwrap();
        let snapshot = self.directory.refresh().await.unwrap();
        Arc::clone(snapshot.agent(AgentNo(enrolled.agent.0)).unwrap())
    }

    pub async fn label(&self, name: &str, endpoints: &[muster_types::EndpointNo]) {
        muster_endpoints::create_label(&self.catalog, ORG, name, "", "ana", NOW).await.unwrap();
        muster_endpoints::add_members(&self.catalog, ORG, name, endpoints, "ana", NOW)
            .await
            .unwrap();
        self.directory.refresh().await.unwrap();
    }

    pub async fn policy(&self, name: &str, change: impl FnOnce(&mut NewPolicy)) -> PolicyNo {
        let mut new = NewPolicy {
            name: name.to_owned(),
            query: format!("SELECT '{name}'"),
            enabled: true,
            ..NewPolicy::default()
        };
        change(&mut new);
        let mut tx = self.catalog.begin(Priority::Api).await.unwrap();
        let now = muster_types::Clock::now(&*self.clock);
        let no = policy::create(&mut tx, ORG, new, "ana", now).await.unwrap();
        tx.commit().await.unwrap();
        no
    }
}

pub fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}
