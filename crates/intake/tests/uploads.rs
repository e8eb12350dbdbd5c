//! A carve from the stream to the file: what osquery sends, the worker, and the finisher.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use muster_archive::{Archive, payload_name};
use muster_bus::local::LocalBus;
use muster_cluster::secrets::Key;
use muster_cluster::{Formats, Held};
use muster_codec_osquery::{OsqueryDecoder, wire};
use muster_intake::worker::{Deps, Due, HuntInfo, HuntSource, Options, SourceError, Worker};
use muster_results::TableSpec;
use muster_stream::Stream;
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{
    Access, AgentKind, AgentNo, AgentSet, Body, Class, Clock, Decode, Epoch, HuntNo, OrgId,
    Payload, Record, SystemClock, Timestamp,
};
use muster_uploads::{Finisher, NewUpload, Session, State, Uploads};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const AGENT: AgentNo = AgentNo(70);
const BLOCK: usize = 600 << 10;

/// Nobody asks anything.
struct Nothing;

#[async_trait]
impl HuntSource for Nothing {
    async fn hunt(&self, _: HuntNo) -> Result<Option<HuntInfo>, SourceError> {
        Ok(None)
    }
    fn recruited(&self, _: HuntNo, _: &AgentSet) -> AgentSet {
        AgentSet::default()
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
        Some((OrgId::DEFAULT, AgentKind::Osquery))
    }
}

struct Site {
    temp: TempCatalog,
    archive: Archive,
    stream: MemoryStream,
    uploads: Uploads,
}

fn held(epoch: u64) -> (watch::Sender<Held>, watch::Receiver<Held>) {
    let epochs = (0..64).map(|n| (n, Epoch(epoch))).collect();
    let valid_until = tokio::time::Instant::now() + Duration::from_secs(600);
    watch::channel(Held { epochs, valid_until })
}

impl Site {
    async fn new(temp: TempCatalog) -> Self {
        let folder = temp.dir.path().canonicalize().unwrap();
        let archive = Archive::open(&format!("file://{}/archive", folder.display())).unwrap();
        let (catalog, options) = (temp.catalog.clone(), muster_uploads::Options::default());
        let key = Key::new(&[7; 32]);
        let uploads = Uploads::open(catalog, archive.clone(), &key, options).await.unwrap();
        Self { temp, archive, stream: MemoryStream::new(), uploads }
    }

    /// Works for a while, as the holder of every shard.
    async fn work(&self, epoch: u64, until: impl AsyncFn() -> bool) {
        let decoder: Arc<dyn Decode> = Arc::new(OsqueryDecoder);
        let deps = Deps {
            catalog: self.temp.catalog.clone(),
            archive: self.archive.clone(),
            stream: Arc::new(self.stream.clone()),
            bus: LocalBus::new(64),
            clock: Arc::new(SystemClock),
            hunts: Arc::new(Nothing),
            decoders: Arc::new(HashMap::from([(AgentKind::Osquery, decoder)])),
            formats: Formats::channel().1,
            writer: format!("test.{epoch}"),
            probe: None,
        };
        let options = Options { flush_after: Duration::from_millis(20), ..Options::default() };
        let shutdown = CancellationToken::new();
        let (_leases, leases) = held(epoch);
        let worker = tokio::spawn(Worker::new(deps, options, leases).run(shutdown.clone()));
        let wait = async {
            while !until().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("done in time");
        shutdown.cancel();
        worker.await.unwrap().unwrap();
    }

    /// What the gateway does with a block: large ones are objects first.
    async fn block(&self, session: Session, index: u32, bytes: &[u8]) {
        let received_at = SystemClock.now();
        let payload = wire::block(session.upload, index, session.block_count, bytes);
        let payload = if payload.len() > 512 << 10 {
            let name = payload_name(received_at, "test");
            let byte_count = payload.len() as u64;
            self.archive.put_new(&name, payload).await.unwrap();
            Payload::Object { name, byte_count }
        } else {
            Payload::Inline(payload)
        };
        let record = Record {
            org: session.org,
            agent: session.agent,
            kind: AgentKind::Osquery,
            class: Class::Collected,
            received_at,
            body: Body::Wire(payload),
        };
        self.stream.append(vec![record]).await.unwrap();
    }

    fn is_folded(&self) -> bool {
        self.stream.entries(AGENT.shard()).is_empty()
    }
}

fn content(index: u32) -> Vec<u8> {
    let size = if index == 3 { 17 } else { BLOCK };
    vec![b'a' + index as u8; size]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carve_survives_repeats_and_a_change_of_workers() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let new = NewUpload {
            kind: "carve",
            external_id: "9f0c".to_owned(),
            block_count: 4,
            block_size: BLOCK as u32,
            byte_count: 3 * BLOCK as u64 + 17,
        };
        let now = SystemClock.now();
        let session = site.uploads.begin(OrgId::DEFAULT, AGENT, &new, now).await.unwrap();
        let session = site.uploads.session(&session).unwrap();

        for index in [0, 1, 1] {
            site.block(session, index, &content(index)).await;
        }
        site.work(1, async || site.is_folded()).await;
        // The answer to block 1 was lost; another instance takes the rest, and its worker.
        for index in [1, 3, 2, 2] {
            site.block(session, index, &content(index)).await;
        }
        site.work(2, async || site.is_folded()).await;

        let access = Access::all(OrgId::DEFAULT);
        let get = async || site.uploads.get(&access, session.upload).await.unwrap().unwrap();
        assert_eq!(get().await.state, State::Received);
        let (_leases, leases) = held(1);
        let finisher = Finisher::new(
            site.temp.catalog.clone(),
            site.archive.clone(),
            Arc::new(SystemClock),
            muster_uploads::Options::default(),
            leases,
        );
        assert_eq!(finisher.round(&mut BTreeMap::new()).await.unwrap(), 1);
        let upload = get().await;
        assert_eq!((upload.state, upload.byte_count), (State::Stored, new.byte_count));
        let pieces: Vec<Bytes> = site
            .uploads
            .content(&upload)
            .unwrap()
            .map(|piece| piece.expect("a piece"))
            .collect()
            .await;
        let wanted: Vec<u8> = (0..4).flat_map(content).collect();
        assert!(pieces.concat() == wanted);
    }
}
