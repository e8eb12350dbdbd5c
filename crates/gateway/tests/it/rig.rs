//! A listener with one service, and raw clients of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_gateway::http::{
    Answer, Called, Head, Over, Plan, Read, Request, Room, Server, Service, Source,
};
use muster_gateway::listener::{Front, ListenerOptions, Proxies, serve};
use muster_gateway::{Budget, Metrics};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub const DEADLINE: Duration = Duration::from_secs(10);
pub const BODY_MAX: usize = 10_000;
pub const BUDGET: u32 = 100_000;

/// Says of each request what it saw of it.
pub struct Stub {
    /// Lets answers of `/agent/later` go.
    pub gate: Arc<Semaphore>,
    /// Answers that were written, and that were not.
    pub told: Arc<[AtomicU32; 2]>,
    /// Requests that came so far.
    pub calls: Arc<AtomicU32>,
}

impl Service for Stub {
    fn claims(&self, _: &str, path: &str) -> bool {
        path.starts_with("/agent/")
    }

    fn plan(&self, head: &Head<'_>, _: &Source) -> Plan {
        let refusal = || Answer::new(413, Bytes::from_static(b"{\"error\":\"too large\"}"));
        match head.path {
            "/agent/refused" => Plan::Answer(refusal()),
            "/agent/small" => {
                Plan::Read(Read { max: 100, over: Over::Answer(refusal()), room: Room::Uncounted })
            }
            path => Plan::Read(Read {
                max: BODY_MAX,
                over: Over::Discard,
                room: match path {
                    "/agent/budget" => Room::Budget,
                    "/agent/stranger" if head.content_length >= 5 => Room::Strangers,
                    _ => Room::Uncounted,
                },
            }),
        }
    }

    fn call(&self, request: Request<'_>) -> Called {
        let Request { head, source, body, is_truncated, tail, permit } = request;
        self.calls.fetch_add(1, Ordering::SeqCst);
        let text = format!(
            "{{\"path\":\"{}\",\"from\":\"{}\",\"len\":{},\"first\":\"{}\",\"cut\":{is_truncated},\"tail\":\"{}\",\"permit\":{}}}",
            head.path,
            source.address,
            body.len(),
            String::from_utf8_lossy(&body[..body.len().min(10)]),
            String::from_utf8_lossy(&tail[tail.len().saturating_sub(10)..]),
            permit.is_some(),
        );
        let told = Arc::clone(&self.told);
        let answer = Answer::ok(text.into()).and_then(move |written| {
            told[usize::from(!written)].fetch_add(1, Ordering::SeqCst);
        });
        match head.path {
            "/agent/later" => {
                let gate = Arc::clone(&self.gate);
                Called::Later(Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    answer
                }))
            }
            "/agent/large" => Called::Ready(Answer { body: vec![b'x'; 3 << 20].into(), ..answer }),
            _ => Called::Ready(answer),
        }
    }
}

/// A running listener.
pub struct Rig {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub budget: Budget,
    pub gate: Arc<Semaphore>,
    pub told: Arc<[AtomicU32; 2]>,
    pub calls: Arc<AtomicU32>,
    pub shutdown: CancellationToken,
    connector: TlsConnector,
    serving: JoinHandle<()>,
}

/// Short times, and loopback as a trusted proxy.
pub fn options() -> ListenerOptions {
    ListenerOptions {
        front: Front {
            proxies: Proxies::new(["127.0.0.0/8".parse().unwrap()]),
            ..Front::default()
        },
        ..ListenerOptions::default()
    }
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(options(), IpAddr::from([127, 0, 0, 1])).await
    }

    pub async fn with(options: ListenerOptions, bind: IpAddr) -> Self {
        let (gate, told) = (Arc::new(Semaphore::new(0)), Arc::<[AtomicU32; 2]>::default());
        let calls = Arc::<AtomicU32>::default();
        let stub =
            Stub { gate: Arc::clone(&gate), told: Arc::clone(&told), calls: Arc::clone(&calls) };
        let budget = Budget::new(BUDGET);
        let server = Server::new(stub, budget.clone(), options.clone());
        let router = axum::Router::new()
            .route("/healthz", axum::routing::get(|| async { "ok" }))
            .merge(server.router());
        let (tls, connector) = tls();
        let listener = TcpListener::bind((bind, 0)).await.unwrap();
        let (address, metrics) = (listener.local_addr().unwrap(), Arc::new(Metrics::default()));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(
            listener,
            Arc::new(ArcSwap::new(tls)),
            options,
            vec![server],
            router,
            Arc::clone(&metrics),
            shutdown.clone(),
        ));
        Self { address, metrics, budget, gate, told, calls, shutdown, connector, serving }
    }

    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a connection")
    }

    pub async fn try_connect(&self) -> std::io::Result<Client> {
        self.encrypt(TcpStream::connect(self.address).await?).await
    }

    /// A connection from one of the machine's own addresses, without a word said.
    pub async fn raw(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let tcp = socket.connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// The TLS handshake.
    pub async fn encrypt(&self, tcp: TcpStream) -> std::io::Result<Client> {
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Client::over(self.connector.connect(name, tcp).await?))
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.serving).await.expect("it drains").unwrap();
    }
}

fn tls() -> (Arc<rustls::ServerConfig>, TlsConnector) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), TlsConnector::from(Arc::new(client)))
}

/// A connection that knows nothing but bytes.
pub struct Client {
    io: Box<dyn Io>,
    read: Vec<u8>,
}

/// Encrypted or not.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An answer as it came.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

impl Client {
    pub fn over(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), read: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub async fn ask(&mut self, text: &str) -> Got {
        self.send(text).await;
        self.answer().await.expect("an answer")
    }

    /// The next answer; `None` when the connection ends.
    pub async fn answer(&mut self) -> Option<Got> {
        tokio::time::timeout(DEADLINE, self.next()).await.expect("in time")
    }

    async fn next(&mut self) -> Option<Got> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            self.more().await?;
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(Got { status, head, body })
    }

    async fn more(&mut self) -> Option<()> {
        // An end without a TLS good-bye is an end.
        let n = self.io.read_buf(&mut self.read).await.unwrap_or(0);
        (n > 0).then_some(())
    }
}

/// Waits until it holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}
