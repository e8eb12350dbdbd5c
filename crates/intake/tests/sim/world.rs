//! The world of one seed: agents, instances, faults.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use muster_archive::Archive;
use muster_bus::local::LocalBus;
use muster_cluster::{Formats, Written};
use muster_intake::fold::ShardState;
use muster_intake::worker::{Core, Cut, Deps, Error};
use muster_stream::memory::MemoryStream;
use muster_stream::{Reader, Stream};
use muster_testkit::TempCatalog;
use muster_types::{
    AgentKind, AgentNo, Body, Class, Clock, Epoch, HuntNo, OrgId, Outcome, Payload, Record, Shard,
    TaskFact, TestClock, Timestamp,
};
use object_store::memory::InMemory;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::agents::{Agent, Sent, task};
use crate::faults::{Dice, FaultyStore, FaultyStream};
use crate::hunts::{Book, BookDecoder, Hunts};

pub const INSTANCES: usize = 3;
/// Agents of four shards and four kinds.
const AGENTS: [u32; 12] = [1, 2, 3, 4, 65, 66, 67, 68, 129, 130, 131, 132];
/// 2100-01-01: whatever the objects' store says, they are older.
pub const START: Timestamp = Timestamp(4_102_444_800_000_000);

/// One server process.
pub struct Instance {
    pub deps: Arc<Deps>,
    /// Steps until it crashes.
    pub fuse: Arc<AtomicI64>,
    /// What it believes to hold.
    pub held: BTreeMap<Shard, Epoch>,
    /// What of it its core has.
    pub taken: BTreeMap<Shard, Epoch>,
    pub core: Option<Core>,
    pub reader: Option<Box<dyn Reader>>,
    /// Cut and not committed.
    pub cut: Option<Cut>,
}

pub struct World {
    pub rng: ChaCha8Rng,
    pub temp: TempCatalog,
    pub stream: FaultyStream,
    pub archive: Archive,
    pub hunts: Arc<Hunts>,
    pub clock: Arc<TestClock>,
    pub dice: Arc<Dice>,
    book: Arc<Book>,
    pub agents: Vec<Agent>,
    pub instances: Vec<Instance>,
    pub epochs: BTreeMap<Shard, Epoch>,
    next_row: u64,
    next_hunt: u64,
    /// Every row that an agent made; each must be stored once.
    pub rows: BTreeSet<u64>,
    pub crashes: u64,
    pub fenced: u64,
    /// How often shards came to a core that went on with others.
    pub adopted: u64,
    pub commits: u64,
    pub compacted: u64,
}

impl World {
    pub async fn new(seed: u64) -> Self {
        let dice = Dice::new(seed ^ 0xd1ce);
        let temp = TempCatalog::sqlite().await.unwrap();
        let stream =
            FaultyStream { inner: MemoryStream::new(), dice: dice.clone(), trims: Arc::default() };
        let store = FaultyStore { inner: InMemory::new(), dice: dice.clone() };
        let archive = Archive::with_store(Arc::new(store));
        let clock = Arc::new(TestClock::new(START));
        let kinds = |no: u32| AgentKind::ALL[no as usize / 64 + no as usize % 2];
        let agents: Vec<Agent> =
            AGENTS.iter().map(|no| Agent::new(AgentNo(*no), kinds(*no))).collect();
        let hunts = Arc::new(Hunts {
            agents: agents.iter().map(|agent| (agent.no, agent.kind)).collect(),
            ..Hunts::default()
        });
        let book = Arc::new(Book::default());
        let decoder = Arc::new(BookDecoder(book.clone()));
        let instances = (0..INSTANCES).map(|n| {
            let fuse = Arc::new(AtomicI64::new(i64::MAX));
            let burning = fuse.clone();
            // One of them has heard already that all read the newest form.
            let (written, formats) = Formats::channel();
            let state = ShardState::FORMAT;
            if n == 0 {
                written.send_replace(Written::from([(state.name.to_owned(), state.newest)]));
            }
            let deps = Deps {
                catalog: temp.catalog.clone(),
                archive: archive.clone(),
                stream: Arc::new(stream.clone()),
                bus: LocalBus::new(16),
                clock: clock.clone(),
                hunts: hunts.clone(),
                decoders: Arc::new(
                    AgentKind::ALL.map(|kind| (kind, decoder.clone() as _)).into_iter().collect(),
                ),
                formats,
                writer: format!("sim.{n}"),
                probe: Some(Arc::new(move |step| {
                    if burning.fetch_sub(1, Ordering::SeqCst) > 0 {
                        return Ok(());
                    }
                    Err(Error::Step(format!("simulated crash at {step}")))
                })),
            };
            Instance {
                deps: Arc::new(deps),
                fuse,
                held: BTreeMap::new(),
                taken: BTreeMap::new(),
                core: None,
                reader: None,
                cut: None,
            }
        });
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            instances: instances.collect(),
            temp,
            stream,
            archive,
            hunts,
            clock,
            dice,
            book,
            agents,
            epochs: BTreeMap::new(),
            next_row: 1,
            next_hunt: 1,
            rows: BTreeSet::new(),
            crashes: 0,
            fenced: 0,
            adopted: 0,
            commits: 0,
            compacted: 0,
        }
    }

    /// One thing happens.
    pub async fn step(&mut self) {
        let instance = self.rng.random_range(0..INSTANCES);
        match self.rng.random_range(0..100) {
            0..6 => self.recruit().await,
            6..16 => self.make_row(),
            16..46 => self.send().await,
            46..66 => self.work(instance).await,
            66..76 => self.cut(instance).await,
            76..86 => self.commit(instance).await,
            86..90 => self.move_leases(),
            90..92 => self.notice(instance),
            92..94 => self.crash(instance),
            94..96 => {
                let fuse = self.rng.random_range(0..25);
                self.instances[instance].fuse.store(fuse, Ordering::SeqCst);
            }
            96 => self.end_hunt(),
            97 => self.sweep(instance).await,
            98 => self.tidy().await,
            _ => {
                let seconds = *[1, 60, 200].choose(&mut self.rng).unwrap();
                self.clock.advance(Duration::from_secs(seconds));
                self.tidy().await;
            }
        }
        self.clock.advance(Duration::from_millis(20));
    }

    /// Nothing fails any more, everything is said, one instance does the rest.
    pub async fn heal(&mut self) {
        self.dice.heal();
        for agent in 0..self.agents.len() {
            while !self.agents[agent].is_done() {
                self.send_of(agent, true).await;
            }
        }
        {
            let mut state = self.hunts.state.lock();
            state.over = state.recruited.keys().copied().collect();
        }
        for instance in 0..INSTANCES {
            self.crash(instance);
        }
        for shard in [1, 2, 3, 4].map(|n| Shard::new(n).unwrap()) {
            let epoch = self.epochs.entry(shard).or_insert(Epoch(0));
            epoch.0 += 1;
            self.instances[0].held.insert(shard, *epoch);
        }
        for _ in 0..6 {
            self.work(0).await;
            while self.instances[0].core.as_ref().unwrap().is_pending() {
                self.cut(0).await;
                self.commit(0).await;
                self.work(0).await;
            }
            self.sweep(0).await;
        }
        assert!(!self.instances[0].core.as_ref().unwrap().is_pending());
    }

    pub async fn append(&self, agent: AgentNo, kind: AgentKind, body: Body) -> bool {
        let received_at = self.clock.now();
        let (org, class) = (OrgId::DEFAULT, Class::Collected);
        let record = Record { org, agent, kind, class, received_at, body };
        self.stream.append(vec![record]).await.is_ok()
    }

    async fn recruit(&mut self) {
        let hunt = self.next_hunt;
        self.next_hunt += 1;
        let count = self.rng.random_range(1..=self.agents.len());
        let mut order: Vec<usize> = (0..self.agents.len()).collect();
        rand::seq::SliceRandom::shuffle(&mut order[..], &mut self.rng);
        for index in order.into_iter().take(count) {
            let (no, kind) = (self.agents[index].no, self.agents[index].kind);
            {
                let mut state = self.hunts.state.lock();
                state.recruited.entry(HuntNo(hunt)).or_default().insert(no);
                if self.rng.random_bool(0.3) {
                    state.unheard.insert((HuntNo(hunt), no));
                }
            }
            let mut attempt = 1;
            // Kinds that must not be asked twice: durable before the bytes leave.
            if matches!(kind, AgentKind::Velociraptor | AgentKind::Fleetspeak) {
                self.fact(no, kind, TaskFact::Delivering(task(hunt, 1))).await;
                if self.rng.random_bool(0.2) {
                    self.fact(no, kind, TaskFact::Lost(task(hunt, 1))).await;
                    self.fact(no, kind, TaskFact::Delivering(task(hunt, 2))).await;
                    attempt = 2;
                }
            }
            if self.rng.random_bool(0.1) {
                continue; // It never answers.
            }
            let rows: Vec<u64> = (0..self.rng.random_range(0..6)).map(|_| self.new_row()).collect();
            let failed = self.rng.random_bool(0.1);
            self.agents[index].answer(task(hunt, attempt), &rows, failed, &mut self.rng);
            if self.rng.random_bool(0.5) {
                self.send_of(index, false).await;
            }
            let _ =
                self.append(no, kind, Body::Fact(TaskFact::Delivered(task(hunt, attempt)))).await;
        }
    }

    /// A fact that must be in the stream before the work goes on.
    async fn fact(&self, agent: AgentNo, kind: AgentKind, fact: TaskFact) {
        while !self.append(agent, kind, Body::Fact(fact.clone())).await {}
    }

    fn end_hunt(&mut self) {
        let hunts: Vec<HuntNo> = self.hunts.state.lock().recruited.keys().copied().collect();
        if let Some(hunt) = hunts.choose(&mut self.rng) {
            self.hunts.state.lock().over.insert(*hunt);
        }
    }

    fn make_row(&mut self) {
        let agent = self.rng.random_range(0..self.agents.len());
        if self.rng.random_bool(0.5) && self.agents[agent].turn(&mut self.rng) {
            return;
        }
        let row = self.new_row();
        self.agents[agent].scheduled(row);
    }

    fn new_row(&mut self) -> u64 {
        self.next_row += 1;
        self.rows.insert(self.next_row);
        self.next_row
    }

    async fn send(&mut self) {
        let agent = self.rng.random_range(0..self.agents.len());
        self.send_of(agent, false).await;
    }

    /// Sends some messages; some acknowledgements are lost, and a refused append ends the connection.
    async fn send_of(&mut self, index: usize, healed: bool) {
        let (no, kind) = (self.agents[index].no, self.agents[index].kind);
        let mut acked: Vec<Sent> = Vec::new();
        let mut lost = false;
        for (facts, sent) in self.agents[index].send(&mut self.rng) {
            let payload = self.payload(facts).await;
            if !self.append(no, kind, Body::Wire(payload)).await {
                break;
            }
            lost |= !healed && self.rng.random_bool(0.25);
            // Acknowledgements of numbered messages are cumulative; Fleetspeak's are one by one.
            if kind == AgentKind::Fleetspeak {
                if healed || self.rng.random_bool(0.75) {
                    acked.push(sent);
                }
            } else if !lost {
                acked.push(sent);
            }
        }
        self.agents[index].acked(acked);
    }

    /// Some payloads are objects.
    async fn payload(&mut self, facts: muster_types::Facts) -> Payload {
        let bytes = self.book.write(facts);
        if self.rng.random_bool(0.15) {
            let name = muster_archive::payload_name(self.clock.now(), "sim");
            let byte_count = bytes.len() as u64;
            if self.archive.put_new(&name, bytes.clone()).await.is_ok() {
                return Payload::Object { name, byte_count };
            }
        }
        Payload::Inline(bytes)
    }

    /// Who was recruited for what.
    pub fn recruited(&self) -> HashMap<(u64, u32), Outcome> {
        let state = self.hunts.state.lock();
        let all = state.recruited.iter().flat_map(|(hunt, agents)| {
            agents.iter().map(|agent| ((hunt.0, agent.0), Outcome::Waiting))
        });
        all.collect()
    }
}
