//! The worker as a service, on both databases: leases, time, hints and hand-over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_archive::Archive;
use muster_archive::manifest::{PartFilter, parts_of};
use muster_bus::local::LocalBus;
use muster_bus::{Bus, Hint, Subscription, Topic};
use muster_catalog::{Catalog, Priority, args, statements};
use muster_cluster::{Formats, Held, Written};
use muster_codec_native::{Batch, NativeDecoder};
use muster_intake::fold::{HuntView, ShardState};
use muster_intake::worker::{Deps, Due, Error, HuntInfo, HuntSource, Options, SourceError, Worker};
use muster_results::{RowClass, TableSpec};
use muster_stream::Stream;
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{
    AgentKind, AgentNo, AgentSet, Body, Class, Clock, Decode, Delta, Epoch, Fact, HuntNo, OrgId,
    Payload, Record, RowFormat, Rows, Spent, SystemClock, TaskEnd, TaskId, Timestamp,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HUNT: HuntNo = HuntNo(4);

/// Hunt 4 on everybody, with a table that takes the columns as they come.
struct OneHunt;

#[async_trait]
impl HuntSource for OneHunt {
    async fn hunt(&self, hunt: HuntNo) -> Result<Option<HuntInfo>, SourceError> {
        let view = HuntView {
            org: OrgId::DEFAULT,
            rows_per_endpoint: 1000,
            bytes_per_endpoint: u64::MAX,
            interactive: true,
            watched: false,
        };
        let (name, class) = ("hunt_4".to_owned(), RowClass::Collected);
        let table = Arc::new(TableSpec { name, class, columns: Vec::new(), open: true });
        Ok((hunt == HUNT).then_some(HuntInfo { view, table }))
    }
    fn recruited(&self, _: HuntNo, among: &AgentSet) -> AgentSet {
        among.clone()
    }
    async fn refresh(&self) -> Result<(), SourceError> {
        Ok(())
    }
    fn scheduled(&self, _: OrgId, _: AgentKind, _: &str) -> Option<Arc<TableSpec>> {
        None
    }
    fn due(&self, _: Timestamp) -> Vec<Due> {
        Vec::new()
    }
    fn agent(&self, _: AgentNo) -> Option<(OrgId, AgentKind)> {
        Some((OrgId::DEFAULT, AgentKind::Native))
    }
}

struct Site {
    temp: TempCatalog,
    stream: MemoryStream,
    bus: Arc<LocalBus>,
    written: watch::Sender<Written>,
    formats: Formats,
}

statements! {
    small DELTAS = "SELECT to_pos, delta FROM shard_delta WHERE shard = 1 ORDER BY to_pos";
    POSITION = "SELECT pos FROM shard_offset WHERE shard = $1";
    SPOIL = "UPDATE shard_delta SET delta = $3 WHERE shard = $1 AND to_pos = $2";
}

impl Site {
    fn new(temp: TempCatalog) -> Self {
        let (written, formats) = Formats::channel();
        let (stream, bus) = (MemoryStream::new(), LocalBus::new(64));
        Self { temp, stream, bus, written, formats }
    }

    fn worker(
        &self,
        name: &str,
        held: watch::Receiver<Held>,
    ) -> (JoinHandle<Result<(), Error>>, CancellationToken) {
        self.worker_with(name, held, Options::default())
    }

    fn worker_with(
        &self,
        name: &str,
        held: watch::Receiver<Held>,
        options: Options,
    ) -> (JoinHandle<Result<(), Error>>, CancellationToken) {
        let decoder: Arc<dyn Decode> = Arc::new(NativeDecoder);
        let archive = self.temp.dir.path().canonicalize().unwrap();
        let deps = Deps {
            catalog: self.temp.catalog.clone(),
            archive: Archive::open(&format!("file://{}/archive", archive.display())).unwrap(),
            stream: Arc::new(self.stream.clone()),
            bus: self.bus.clone(),
            clock: Arc::new(SystemClock),
            hunts: Arc::new(OneHunt),
            decoders: Arc::new(HashMap::from([(AgentKind::Native, decoder)])),
            formats: self.formats.clone(),
            writer: name.to_owned(),
            probe: None,
        };
        let shutdown = CancellationToken::new();
        let worker = Worker::new(deps, options, held);
        (tokio::spawn(worker.run(shutdown.clone())), shutdown)
    }

    /// What changed in the state of shard 1, commit by commit: up to where, and the bytes.
    async fn deltas(&self) -> Vec<(i64, Vec<u8>)> {
        let rows = self.temp.catalog.fetch_all(&DELTAS, args![]).await.unwrap();
        rows.iter().map(|row| (row.get("to_pos").unwrap(), row.get("delta").unwrap())).collect()
    }

    /// One batch with one row and the end of the task.
    async fn answer(&self, agent: u32) {
        let task = TaskId { hunt: HUNT, attempt: 1 };
        let rows = Fact::Rows(Rows {
            task: Some(task),
            source: String::new(),
            columns: Vec::new(),
            format: RowFormat::Lines,
            json: Bytes::from(format!("{{\"id\":{agent}}}\n")),
            endpoint_time: None,
            delta: Delta::None,
        });
        let end = TaskEnd { task, outcome: None, message: String::new(), spent: Spent::micros(1) };
        let batch = Batch { stream: 1, seq: 1, items: vec![rows, Fact::End(end)] };
        let record = Record {
            org: OrgId::DEFAULT,
            agent: AgentNo(agent),
            kind: AgentKind::Native,
            class: Class::Collected,
            received_at: SystemClock.now(),
            body: Body::Wire(Payload::Inline(batch.encode().unwrap())),
        };
        self.stream.append(vec![record]).await.unwrap();
    }

    async fn rows(&self) -> u64 {
        let catalog: &Catalog = &self.temp.catalog;
        let all = PartFilter::default();
        let parts = parts_of(catalog, OrgId::DEFAULT, "hunt_4", &all).await.unwrap();
        parts.iter().map(|part| part.info.row_count).sum()
    }

    async fn until_rows(&self, rows: u64) {
        let wait = async {
            while self.rows().await < rows {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("rows in time");
        assert_eq!(self.rows().await, rows);
    }
}

fn held(epoch: Option<u64>) -> Held {
    some_held(0..epoch.map_or(0, |_| 64), epoch.unwrap_or_default())
}

fn some_held(shards: std::ops::Range<u16>, epoch: u64) -> Held {
    let valid_until = tokio::time::Instant::now() + Duration::from_secs(600);
    Held { epochs: shards.map(|n| (n, Epoch(epoch))).collect(), valid_until }
}

async fn next(hints: &mut Box<dyn Subscription>) -> (Topic, Bytes) {
    let hint = tokio::time::timeout(Duration::from_secs(30), hints.next()).await;
    match hint.expect("a hint in time").expect("the bus lives") {
        Hint::Message(topic, content) => (topic, content),
        Hint::Gap => panic!("hints were lost"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_told_at_once_and_committed_soon() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp);
        let mut live = site.bus.subscribe(&[Topic::Live(HUNT)]);
        let mut progress = site.bus.subscribe(&[Topic::Progress]);
        let (_leases, leases) = watch::channel(held(Some(1)));
        let (worker, shutdown) = site.worker("a.1", leases);
        // A hint before the worker listens is lost, as hints may be: those who watch repeat it.
        let told = async {
            let mut agent = 0;
            loop {
                site.bus.publish(Topic::Watch, Bytes::from_static(b"[4]"));
                agent += 1;
                site.answer(agent).await;
                let hint = tokio::time::timeout(Duration::from_millis(300), live.next()).await;
                if let Ok(Some(Hint::Message(_, content))) = hint {
                    return (agent, content);
                }
            }
        };
        let (agents, content) = told.await;
        let hint: serde_json::Value = serde_json::from_slice(&content).unwrap();
        let agent = hint["agent"].as_u64().unwrap();
        assert_eq!(hint["rows"], serde_json::json!([{ "id": agent }]));
        assert_eq!(hint["end"]["outcome"], "rows", "of one record is one hint");
        assert_eq!(next(&mut progress).await.0, Topic::Progress);
        site.until_rows(agents.into()).await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
        assert!(site.stream.entries(AgentNo(1).shard()).is_empty(), "what is committed is trimmed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_go_from_one_worker_to_another_without_loss_or_repeat() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp);
        let (first, leases) = watch::channel(held(Some(1)));
        let (a, stop_a) = site.worker("a.1", leases);
        let (second, leases) = watch::channel(held(None));
        let (b, stop_b) = site.worker("b.1", leases);
        for agent in 1..40 {
            site.answer(agent).await;
        }
        // The first goes on for a while as if nothing had happened.
        second.send_replace(held(Some(2)));
        for agent in 40..80 {
            site.answer(agent).await;
        }
        site.until_rows(79).await;
        first.send_replace(held(None));
        for agent in 80..100 {
            site.answer(agent).await;
        }
        site.until_rows(99).await;
        stop_a.cancel();
        stop_b.cancel();
        a.await.unwrap().unwrap();
        b.await.unwrap().unwrap();
        assert_eq!(site.rows().await, 99);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gains_shards_loses_and_repeats_nothing_of_those_it_has() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp);
        let (leases, receiver) = watch::channel(some_held(0..16, 1));
        let (worker, shutdown) = site.worker("a.1", receiver);
        for agent in 1..100 {
            site.answer(agent).await;
        }
        let first = (1..100).filter(|agent| AgentNo(*agent).shard().get() < 16).count();
        site.until_rows(first as u64).await;
        // Some of what the first shards have is folded and not committed whenever others come.
        for (round, upto) in (2..=4).enumerate() {
            for agent in 100 + 50 * round..150 + 50 * round {
                site.answer(u32::try_from(agent).unwrap()).await;
            }
            leases.send_replace(some_held(0..upto * 16, 1));
        }
        site.until_rows(249).await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
        assert_eq!(site.rows().await, 249);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_holder_does_not_wait_for_the_next_commit() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp);
        for agent in 1..20 {
            site.answer(agent).await;
        }
        let late = Duration::from_secs(600);
        let options = Options { flush_after: late, flush_urgent_after: late, ..Options::default() };
        let (_leases, leases) = watch::channel(held(Some(1)));
        let (worker, shutdown) = site.worker_with("a.1", leases, options);
        site.until_rows(19).await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_form_is_written_once_all_read_it_and_not_misread_by_who_does_not() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp);
        let (_leases, leases) = watch::channel(held(Some(1)));
        let (worker, shutdown) = site.worker("a.1", leases);
        for agent in [1, 65] {
            site.answer(agent).await;
            site.until_rows(agent.div_ceil(64).into()).await;
        }
        let last = site.deltas().await.last().unwrap().1[0];
        assert!(last <= 2, "version {last} while only the older one is read by all");
        let form = ShardState::FORMAT;
        site.written.send_replace(Written::from([(form.name.to_owned(), form.newest)]));
        site.answer(129).await;
        site.until_rows(3).await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
        let (to_pos, delta) = site.deltas().await.pop().unwrap();
        assert_eq!(delta[0], form.newest);

        // Both are read by the next holder; what is newer than it reads ends it, and moves nothing.
        let (_leases, leases) = watch::channel(held(Some(2)));
        let (worker, shutdown) = site.worker("b.1", leases);
        site.answer(193).await;
        site.until_rows(4).await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
        let position = async || -> i64 {
            let row = site.temp.catalog.fetch_optional(&POSITION, args![1]).await.unwrap();
            row.unwrap().get("pos").unwrap()
        };
        let before = position().await;
        let newer = [&[form.newest + 1], &delta[1..]].concat();
        let spoil = args![1, to_pos, newer];
        assert_eq!(site.temp.catalog.execute(Priority::Intake, &SPOIL, spoil).await.unwrap(), 1);
        site.answer(257).await;
        let (_leases, leases) = watch::channel(held(Some(3)));
        let (worker, _shutdown) = site.worker("c.1", leases);
        let ended = tokio::time::timeout(Duration::from_secs(30), worker).await;
        let error = ended.expect("it ends by itself").unwrap().unwrap_err();
        let named = format!("format {}", form.newest + 1);
        assert!(error.is_newer() && error.to_string().contains(&named), "{error}");
        assert_eq!(position().await, before);
        assert_eq!(site.stream.entries(AgentNo(1).shard()).len(), 1, "its record waits");
    }
}

#[tokio::test]
async fn statements_prepare_and_seek_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let statements = muster_intake::statements();
        let problems = muster_catalog::check::problems(&temp.catalog, &statements).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}
