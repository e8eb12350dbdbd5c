//! Schedules over a fresh catalog, and agents to ask for.

use std::sync::Arc;

use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, Priority};
use muster_endpoints::{Agent, AgentReport, Directory, Enrol, add_members, create_label, enrol};
use muster_schedules::{
    BuiltIn, Edit, NewFragment, NewSchedule, Platforms, Schedule, ScheduleError, Schedules,
    change_schedule_in, create_schedule_in, delete_schedule_in, put_fragment_in,
};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, EndpointNo, OrgId, Timestamp};
use serde_json::Value;

pub const ORG: OrgId = OrgId::DEFAULT;

pub struct World {
    pub catalog: Catalog,
    pub directory: Directory,
    pub schedules: Schedules,
    _temp: TempCatalog,
}

impl World {
    pub async fn new() -> Self {
        Self::on(TempCatalog::sqlite().await.unwrap()).await
    }

    pub async fn on(temp: TempCatalog) -> Self {
        let catalog = temp.catalog.clone();
        let bus: Arc<dyn Bus> = LocalBus::new(16);
        let directory = Directory::open(catalog.clone(), Arc::clone(&bus)).await.unwrap();
        let built_in = BuiltIn {
            name: "muster.flags".into(),
            sql: "SELECT name, value FROM osquery_flags".into(),
            interval_s: 3_600,
            platforms: Platforms::ALL,
        };
        let schedules =
            Schedules::load(catalog.clone(), bus, directory.clone(), vec![built_in]).await.unwrap();
        Self { catalog, directory, schedules, _temp: temp }
    }

    pub async fn now(&self) -> Timestamp {
        self.catalog.now().await.unwrap()
    }

    pub async fn add(&self, new: &NewSchedule) -> Result<Schedule, ScheduleError> {
        let now = self.now().await;
        let mut tx = self.catalog.begin(Priority::Api).await?;
        let made = create_schedule_in(&mut tx, ORG, new, "ana", now).await?;
        tx.commit().await?;
        self.schedules.refresh().await?;
        Ok(made)
    }

    pub async fn edit(&self, no: i64, edit: &Edit) -> Result<Schedule, ScheduleError> {
        let now = self.now().await;
        let mut tx = self.catalog.begin(Priority::Api).await?;
        let changed = change_schedule_in(&mut tx, ORG, no, edit, "ana", now).await?;
        tx.commit().await?;
        self.schedules.refresh().await?;
        Ok(changed)
    }

    pub async fn delete(&self, no: i64) {
        let now = self.now().await;
        let mut tx = self.catalog.begin(Priority::Api).await.unwrap();
        delete_schedule_in(&mut tx, ORG, no, now).await.unwrap();
        tx.commit().await.unwrap();
        self.schedules.refresh().await.unwrap();
    }

    pub async fn put(&self, name: &str, precedence: i64, sections: &Value) {
        self.put_for(name, precedence, sections, "", Platforms::ALL).await.unwrap();
    }

    pub async fn put_for(
        &self,
        name: &str,
        precedence: i64,
        sections: &Value,
        label: &str,
        platforms: Platforms,
    ) -> Result<(), ScheduleError> {
        let new = NewFragment {
            name: name.into(),
            label: label.into(),
            platforms,
            precedence,
            sections: sections.as_object().unwrap().clone(),
        };
        let now = self.now().await;
        let mut tx = self.catalog.begin(Priority::Api).await?;
        put_fragment_in(&mut tx, ORG, &new, "ana", now).await?;
        tx.commit().await?;
        self.schedules.refresh().await?;
        Ok(())
    }

    /// Enrols an osquery agent.
    pub async fn agent(&self, name: &str, platform: &str) -> Arc<Agent> {
        let new = Enrol {
            org: ORG,
            kind: AgentKind::Osquery,
            external_id: name.into(),
            public_key: None,
            machine: None,
            report: AgentReport {
                hostname: name.into(),
                platform: platform.into(),
                ..AgentReport::default()
            },
            secret: None,
        };
        let enrolled = enrol(&self.catalog, &new, self.now().await).await.unwrap();
        let snapshot = self.directory.refresh().await.unwrap();
        Arc::clone(snapshot.agent(enrolled.agent).unwrap())
    }

    pub async fn label(&self, name: &str, endpoints: &[EndpointNo]) {
        let now = self.now().await;
        let made = create_label(&self.catalog, ORG, name, "", "ana", now).await;
        drop(made);
        add_members(&self.catalog, ORG, name, endpoints, "ana", now).await.unwrap();
        self.directory.refresh().await.unwrap();
    }

    /// The document of an agent.
    pub fn document(&self, agent: &Agent) -> Value {
        serde_json::from_slice(&self.schedules.config_for(agent).bytes).unwrap()
    }

    /// The names of the queries outside of packs.
    pub fn names(&self, agent: &Agent) -> Vec<String> {
        let document = self.document(agent);
        let schedule = document["schedule"].as_object().unwrap();
        schedule.keys().filter(|name| *name != "muster.flags").cloned().collect()
    }
}

/// A query for everybody, every minute.
pub fn query(name: &str) -> NewSchedule {
    NewSchedule::of_query(name, "SELECT 1 AS one", 60)
}
