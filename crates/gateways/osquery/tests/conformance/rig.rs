//! The gateway over real TLS, a real SQLite catalog and a real directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_archive::Archive;
use muster_artifact::{Bound, RowClass, Source};
use muster_bus::local::LocalBus;
use muster_bus::{Bus, CountedBus};
use muster_catalog::Priority;
use muster_codec_osquery::OsqueryDecoder;
use muster_endpoints::node_key::{KeyRing, NodeKeys};
use muster_endpoints::{Agent, Directory, EnrolQueue, NewSecret, Presence, create_secret};
use muster_gateway::http::Server;
use muster_gateway::listener::{ListenerOptions, Protocol, serve};
use muster_gateway::{
    Admissions, Budget, Delivery, EnrolmentRates, Enrolments, Gateway, Ingest, Metrics, Sessions,
};
use muster_gateway_osquery::{
    Configs, Details, DueQuestions, Options, Osquery, OsqueryGateway, OsqueryService, Parts,
    Question,
};
use muster_hunts::{Definition, HuntKind, Hunts, Limits, NewHunt};
use muster_schedules::Rendered;
use muster_stream::Stream;
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{
    AgentKind, AgentNo, AgentSet, Body, Clock, Decode, Fact, Facts, HuntNo, InstanceId, OrgId,
    Payload, Record, ScopeSpec, Shard, TaskFact, TestClock, Timestamp,
};
use muster_uploads::Uploads;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Far, Means, Reply, enrolment};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

/// A running gateway.
pub struct Rig {
    pub far: Far,
    pub certificate: CertificateDer<'static>,
    pub secret: String,
    pub clock: Arc<TestClock>,
    pub metrics: Arc<Metrics>,
    pub stream: Arc<MemoryStream>,
    pub store: TempCatalog,
    pub bus: Arc<CountedBus>,
    pub directory: Directory,
    pub presence: Presence,
    pub hunts: Hunts,
    /// What another instance would hand over.
    pub beside: Arc<Delivery>,
    pub keys: NodeKeys,
    pub budget: Budget,
    pub given: Arc<Given>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _archive: tempfile::TempDir,
}

/// How the gateway is built.
pub struct Setup {
    pub options: Options,
    pub fresh_within: Duration,
    pub rates: EnrolmentRates,
    pub client_certificates: bool,
    /// Of the stream.
    pub quota_bytes: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: Options::default(),
            fresh_within: Duration::from_secs(3600),
            rates: EnrolmentRates::default(),
            client_certificates: false,
            quota_bytes: u64::MAX,
        }
    }
}

/// Stands in for schedules and inventory.
#[derive(Default)]
pub struct Given {
    pub schedule: Mutex<String>,
    pub questions: Mutex<Vec<Question>>,
    pub handed: Arc<AtomicUsize>,
}

impl Configs for Given {
    fn config_for(&self, agent: &Agent) -> Arc<Rendered> {
        let schedule = self.schedule.lock().clone();
        let bytes = format!("{{\"schedule\":{{{schedule}}},\"for\":\"{}\"}}", agent.hostname);
        let etag = format!("e{}", schedule.len());
        let with_etag = format!("{{\"etag\":\"{etag}\",{}", &bytes[1..]);
        Arc::new(Rendered { bytes: bytes.into(), with_etag: with_etag.into(), etag: etag.into() })
    }

    fn yara_rules(&self, _: OrgId, name: &str) -> Option<Bytes> {
        (name == "good.yar").then(|| Bytes::from_static(b"rule good { condition: true }"))
    }
}

impl Details for Given {
    fn due(&self, _: &Agent, _: Timestamp) -> Option<DueQuestions> {
        let questions = self.questions.lock().clone();
        let handed = Arc::clone(&self.handed);
        (!questions.is_empty()).then(|| DueQuestions {
            questions,
            handed: Box::new(move || {
                handed.fetch_add(1, Ordering::SeqCst);
            }),
        })
    }
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = Arc::new(TestClock::new(NOW));
        let time: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let store = TempCatalog::sqlite().await.unwrap();
        let catalog = store.catalog.clone();
        let counted_bus = CountedBus::new(LocalBus::new(1024));
        let bus: Arc<dyn Bus> = Arc::<CountedBus>::clone(&counted_bus);
        let stream = Arc::new(MemoryStream::with_quota(setup.quota_bytes));
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&format!("file://{}", folder.path().display())).unwrap();
        let seal = muster_cluster::secrets::Key::new(&[5; 32]);
        let bounds = muster_uploads::Options::default();
        let uploads = Uploads::open(catalog.clone(), archive.clone(), &seal, bounds).await.unwrap();
        let directory = Directory::open(catalog.clone(), Arc::clone(&bus)).await.unwrap();
        let presence = Presence::new(InstanceId(uuid::Uuid::now_v7()), Arc::clone(&time));
        let hunts = Hunts::open(
            catalog.clone(),
            Arc::clone(&bus),
            directory.clone(),
            presence.clone(),
            Arc::clone(&time),
        );
        let hunts = hunts.await.unwrap();
        let new = NewSecret { name: "berlin".into(), ..NewSecret::default() };
        let (_, secret) = create_secret(&catalog, OrgId::DEFAULT, &new, "test", NOW).await.unwrap();
        let metrics = Arc::new(Metrics::default());
        let shared: Arc<dyn Stream> = Arc::<MemoryStream>::clone(&stream);
        let bounds = muster_gateway::Options::default();
        let admissions =
            Arc::new(Admissions::new(bounds, &*shared, Arc::clone(&time), Arc::clone(&metrics)));
        let ingest = Ingest::new(shared, archive, "test", Arc::clone(&time), Arc::clone(&metrics));
        let gateway: Arc<dyn Gateway> = Arc::new(OsqueryGateway::new(directory.clone()));
        let delivery = Delivery::new(
            hunts.clone(),
            Sessions::new(Arc::clone(&metrics)),
            ingest.clone(),
            vec![Arc::clone(&gateway)],
            Arc::clone(&time),
            Arc::clone(&metrics),
        );
        let beside = Delivery::new(
            hunts.clone(),
            Sessions::new(Arc::clone(&metrics)),
            ingest.clone(),
            vec![gateway],
            Arc::clone(&time),
            Arc::clone(&metrics),
        );
        let keys = NodeKeys::new(KeyRing::fixed([7; 32]), directory.clone())
            .with_fresh_within(setup.fresh_within);
        let given = Arc::new(Given::default());
        let listening = ListenerOptions::default();
        let osquery = Osquery::new(Parts {
            options: setup.options,
            catalog: catalog.clone(),
            directory: directory.clone(),
            presence: presence.clone(),
            keys: keys.clone(),
            hunts: hunts.clone(),
            delivery: Arc::clone(&delivery),
            ingest,
            admissions: Arc::clone(&admissions),
            configs: Arc::<Given>::clone(&given),
            details: Arc::<Given>::clone(&given),
            uploads,
            enrolments: Arc::new(Enrolments::new(setup.rates, listening.front.proxies.clone())),
            enrolling: EnrolQueue::new(catalog.clone()),
            clock: time,
            metrics: Arc::clone(&metrics),
        });
        let budget = admissions.budget();
        let server = Server::new(OsqueryService(osquery), budget.clone(), listening.clone());
        let fallback = server.router();
        let (tls, connector, certificate) = tls(setup.client_certificates);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let protocols: Vec<Arc<dyn Protocol>> = vec![server];
        let tls = Arc::new(ArcSwap::new(tls));
        let counted = Arc::clone(&metrics);
        tasks.spawn(serve(
            listener,
            tls,
            listening,
            protocols,
            fallback,
            counted,
            shutdown.clone(),
        ));
        for delivery in [delivery, Arc::clone(&beside)] {
            tasks.spawn(delivery.run(Arc::clone(&bus), shutdown.clone()));
        }
        Self {
            far: Far { address, connector },
            certificate,
            secret,
            clock,
            metrics,
            stream,
            store,
            bus: counted_bus,
            directory,
            presence,
            hunts,
            beside,
            keys,
            budget,
            given,
            shutdown,
            tasks,
            _archive: folder,
        }
    }

    /// Ends everything and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// A machine enrols; its key.
    pub async fn enrol(&self, identifier: &str, instance: &str) -> String {
        let reply = self.try_enrol(identifier, instance).await;
        let reply = reply.json();
        reply["node_key"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    pub async fn try_enrol(&self, identifier: &str, instance: &str) -> Reply {
        let body = enrolment(&self.secret, identifier, instance);
        self.far.post_json("/api/v1/osquery/enroll", &body).await
    }

    /// What an agent is told when it asks for queries.
    pub async fn read(&self, key: &str) -> Reply {
        let body = json!({"node_key": key});
        self.far.post_json("/api/v1/osquery/distributed/read", &body).await
    }

    /// What it is told to run.
    pub async fn queries(&self, key: &str) -> BTreeMap<String, String> {
        let reply = self.read(key).await;
        assert_eq!(reply.means(), Means::Success, "{reply:?}");
        serde_json::from_value(reply.json()["queries"].clone()).unwrap()
    }

    /// Everything that agents said and that was made durable, decoded.
    pub fn said(&self) -> Vec<(AgentNo, Facts)> {
        let wire = |record: &Record| match &record.body {
            Body::Wire(Payload::Inline(bytes)) => Some((
                record.agent,
                OsqueryDecoder.decode(record, bytes.clone()).expect("ours is readable"),
            )),
            _ => None,
        };
        self.records().iter().filter_map(wire).collect()
    }

    /// The facts of all of it.
    pub fn facts(&self) -> Vec<Fact> {
        self.said().into_iter().flat_map(|(_, facts)| facts.items).collect()
    }

    /// The stream, by shard.
    pub fn records(&self) -> Vec<Record> {
        Shard::all().flat_map(|s| self.stream.entries(s)).map(|entry| entry.record).collect()
    }

    /// What was noted about tasks, once there are so many.
    pub async fn task_facts(&self, at_least: usize) -> Vec<TaskFact> {
        let facts = || -> Vec<TaskFact> {
            let records = self.records().into_iter();
            let facts = records.filter_map(|record| match record.body {
                Body::Fact(fact) => Some(fact),
                Body::Wire(_) => None,
            });
            facts.collect()
        };
        until("facts about tasks", || facts().len() >= at_least).await;
        facts()
    }

    /// A question, and its first wave as the dispatcher commits it.
    pub async fn ask(&self, kind: HuntKind, sql: &str, agents: &[AgentNo]) -> HuntNo {
        self.ask_with(kind, sql, Bound::new(), agents).await
    }

    pub async fn ask_with(
        &self,
        kind: HuntKind,
        sql: &str,
        parameters: Bound,
        agents: &[AgentNo],
    ) -> HuntNo {
        let sources = [(AgentKind::Osquery, Source { query: sql.into() })].into();
        let class = RowClass::Collected;
        let new = NewHunt {
            org: OrgId::DEFAULT,
            kind,
            title: "a question".into(),
            artifact: String::new(),
            definition: Definition { sources, parameters, columns: Vec::new(), class },
            scope: ScopeSpec::all(),
            caller_scope: vec![ScopeSpec::all()],
            limits: Limits::default(),
            requested_by: "ana".into(),
            reason: String::new(),
            incident: None,
            expires_in: Duration::from_secs(600),
            needs_approval: false,
        };
        let first: AgentSet = agents.iter().copied().collect();
        let mut tx = self.store.catalog.begin(Priority::Api).await.unwrap();
        let hunt = muster_hunts::create(&mut tx, &new, &first).await.unwrap().no;
        tx.commit().await.unwrap();
        self.hunts.announce().await.unwrap();
        hunt
    }
}

/// Waits until it holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// A server's TLS, and a client that trusts it alone, with a certificate of its own if asked.
fn tls(
    client_certificates: bool,
) -> (Arc<rustls::ServerConfig>, tokio_rustls::TlsConnector, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let roots = Arc::new(roots);
    let server = rustls::ServerConfig::builder();
    let server = match client_certificates {
        false => server.with_no_client_auth(),
        true => {
            let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::clone(&roots));
            server.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        }
    };
    let server = server.with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut client = match client_certificates {
        false => client.with_no_client_auth(),
        true => client.with_client_auth_cert(vec![certificate.clone()], key).unwrap(),
    };
    // osqueryd never resumes a session.
    client.resumption = rustls::client::Resumption::disabled();
    (Arc::new(server), tokio_rustls::TlsConnector::from(Arc::new(client)), certificate)
}

impl Rig {
    /// The same server as another client sees it: one without a certificate, with these versions of TLS.
    pub fn seen_by(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Far {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_protocol_versions(versions);
        let client = client.with_root_certificates(roots).with_no_client_auth();
        Far { address: self.far.address, connector: Arc::new(client).into() }
    }
}
