//! Somebody at the API.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Context;
use muster_testkit::Cluster;
use reqwest::{Certificate, Client, ClientBuilder, Method};
use serde_json::{Value, json};

/// What was answered, and after how long.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Value,
    pub took: Duration,
}

pub struct Person {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: String,
    token: String,
    signed_in: Cell<Option<Instant>>,
}

/// An account's attempts come back one by one.
const SIGN_IN_EVERY: Duration = Duration::from_secs(7);

impl Person {
    pub fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let access = cluster.access()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let pem = std::fs::read(&access.ca)?;
        let client = ClientBuilder::new()
            .tls_certs_only([Certificate::from_pem(&pem)?])
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let (url, token) = (cluster.instance(0).operators_url(), access.token.clone());
        Ok(Self { runtime, client, url, token, signed_in: Cell::new(None) })
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let began = Instant::now();
        self.runtime.block_on(async {
            let answer = request.send().await.with_context(|| path.to_owned())?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().get("retry-after");
            let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
            Ok(Answer { status, retry_after, body, took: began.elapsed() })
        })
    }

    pub fn list(&self) -> anyhow::Result<Answer> {
        self.call(Method::GET, "/v1/endpoints?limit=5", None)
    }

    /// The page for people, which every server has in its memory.
    pub fn page(&self) -> anyhow::Result<Answer> {
        self.call(Method::GET, "/", None)
    }

    pub fn sign_in(&self) -> anyhow::Result<Answer> {
        let body = json!({"name": "admin", "password": "a cluster under test 7"});
        self.call(Method::POST, "/v1/login", Some(&body))
    }

    pub fn hunt(&self) -> anyhow::Result<Answer> {
        let body = json!({"query": "SELECT pid FROM processes"});
        self.call(Method::POST, "/v1/hunts", Some(&body))
    }

    pub fn ask(&self) -> anyhow::Result<Answer> {
        // Longer than any outage here: it is to be answered after it.
        let body = json!({"query": "SELECT pid FROM processes", "timeout_seconds": 600});
        self.call(Method::POST, "/v1/queries", Some(&body))
    }

    pub fn sql(&self, text: &str) -> anyhow::Result<Answer> {
        self.call(Method::POST, "/v1/sql", Some(&json!({"sql": text})))
    }

    /// Every operation that needs the catalog, by name; at most once a second, and signing in as seldom
    /// as an account may try.
    pub fn all(&self) -> anyhow::Result<Vec<(&'static str, Answer)>> {
        std::thread::sleep(Duration::from_secs(1));
        let mut all = vec![
            ("list", self.list()?),
            ("live query", self.ask()?),
            ("hunt", self.hunt()?),
            ("sql", self.sql("SELECT 1 AS one")?),
        ];
        if self.signed_in.get().is_none_or(|at| at.elapsed() > SIGN_IN_EVERY) {
            self.signed_in.set(Some(Instant::now()));
            all.push(("login", self.sign_in()?));
        }
        Ok(all)
    }
}
