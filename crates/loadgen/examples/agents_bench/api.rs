//! The operators' side: asks through the API, with the token that `muster up` leaves for its user.

use anyhow::{Context, ensure};
use muster_testkit::Server;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// A client of one server.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    address: String,
    token: String,
}

/// A question that was accepted.
pub struct Asked {
    /// The number of its hunt.
    pub no: u64,
    /// Just before the request was sent, in microseconds since 1970.
    pub sent: i64,
    /// When its acceptance was read.
    pub accepted: i64,
}

impl Api {
    /// A client with the server's own context.
    pub fn new(server: &Server) -> anyhow::Result<Self> {
        let contexts = std::fs::read_to_string(server.scratch().join("config/contexts.yaml"))?;
        let contexts: Value = serde_norway::from_str(&contexts)?;
        let token = contexts["contexts"]["local"]["token"].as_str().context("no token")?.to_owned();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.data_dir().join("ca.pem"))?)?;
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A thread of its own, which sees the server close an idle connection.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .pool_idle_timeout(std::time::Duration::from_secs(5))
            .no_proxy()
            .build()?;
        Ok(Self { runtime, http, address: server.operators_url(), token })
    }

    fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let request = request.bearer_auth(&self.token);
        self.runtime.block_on(async {
            let answer = request.send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "{status}: {text}");
            Ok(serde_json::from_str(&text)?)
        })
    }

    /// Opens a connection, so that what is measured next does not have to.
    pub fn warm(&self) -> anyhow::Result<()> {
        self.call(self.http.get(format!("{}/v1/version", self.address))).map(drop)
    }

    /// What there is at a path.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(self.http.get(format!("{}{path}", self.address)))
    }

    /// Asks.
    pub fn ask(&self, path: &str, body: &Value) -> anyhow::Result<Asked> {
        let request = self.http.post(format!("{}{path}", self.address)).json(body);
        let sent = super::measure::now();
        let answer = self.call(request)?;
        let accepted = super::measure::now();
        let no = answer["no"].as_u64().with_context(|| format!("not asked: {answer}"))?;
        Ok(Asked { no, sent, accepted })
    }

    /// A live query.
    pub fn query(&self, scope: &Value, seconds: u64) -> anyhow::Result<Asked> {
        let body = json!({ "query": QUERY, "scope": scope, "timeout_seconds": seconds });
        self.ask("/v1/queries", &body)
    }

    /// Endpoints that answered, endpoints in scope, and rows stored.
    pub fn coverage(&self, no: u64) -> anyhow::Result<(u64, u64, u64)> {
        let coverage = self.get(&format!("/v1/hunts/{no}/coverage"))?;
        let number = |name: &str| coverage[name].as_u64().unwrap_or_default();
        Ok((number("rows"), number("total"), number("row_count")))
    }

    /// The first value of the first row.
    pub fn sql(&self, sql: &str) -> anyhow::Result<u64> {
        let url = format!("{}/v1/sql?format=ndjson", self.address);
        let request = self.http.post(url).json(&json!({ "sql": sql })).bearer_auth(&self.token);
        let text = self.runtime.block_on(async { request.send().await?.text().await })?;
        let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
            .with_context(|| format!("{sql}: {text}"))?;
        first["n"].as_u64().with_context(|| format!("{sql}: {text}"))
    }
}

/// What is asked; simulated agents answer it with canned rows.
pub const QUERY: &str = "SELECT pid, name, path, cmdline, uid, resident_size FROM processes";
