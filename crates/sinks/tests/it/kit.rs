//! A catalog and an archive that rows are committed to as workers do it, and services over them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::retention::{RetainOptions, retain_once};
use muster_archive::{Archive, manifest, segment_name};
use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_catalog::{Priority, args, statements};
use muster_cluster::secrets::Key;
use muster_cluster::{Held, Job};
use muster_endpoints::{AgentReport, Directory, Enrol, enrol};
use muster_results::{
    ColumnDecl, ColumnType, RowClass, RowFormat, RowMeta, SegmentBuilder, TableSpec,
};
use muster_sinks::{
    Batch, Deps, Destination, Filter, NewSink, Options, Refusal, Service, Sink, Sinks, Status,
};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, Clock, Epoch, HuntNo, OrgId, Pos, TestClock, Timestamp};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const ORG: OrgId = OrgId::DEFAULT;
pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

statements! {
    ADVANCE = "
        INSERT INTO shard_offset (shard, pos, epoch, base_pos) VALUES ($1, $2, 0, 0)
        ON CONFLICT (shard) DO UPDATE SET pos = excluded.pos";
}

pub struct World {
    pub temp: TempCatalog,
    pub archive: Archive,
    pub directory: Directory,
    pub clock: Arc<TestClock>,
    pub key: Arc<Key>,
    pub folder: PathBuf,
    pub sinks: Sinks,
    next_pos: BTreeMap<u8, u64>,
    epoch: u64,
}

/// A service that can be stopped in order, or between two instructions.
pub struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
    _leases: watch::Sender<Held>,
}

impl Running {
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl World {
    pub async fn both() -> [Self; 2] {
        let [a, b] = TempCatalog::both().await.unwrap();
        [Self::on(a).await, Self::on(b).await]
    }

    pub async fn new() -> Self {
        Self::on(TempCatalog::sqlite().await.unwrap()).await
    }

    async fn on(temp: TempCatalog) -> Self {
        let dir = temp.dir.path().to_owned();
        let archive = Archive::open(&format!("file://{}", dir.join("archive").display())).unwrap();
        let bus: Arc<dyn Bus> = LocalBus::new(64);
        let directory = Directory::open(temp.catalog.clone(), bus).await.unwrap();
        let clock = Arc::new(TestClock::new(NOW));
        let key = Arc::new(Key::new(&[3; 32]));
        let folder = dir.join("sinks");
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let sinks = Sinks::new(temp.catalog.clone(), key.clone(), time, options(&folder));
        let next_pos = BTreeMap::new();
        Self { temp, archive, directory, clock, key, folder, sinks, next_pos, epoch: 0 }
    }

    /// Enrols a machine and gives it a label.
    pub async fn endpoint(&self, name: &str, label: &str) -> AgentNo {
        let new = Enrol {
            org: ORG,
            kind: AgentKind::Native,
            external_id: name.to_owned(),
            public_key: None,
            machine: None,
            report: AgentReport {
                hostname: name.to_owned(),
                platform: "linux".to_owned(),
                os_name: "Debian".to_owned(),
                ..AgentReport::default()
            },
            secret: None,
        };
        let enrolled = enrol(&self.temp.catalog, &new, NOW).await.unwrap();
        if !label.is_empty() {
            let catalog = &self.temp.catalog;
            let _ = muster_endpoints::create_label(catalog, ORG, label, "", "t", NOW).await;
            let one = [enrolled.endpoint];
            muster_endpoints::add_members(catalog, ORG, label, &one, "t", NOW).await.unwrap();
        }
        enrolled.agent
    }

    pub fn new_sink(name: &str, destination: Destination) -> NewSink {
        NewSink {
            name: name.to_owned(),
            destination,
            filter: Filter::default(),
            batch: Batch { rows: 10, ..Batch::default() },
            secret: Some(SecretString::from("top-secret:word")),
        }
    }

    pub async fn try_add(&self, new: &NewSink) -> Result<Sink, Refusal> {
        let mut tx = self.temp.catalog.begin(Priority::Api).await.unwrap();
        let made = self.sinks.create_in(&mut tx, ORG, new, "ana", NOW).await?;
        tx.commit().await.unwrap();
        Ok(made)
    }

    pub async fn add(&self, new: &NewSink) -> Sink {
        self.try_add(new).await.unwrap()
    }

    pub async fn set_paused(&self, name: &str, paused: bool) {
        let mut tx = self.temp.catalog.begin(Priority::Api).await.unwrap();
        assert!(self.sinks.set_paused_in(&mut tx, ORG, name, paused).await.unwrap());
        tx.commit().await.unwrap();
    }

    pub async fn status(&self, name: &str) -> Status {
        self.sinks.find(ORG, name).await.unwrap().unwrap()
    }

    /// Waits until a sink is as it should be.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.status(name).await;
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not within 20 s: {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Commits one flush: a record of each agent with these rows, as a worker does it.
    pub async fn commit(&mut self, table: &str, class: RowClass, rows: &[(AgentNo, &str)]) {
        self.commit_at(table, class, rows, self.clock.now()).await;
    }

    pub async fn commit_at(
        &mut self,
        table: &str,
        class: RowClass,
        rows: &[(AgentNo, &str)],
        at: Timestamp,
    ) {
        let columns = [("n", ColumnType::Int), ("name", ColumnType::Text)];
        let columns =
            columns.map(|(name, kind)| ColumnDecl { name: name.to_owned(), kind }).to_vec();
        let table = Arc::new(TableSpec { name: table.to_owned(), class, columns, open: true });
        let mut builder = SegmentBuilder::new();
        let mut moved = BTreeMap::new();
        for (agent, json) in rows {
            let shard = agent.shard();
            let pos = self.next_pos.entry(shard.get()).or_insert(0);
            *pos += 7;
            moved.insert(shard.get(), *pos);
            let meta = RowMeta {
                org: ORG,
                agent: *agent,
                agent_kind: AgentKind::Native,
                hunt: HuntNo(0),
                attempt: 0,
                late: false,
                received_at: at,
                endpoint_time: None,
                shard,
                pos: Pos(*pos),
            };
            builder.append_json(&table, &meta, RowFormat::Lines, json.as_bytes()).unwrap();
        }
        let built = builder.finish().unwrap();
        let object = segment_name(at.day(), "w-1");
        let length = built.bytes.len() as u64;
        self.archive.put_new(&object, built.bytes).await.unwrap();
        let mut tx = self.temp.catalog.begin(Priority::Intake).await.unwrap();
        for (shard, pos) in moved {
            tx.execute(&ADVANCE, args![shard, pos]).await.unwrap();
        }
        manifest::add_segment(&mut tx, &object, 0, "w-1", at, length, &built.parts).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Merges everything that can be merged.
    pub async fn compact(&self) -> usize {
        let options = CompactOptions {
            min_age: Duration::ZERO,
            max_age: Duration::ZERO,
            min_parts: 2,
            ..CompactOptions::default()
        };
        let mut merged = 0;
        let now = self.clock.now();
        while let Some(done) =
            compact_once(&self.temp.catalog, &self.archive, &options, now).await.unwrap()
        {
            merged += done.parts_in;
        }
        merged
    }

    /// Drops every day that is over.
    pub async fn retain(&self) {
        let options =
            RetainOptions { collected_days: 0, scheduled_days: 0, ..RetainOptions::default() };
        let now = self.clock.now();
        while retain_once(&self.temp.catalog, &self.archive, &options, now).await.unwrap().is_some()
        {
        }
    }

    /// Starts a service that holds all leases, at a new epoch.
    pub fn start(&mut self) -> Running {
        self.epoch += 1;
        let epochs = (0..Job::Sinks.partitions()).map(|n| (n, Epoch(self.epoch))).collect();
        let valid_until = Instant::now() + Duration::from_secs(600);
        let (leases, held) = watch::channel(Held { epochs, valid_until });
        let deps = Deps {
            catalog: self.temp.catalog.clone(),
            archive: self.archive.clone(),
            directory: self.directory.clone(),
            clock: self.clock.clone(),
            key: self.key.clone(),
            leases: held,
        };
        let service = Service::new(deps, options(&self.folder));
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Running { task, stop, _leases: leases }
    }
}

fn options(folder: &std::path::Path) -> Options {
    Options {
        every: Duration::from_millis(10),
        retry_first: Duration::from_millis(5),
        retry_most: Duration::from_millis(50),
        ..Options::new(folder.to_owned())
    }
}

/// JSON lines of rows `from..to`.
pub fn rows(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{{\"n\":{n},\"name\":\"row {n}\"}}\n")).collect()
}

/// The value of `n` in an envelope.
pub fn n_of(envelope: &serde_json::Value) -> u32 {
    u32::try_from(envelope["muster"]["row"]["n"].as_u64().unwrap()).unwrap()
}
