//! Muster with many osquery agents and hunts that have nothing for them.

use std::rc::Rc;

use anyhow::{Context, ensure};
use muster_testkit::{Server, ServerOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::Api;
use crate::load;

/// Connections that enrol at a time.
const ENROLLING: u32 = 32;

/// A server with its fleet.
pub struct Fleet {
    /// The server.
    pub server: Server,
    /// The poll of each agent.
    pub requests: Rc<[Box<[u8]>]>,
    /// Trusts it.
    pub tls: TlsConnector,
}

/// Starts a server, enrols agents through its door, and starts hunts that are for others.
pub fn start(agents: u32, hunts: u32) -> anyhow::Result<Fleet> {
    let env = [("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "1000000"), ("MUSTER_LOG__LEVEL", "error")];
    let server = Server::up(ServerOptions {
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        args: vec!["--no-agent".to_owned()],
    })?;
    let mut roots = rustls::RootCertStore::empty();
    let ca = server.data_dir().join("ca.pem");
    roots.add(rustls::pki_types::pem::PemObject::from_pem_file(ca)?)?;
    let tls = load::connector(roots)?;
    let secret = std::fs::read_to_string(server.data_dir().join("enrol-secret"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = server.ports()[1];
    let keys = runtime.block_on(enrol(port, &tls, secret.trim(), agents))?;
    let api = Api::new(&server)?;
    for no in 0..hunts {
        let scope = json!({ "condition": "platform = 'windows'" });
        let query = format!("SELECT pid FROM processes WHERE pid = {no}");
        api.ask("/v1/hunts", &json!({ "query": query, "scope": scope }))?;
    }
    let requests = keys.iter().map(|key| load::request(key)).collect();
    Ok(Fleet { server, requests, tls })
}

/// Node keys, one for each.
async fn enrol(
    port: u16,
    tls: &TlsConnector,
    secret: &str,
    agents: u32,
) -> anyhow::Result<Vec<String>> {
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..ENROLLING {
        let (tls, secret) = (tls.clone(), secret.to_owned());
        tasks.spawn(async move {
            let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = rustls::pki_types::ServerName::try_from("localhost")?;
            let mut stream = tls.connect(name, tcp).await?;
            let mut keys = Vec::new();
            for no in (first..agents).step_by(ENROLLING as usize) {
                keys.push(enrol_one(&mut stream, &secret, no).await.context("enrol")?);
            }
            anyhow::Ok(keys)
        });
    }
    let mut keys = Vec::with_capacity(agents as usize);
    while let Some(done) = tasks.join_next().await {
        keys.extend(done??);
    }
    Ok(keys)
}

async fn enrol_one(
    stream: &mut tokio_rustls::client::TlsStream<TcpStream>,
    secret: &str,
    no: u32,
) -> anyhow::Result<String> {
    let hostname = format!("host-{no:06}.example.net");
    let body = json!({
        "enroll_secret": secret,
        "host_identifier": format!("00000000-0000-4000-8000-{no:012}"),
        "platform_type": "9",
        "host_details": {
            "os_version": { "name": "Ubuntu", "version": "22.04", "major": "22", "platform": "ubuntu" },
            "osquery_info": { "version": "5.23.1", "instance_id": format!("instance-{no}") },
            "system_info": { "hostname": hostname },
        },
    })
    .to_string();
    let request = format!(
        "POST /api/v1/osquery/enroll HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the server closed the connection");
    }
    let text = String::from_utf8_lossy(&answer);
    let (_, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let body: Value = serde_json::from_str(body).context(body.to_owned())?;
    let key = body["node_key"].as_str();
    Ok(key.with_context(|| format!("not enrolled: {text}"))?.to_owned())
}
