//! A server's side of the link, for tests: real TLS, real WebSocket, scripted by the test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use muster_agent::query::Command;
use muster_agent::{AgentOptions, Backoff, Secret};
use muster_codec_native::{
    Ack, AgentFrame, Batch, Challenge, EnrolRequest, Hello, LinkLimits, ServerFrame, Task,
    TaskLimits, Welcome, enrol_message, hello_message,
};
use muster_types::{AgentNo, Fact, HuntNo, TaskEnd, TaskId, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

pub const SECRET: &str = "open sesame";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A CA and its certificates.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a fake server does with enrolments.
#[derive(Default)]
pub struct Enrolments {
    pub requests: Vec<EnrolRequest>,
    /// Answered with this once, then accepted.
    pub refuse: Option<(u16, String)>,
}

/// A server.
pub struct Server {
    pub port: u16,
    pub ca_pem: String,
    pub enrolments: Arc<Mutex<Enrolments>>,
    links: mpsc::Receiver<Link>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    pub async fn start(ca: &Ca) -> Self {
        Self::start_on(ca, "127.0.0.1:0").await
    }

    pub async fn start_on(ca: &Ca, address: &str) -> Self {
        // A server that was dropped just now may not have let go of its port yet.
        let bind = async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = tokio::time::timeout(PATIENCE, bind).await.expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let (sender, links) = mpsc::channel(16);
        let enrolments = Arc::new(Mutex::new(Enrolments::default()));
        let (acceptor, state) = (ca.acceptor(), Arc::clone(&enrolments));
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let Ok(tls) = acceptor.accept(stream).await else { continue };
                serve(tls, &state, &sender).await;
            }
        });
        Self { port, ca_pem: ca.pem(), enrolments, links, accepting }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The next link, before any word was said.
    pub async fn link(&mut self) -> Link {
        tokio::time::timeout(PATIENCE, self.links.recv()).await.expect("a link").unwrap()
    }

    /// The next link, greeted.
    pub async fn welcomed(&mut self) -> (Link, Hello) {
        let mut link = self.link().await;
        let hello = link.challenge().await;
        link.welcome(hello.agent_no, "").await;
        (link, hello)
    }
}

async fn serve(
    mut tls: TlsStream<TcpStream>,
    state: &Arc<Mutex<Enrolments>>,
    links: &mpsc::Sender<Link>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = tls.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
    };
    if text.starts_with("POST /v1/agent/enrol ") {
        let mut body = vec![0; header("content-length").unwrap().parse().unwrap()];
        tls.read_exact(&mut body).await.unwrap();
        let (status, answer) = enrol(&body, state);
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let _ = tls.write_all(answer.as_bytes()).await;
        let _ = tls.shutdown().await;
        return;
    }
    assert!(text.starts_with("GET /v1/agent/link "), "{text}");
    let accept = derive_accept_key(header("sec-websocket-key").unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    tls.write_all(answer.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    let socket = WebSocketStream::from_raw_socket(tls, Role::Server, None).await;
    let _ = links.send(Link { socket, enrolments: Arc::clone(state) }).await;
}

fn enrol(body: &[u8], state: &Mutex<Enrolments>) -> (u16, String) {
    let request = EnrolRequest::from_json(body).unwrap();
    let message = enrol_message(
        &request.public_key,
        request.credential.text(),
        &request.machine_id,
        request.time.0,
    );
    verify(&request.public_key, &message, &request.proof);
    let mut state = state.lock().unwrap();
    state.requests.push(request);
    if let Some(refusal) = state.refuse.take() {
        return refusal;
    }
    (200, format!("{{\"agent_no\":{}}}", 40 + state.requests.len()))
}

pub fn verify(public_key: &[u8], message: &[u8], proof: &[u8]) {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, proof).expect("a valid proof");
}

/// The server's end of a link.
pub struct Link {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    enrolments: Arc<Mutex<Enrolments>>,
}

impl Link {
    pub async fn say(&mut self, frame: impl Into<ServerFrame>) {
        let bytes = frame.into().encode().unwrap();
        self.socket.send(Message::Binary(bytes)).await.unwrap();
    }

    pub async fn ping(&mut self) {
        self.socket.send(Message::Ping(Bytes::new())).await.unwrap();
    }

    /// Returns when the agent has read everything said so far.
    pub async fn settled(&mut self) {
        self.ping().await;
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a pong");
            if let Message::Pong(_) = next.expect("a link").unwrap() {
                return;
            }
        }
    }

    /// The next frame; `None` when the agent has gone.
    pub async fn hear(&mut self) -> Option<AgentFrame> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame");
            match next {
                Some(Ok(Message::Binary(bytes))) => {
                    return Some(AgentFrame::decode(bytes).unwrap().unwrap());
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn challenge(&mut self) -> Hello {
        let nonce = rand::random();
        self.say(Challenge { nonce }).await;
        let Some(AgentFrame::Hello(hello)) = self.hear().await else { panic!("no hello") };
        let message = hello_message(&nonce, hello.agent_no.0, &hello.process_nonce);
        // Agents are numbered in the order they enrolled, from 41.
        let enrolments = self.enrolments.lock().unwrap();
        let request = enrolments.requests.get(hello.agent_no.0 as usize - 41);
        if let Some(request) = request {
            verify(&request.public_key, &message, &hello.proof);
        }
        *hello
    }

    pub async fn welcome(&mut self, agent_no: AgentNo, server_cas: &str) {
        let limits =
            LinkLimits { frame_bytes: 8 << 20, batches_in_flight: 4, ping_interval_ms: 20_000 };
        self.say(Welcome {
            server_version: "test".into(),
            agent_no,
            limits,
            server_cas: server_cas.into(),
            time: Timestamp(0),
        })
        .await;
    }

    pub async fn batch(&mut self) -> Batch {
        match self.hear().await {
            Some(AgentFrame::Batch(batch)) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }

    pub async fn ack(&mut self, batch: &Batch) {
        self.say(Ack { stream: batch.stream, seq: batch.seq }).await;
    }

    pub async fn task(&mut self, hunt: u64, query: &str) {
        self.say(task(hunt, query)).await;
    }

    /// Takes and acknowledges batches until this task has ended; its rows and its end.
    pub async fn answer(&mut self, hunt: u64) -> (Vec<serde_json::Value>, TaskEnd) {
        let mut all = Vec::new();
        loop {
            let batch = self.batch().await;
            let (rows, end) = contents(&batch, hunt);
            self.ack(&batch).await;
            all.extend(rows);
            if let Some(end) = end {
                return (all, end);
            }
        }
    }
}

/// What a batch says about one task.
pub fn contents(batch: &Batch, hunt: u64) -> (Vec<serde_json::Value>, Option<TaskEnd>) {
    let (mut rows, mut end) = (Vec::new(), None);
    for item in &batch.items {
        match item {
            Fact::Rows(found) if found.task == Some(id(hunt)) => {
                rows.extend(serde_json::from_slice::<Vec<_>>(&found.json).unwrap());
            }
            Fact::End(found) if found.task == id(hunt) => end = Some(found.clone()),
            _ => {}
        }
    }
    (rows, end)
}

pub fn id(hunt: u64) -> TaskId {
    TaskId { hunt: HuntNo(hunt), attempt: 1 }
}

pub fn task(hunt: u64, query: &str) -> Task {
    Task { task: id(hunt), query: query.into(), params: [].into(), limits: TaskLimits::default() }
}

/// The example program, which cargo builds together with the tests.
pub fn child() -> Command {
    let mut program: PathBuf = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/agent-query");
    assert!(program.exists(), "{} is missing: run `cargo test -p muster-agent`", program.display());
    Command { program, args: Vec::new() }
}

/// Options for an impatient agent.
pub fn options(server: &Server, data: &Path) -> AgentOptions {
    let servers = vec![server.url().parse().unwrap()];
    let mut options = AgentOptions::new(servers, server.ca_pem.clone(), data.to_owned());
    options.secret = Some(Secret::Text(SECRET.into()));
    options.query = child();
    options.machine_id = Some("machine-1".into());
    options.backoff =
        Backoff { first: Duration::from_millis(50), last: Duration::from_millis(500) };
    options
}
