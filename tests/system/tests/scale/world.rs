//! A cluster, its stores, and the agents that use it.

use std::collections::BTreeSet;

use anyhow::Context;
use muster_testkit::{
    Cluster, ClusterOptions, Instance, InstanceOptions, Nats, Network, Postgres, S3, SkewedClock,
    Stores, wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ask, Fleet, OsqueryFleet, SOON, has_sql};

/// What is planted on some endpoints, and found on these only.
const FOUND: &str = "SELECT path, command FROM crontab WHERE command LIKE '%203.0.113.66%'";
/// What every endpoint has many rows of.
const MANY: &str = "SELECT pid, name, path FROM processes";

/// What a world is made of.
pub struct Shape {
    /// Instances, in the order faults name them.
    pub instances: Vec<InstanceOptions>,
    /// NATS servers.
    pub nats: usize,
    /// Whether PostgreSQL has a synchronous standby.
    pub standby: bool,
    /// Simulated native agents.
    pub agents: u64,
    /// Of these, carriers of the planted evidence.
    pub planted: u64,
    /// Simulated osquery hosts.
    pub hosts: u64,
}

impl Shape {
    /// Three instances that do everything.
    pub fn three() -> Self {
        Self {
            instances: vec![InstanceOptions::default(); 3],
            nats: 1,
            standby: false,
            agents: 60,
            planted: 5,
            hosts: 20,
        }
    }

    /// Each role by itself, and stores that survive the loss of a machine.
    pub fn separate() -> Self {
        let roles = [("frontend", 3), ("worker", 2), ("scheduler", 2), ("api", 2)];
        let instances = roles
            .into_iter()
            .flat_map(|(role, count)| std::iter::repeat_n(InstanceOptions::roles(role), count));
        Self {
            instances: instances.collect(),
            nats: 3,
            standby: true,
            agents: 120,
            planted: 9,
            hosts: 40,
        }
    }
}

/// Two hunts of one round.
pub struct Hunts {
    /// For the planted evidence.
    pub found: u64,
    /// For many rows.
    pub many: u64,
}

/// Everything that runs. Fields end in this order: agents, servers, stores.
pub struct World {
    /// Native agents.
    pub native: Fleet,
    /// osquery agents.
    pub osquery: OsqueryFleet,
    /// The servers.
    pub cluster: Cluster,
    /// The wall clock of the last instance, where one can be made.
    pub clock: Option<SkewedClock>,
    /// Streams and hints.
    pub nats: Nats,
    /// Facts at rest: it only has to be there.
    _archive: S3,
    /// Facts: the primary.
    pub catalog: Postgres,
    /// The one that takes over.
    pub standby: Option<Postgres>,
    /// Endpoints, all told.
    pub agents: u64,
    /// osquery hosts.
    pub hosts: u64,
    /// Names of endpoints with planted evidence.
    pub planted: BTreeSet<String>,
    /// Labels that follow what the hunts for the evidence found, one of each round.
    pub labels: Vec<String>,
    rounds: u64,
    _dir: TempDir,
}

impl World {
    /// Starts it all and waits until everybody is connected.
    pub fn start(shape: &Shape) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let catalog = Postgres::own()?;
        let nats = if shape.nats > 1 { Nats::cluster()? } else { Nats::start()? };
        let archive = S3::start()?;
        let mut stores = Stores::scaled(&catalog, &nats, &archive)?;
        let standby = shape.standby.then(|| catalog.standby()).transpose()?;
        if let Some(standby) = &standby {
            stores = stores.standby("catalog-standby", standby);
        }
        let clock = SkewedClock::make(dir.path());
        let mut instances = shape.instances.clone();
        match &clock {
            Ok(clock) => {
                instances.last_mut().context("no instance")?.env.extend(clock.env());
            }
            Err(why) => println!("no clock jumps: {why:#}"),
        }
        let namespaces = Network::available();
        if let Err(why) = &namespaces {
            println!("no network namespaces, partitions are made on loopback: {why:#}");
        }
        let options = ClusterOptions::new(stores)
            .with(instances)
            .env("MUSTER_LOG__LEVEL", "warn")
            .partitions()
            .namespaces(namespaces.is_ok());
        let cluster = Cluster::start(&options)?;
        let (agents, planted) =
            (shape.agents.to_string(), format!("cron-dropper={}", shape.planted));
        let native = cluster.native_agents(&["--endpoints", &agents, "--plant", &planted])?;
        let mut native = Fleet::spawn(native)?;
        native.up(shape.agents, shape.agents)?;
        let mut osquery = OsqueryFleet::spawn(cluster.osquery_agents(&osquery_args(shape.hosts))?)?;
        osquery.wait("osquery agents to log", |report| {
            report["lines_taken"].as_u64() > Some(2 * shape.hosts)
        })?;
        let carriers = native.plants["cron-dropper"].as_array().context("no plants")?;
        let planted = carriers.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let world = Self {
            native,
            osquery,
            cluster,
            clock: clock.ok(),
            nats,
            _archive: archive,
            catalog,
            standby,
            agents: shape.agents,
            hosts: shape.hosts,
            planted,
            labels: Vec::new(),
            rounds: 0,
            _dir: dir,
        };
        world.all_seen()?;
        Ok(world)
    }

    /// Waits until every endpoint is known and online everywhere people ask.
    fn all_seen(&self) -> anyhow::Result<()> {
        for api in self.cluster.instances().iter().filter(|one| one.has_role("api")) {
            wait_for("everybody to be seen", SOON, || {
                let agents = api.list(&["agents"])?;
                let online = agents.iter().filter(|agent| agent["online"] == true).count() as u64;
                Ok((online == self.agents + self.hosts).then_some(()))
            })?;
        }
        Ok(())
    }

    /// The place of an instance that serves people and is not `struck`.
    pub fn operator(&self, struck: Option<usize>) -> usize {
        let instances = self.cluster.instances().iter().enumerate();
        let mut serving = instances.filter(|(_, one)| one.has_role("api"));
        serving.find(|(index, _)| Some(*index) != struck).expect("one serves people").0
    }

    /// An instance that serves people.
    pub fn operator_instance(&self) -> &Instance {
        self.cluster.instance(self.operator(None))
    }

    /// Starts the hunts of a round; only native agents can answer the first.
    pub fn ask(&mut self, operator: usize) -> anyhow::Result<Hunts> {
        self.rounds += 1;
        let operator = self.cluster.instance(operator);
        let paced = ["--rate", "40", "--canary", "0", "--where", "agent_kind = 'native'"];
        let hunt = |sql: &str| operator.hunt(&[&["--sql", sql], &paced[..]].concat());
        let (found, many) = (hunt(FOUND)?, hunt(MANY)?);
        if has_sql()? {
            let label = format!("found-{}", self.rounds);
            operator.json(&["label", "create", &label])?;
            let rule = format!("SELECT endpoint FROM hunt_{found}");
            operator.json(&["label", "rule", "set", &label, &rule])?;
            self.labels.push(label);
        }
        Ok(Hunts { found, many })
    }

    /// Ends agents in order and checks their last words.
    pub fn finish(self) -> anyhow::Result<()> {
        for label in &self.labels {
            crate::truth::applied_once(&self, label)?;
        }
        crate::truth::last(self)
    }
}

/// Hosts that do in a second what others do in ten.
fn osquery_args(hosts: u64) -> Vec<&'static str> {
    let hosts: &'static str = if hosts == 20 { "20" } else { "40" };
    let args = "--start 1 --distributed-interval 2 --config-interval 5 --log-interval 1 --lines 2 \
                --large 0.002 --packages 20 --drain 60 --hosts";
    args.split_whitespace().chain([hosts]).collect()
}
