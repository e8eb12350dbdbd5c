//! A gateway over real TLS, a real SQLite catalog and a real directory, and a small raw agent.

#![expect(dead_code, reason = "each test file uses a part of it")]

pub mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_archive::Archive;
use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_endpoints::{Directory, EnrolQueue, NewSecret, Presence, create_secret};
use muster_gateway::listener::{Front, ListenerOptions, Proxies};
use muster_gateway::{
    Admissions, Delivery, EnrolmentRates, Enrolments, Gateway, Ingest, Metrics,
    Options as AdmissionOptions, Sessions,
};
use muster_gateway_native::{NativeGateway, NativeState, Options, Parts, ServerCas};
use muster_hunts::Hunts;
use muster_stream::Stream;
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{Body, Clock, InstanceId, OrgId, Record, Shard, SystemClock};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest any condition is waited for.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A running gateway.
pub struct Rig {
    pub address: SocketAddr,
    pub secret: String,
    pub metrics: Arc<Metrics>,
    pub admissions: Arc<Admissions>,
    pub sessions: Arc<Sessions>,
    pub stream: Arc<MemoryStream>,
    pub store: Arc<TempCatalog>,
    pub directory: Directory,
    pub presence: Presence,
    pub hunts: Hunts,
    pub bus: Arc<dyn Bus>,
    pub far: client::Far,
    pub certificate_hex: String,
    pub cas: Arc<ArcSwap<ServerCas>>,
    pub shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _archive: tempfile::TempDir,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::limited(options, EnrolmentRates::default()).await
    }

    /// Loopback is a trusted proxy here: `X-Forwarded-For` says who an agent is.
    pub async fn limited(options: Options, rates: EnrolmentRates) -> Self {
        let store = Arc::new(TempCatalog::sqlite().await.unwrap());
        Self::on(options, rates, store, LocalBus::new(1024)).await
    }

    /// Another instance of the same installation, with a stream of its own.
    pub async fn beside(&self, options: Options) -> Self {
        let (store, bus) = (Arc::clone(&self.store), Arc::clone(&self.bus));
        Self::on(options, EnrolmentRates::default(), store, bus).await
    }

    async fn on(
        options: Options,
        rates: EnrolmentRates,
        store: Arc<TempCatalog>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let catalog = store.catalog.clone();
        let stream = Arc::new(MemoryStream::new());
        let archive_folder = tempfile::tempdir().unwrap();
        let archive =
            Archive::open(&format!("file://{}", archive_folder.path().display())).unwrap();
        let directory = Directory::open(catalog.clone(), Arc::clone(&bus)).await.unwrap();
        let presence = Presence::new(InstanceId(uuid::Uuid::now_v7()), Arc::clone(&clock));
        let hunts = Hunts::open(
            catalog.clone(),
            Arc::clone(&bus),
            directory.clone(),
            presence.clone(),
            Arc::clone(&clock),
        )
        .await
        .unwrap();
        let new = NewSecret::default();
        let made = create_secret(&catalog, OrgId::DEFAULT, &new, "test", clock.now());
        let (_, secret) = made.await.unwrap();

        let metrics = Arc::new(Metrics::default());
        let sessions = Sessions::new(Arc::clone(&metrics));
        let shared: Arc<dyn Stream> = Arc::<MemoryStream>::clone(&stream);
        let admissions = Arc::new(Admissions::new(
            AdmissionOptions::default(),
            &*shared,
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let ingest = Ingest::new(shared, archive, "test", Arc::clone(&clock), Arc::clone(&metrics));
        let native: Arc<dyn Gateway> = Arc::new(NativeGateway);
        let delivery = Delivery::new(
            hunts.clone(),
            Arc::clone(&sessions),
            ingest.clone(),
            vec![native],
            Arc::clone(&clock),
            Arc::clone(&metrics),
        );
        let proxies = Proxies::new(["127.0.0.0/8".parse().unwrap()]);
        let listener_options = ListenerOptions {
            handshake_timeout: options.handshake_timeout,
            front: Front { proxies: proxies.clone(), ..Front::default() },
            ..ListenerOptions::default()
        };
        let told = ServerCas { pem: "the CAs".to_owned(), signing: 1, trusted: vec![1] };
        let cas = Arc::new(ArcSwap::from_pointee(told));
        let state = NativeState::new(Parts {
            options,
            version: "0.1.0".into(),
            catalog: catalog.clone(),
            directory: directory.clone(),
            presence: presence.clone(),
            ingest,
            admissions: Arc::clone(&admissions),
            enrolments: Arc::new(Enrolments::new(rates, proxies.clone())),
            enrolling: EnrolQueue::new(catalog.clone()),
            proxies,
            sessions: Arc::clone(&sessions),
            delivery: Arc::clone(&delivery),
            clock,
            metrics: Arc::clone(&metrics),
            server_cas: Arc::clone(&cas),
            ticket_key: [7; 32],
        });

        let (server, certificate) = tls();
        let connector = trusting(certificate.clone());
        let certificate_hex = to_hex(&certificate);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let fallback = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
        let tls = Arc::new(ArcSwap::new(server));
        let copies = Arc::clone(&state);
        tasks.spawn(muster_gateway::listener::serve(
            listener,
            tls,
            listener_options,
            vec![muster_gateway_native::protocol(Arc::clone(&state))],
            muster_gateway_native::router(state).merge(fallback),
            Arc::clone(&metrics),
            shutdown.clone(),
        ));
        tasks.spawn(delivery.run(Arc::clone(&bus), shutdown.clone()));
        tasks.spawn(muster_gateway_native::follow_copies(copies, bus.clone(), shutdown.clone()));
        let (online, stop) = (presence.clone(), shutdown.clone());
        let (store_of, bus_of) = (catalog, bus.clone());
        tasks.spawn(async move { online.run(store_of, bus_of, stop).await });
        let (hunting, stop) = (hunts.clone(), shutdown.clone());
        tasks.spawn(async move { hunting.run(stop).await });
        Self {
            address,
            far: client::Far { address, connector },
            certificate_hex,
            cas,
            secret,
            metrics,
            admissions,
            sessions,
            stream,
            store,
            directory,
            presence,
            hunts,
            bus,
            shutdown,
            tasks,
            _archive: archive_folder,
        }
    }

    /// Ends everything and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Everything in the stream of this shard.
    pub async fn records(&self, shard: Shard, at_least: usize) -> Vec<Record> {
        let mut reader = self.stream.reader(vec![(shard, muster_types::Pos(0))]).await.unwrap();
        let mut records = Vec::new();
        let read = async {
            while records.len() < at_least {
                let entries = reader.next(1 << 20).await.unwrap();
                records.extend(entries.into_iter().map(|entry| entry.record));
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("records come");
        records
    }
}

/// Whether a record holds an agent's own message.
pub fn wire(record: &Record) -> Option<Bytes> {
    match &record.body {
        Body::Wire(muster_types::Payload::Inline(bytes)) => Some(bytes.clone()),
        _ => None,
    }
}

/// Waits until it holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

fn tls() -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (Arc::new(server), certificate)
}

/// A client that trusts this certificate alone.
pub fn trusting(certificate: CertificateDer<'static>) -> tokio_rustls::TlsConnector {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(client))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
