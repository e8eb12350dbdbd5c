//! A raw agent: an independent WebSocket implementation over real TLS.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use muster_codec_native::{
    Ack, AgentFrame, Batch, CAP_CAS, Challenge, Credential, EnrolAnswer, EnrolRefusal,
    EnrolRequest, Hello, HostFacts, LINK_PATH, ServerFrame, enrol_message, hello_message,
};
use muster_types::{AgentNo, Clock as _, Fact, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{DEADLINE, Rig};

/// A key pair of an agent.
pub struct Key(pub Ed25519KeyPair);

impl Key {
    pub fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    pub fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap()
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().unwrap()
    }
}

/// An enrolled agent.
pub struct Agent {
    pub key: Key,
    pub no: AgentNo,
    pub process: [u8; 16],
}

pub fn host() -> HostFacts {
    HostFacts {
        hostname: "web-1".into(),
        platform: "linux".into(),
        version: "0.1.0".into(),
        capabilities: vec![CAP_CAS.into()],
        ..HostFacts::default()
    }
}

/// How to reach the server.
pub struct Far {
    pub address: std::net::SocketAddr,
    pub connector: tokio_rustls::TlsConnector,
}

impl Far {
    pub async fn tls(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, tcp).await.unwrap()
    }

    /// A link up to the challenge.
    pub async fn open(&self) -> (Link, Challenge) {
        let url = format!("wss://localhost{LINK_PATH}");
        let (socket, _) = tokio_tungstenite::client_async(url, self.tls().await).await.unwrap();
        let mut link = Link { socket };
        let Some(ServerFrame::Challenge(challenge)) = link.next().await else {
            panic!("the first frame is a challenge")
        };
        (link, challenge)
    }

    /// A link of this agent up to the answer to its hello.
    pub async fn hello(&self, agent: &Agent) -> (Link, Option<ServerFrame>) {
        let (mut link, challenge) = self.open().await;
        link.send(&AgentFrame::Hello(Box::new(agent.hello(&challenge)))).await;
        let answer = link.next().await;
        (link, answer)
    }

    /// A link that is up, by the server's word.
    pub async fn welcomed(&self, agent: &Agent) -> Link {
        let (link, answer) = self.hello(agent).await;
        let Some(ServerFrame::Welcome(welcome)) = answer else { panic!("{answer:?}") };
        assert_eq!(welcome.agent_no, agent.no);
        link
    }
}

impl Rig {
    pub async fn tls(&self) -> TlsStream<TcpStream> {
        self.far.tls().await
    }

    pub async fn open(&self) -> (Link, Challenge) {
        self.far.open().await
    }

    pub async fn hello(&self, agent: &Agent) -> (Link, Option<ServerFrame>) {
        self.far.hello(agent).await
    }

    /// One HTTP request on a connection of its own; status and body.
    pub async fn http(&self, request: String) -> (u16, String) {
        let mut io = self.tls().await;
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes without a TLS good-bye is of no interest here.
        let _ = tokio::time::timeout(DEADLINE, io.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    pub async fn post_enrol(&self, body: &str) -> (u16, String) {
        self.http(format!(
            "POST /v1/agent/enrol HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    pub fn request(&self, key: &Key, credential: Credential) -> EnrolRequest {
        let (machine_id, time) = ("machine-1".to_owned(), SystemClock.now());
        let message = enrol_message(&key.public(), credential.text(), &machine_id, time.0);
        EnrolRequest {
            credential,
            public_key: key.public(),
            proof: key.sign(&message),
            machine_id,
            time,
            host: host(),
        }
    }

    pub async fn try_enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, EnrolRefusal> {
        let (status, body) = self.post_enrol(&serde_json::to_string(request).unwrap()).await;
        if status == 200 {
            Ok(serde_json::from_str(&body).unwrap())
        } else {
            Err(serde_json::from_str(&body).unwrap())
        }
    }

    /// A new agent.
    pub async fn enrol(&self) -> Agent {
        let key = Key::new();
        let request = self.request(&key, Credential::Secret(self.secret.clone()));
        let answer = self.try_enrol(&request).await.unwrap();
        Agent { key, no: answer.agent_no, process: rand::random() }
    }

    /// A link that is up and registered.
    pub async fn connect(&self, agent: &Agent) -> Link {
        let link = self.far.welcomed(agent).await;
        super::until("the session is registered", || self.sessions.get(agent.no).is_some()).await;
        link
    }
}

impl Agent {
    /// As an agent of an earlier version, which can less.
    pub fn old_hello(&self, challenge: &Challenge) -> Hello {
        let host = HostFacts { capabilities: Vec::new(), ..host() };
        Hello { host, ..self.hello(challenge) }
    }

    pub fn hello(&self, challenge: &Challenge) -> Hello {
        let message = hello_message(&challenge.nonce, self.no.0, &self.process);
        Hello {
            agent_no: self.no,
            proof: self.key.sign(&message),
            process_nonce: self.process,
            boot_id: "boot".into(),
            machine_id: "machine-1".into(),
            host: host(),
            first_unacked: None,
        }
    }
}

/// An open WebSocket.
pub struct Link {
    pub socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Link {
    pub async fn send(&mut self, frame: &AgentFrame) {
        self.send_bytes(frame.encode().unwrap()).await;
    }

    pub async fn send_bytes(&mut self, bytes: Bytes) {
        self.socket.send(Message::Binary(bytes)).await.unwrap();
    }

    pub async fn batch(&mut self, seq: u64, items: Vec<Fact>) {
        self.send(&AgentFrame::Batch(Batch { stream: 1, seq, items })).await;
    }

    /// The next frame; `None` when the link is over. Answers pings, as every agent does.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        tokio::time::timeout(DEADLINE, self.next_frame()).await.expect("a frame comes")
    }

    /// Whether nothing comes for a while, as far as that can be told.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.next_frame()).await.is_err()
    }

    async fn next_frame(&mut self) -> Option<ServerFrame> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Binary(bytes)) => return ServerFrame::decode(bytes).unwrap(),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for acknowledgements up to this batch.
    pub async fn acked(&mut self, seq: u64) {
        loop {
            match self.next().await {
                Some(ServerFrame::Ack(Ack { stream: 1, seq: acked })) if acked >= seq => return,
                Some(ServerFrame::Ack(_)) => {}
                other => panic!("expected an ack of {seq}, got {other:?}"),
            }
        }
    }
}

/// Reads, which is what answers pings, until the link is asked for.
pub fn reading(
    mut link: Link,
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<Link>) {
    let (enough, mut asked) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        while asked.try_recv().is_err() {
            assert!(link.is_quiet().await, "the original is left alone");
        }
        link
    });
    (enough, task)
}
