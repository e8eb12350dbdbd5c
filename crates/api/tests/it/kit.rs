//! A router over a fresh catalog, and a small client for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode, header};
use muster_api::assets::{AssetServer, Assets};
use muster_api::auth::bootstrap;
use muster_api::auth::password::Cost;
use muster_api::auth::throttle::Allowance;
use muster_api::{ApiState, ClientAddress, Deps, Options, SqlOptions};
use muster_archive::Archive;
use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_catalog::Catalog;
use muster_cluster::limit::Share;
use muster_cluster::secrets::Key;
use muster_endpoints::{AgentReport, Directory, Enrol, Presence, enrol};
use muster_hunts::Hunts;
use muster_inventory::Inventory;
use muster_schedules::Schedules;
use muster_sinks::Sinks;
use muster_stream::Stream;
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, Clock, InstanceId, OrgId, TestClock, Timestamp};
use muster_uploads::Uploads;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use uuid::Uuid;

/// Before the database's clock, which hunts live by.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// One API with its catalog.
pub struct Api {
    pub router: Router,
    pub catalog: Catalog,
    pub clock: Arc<TestClock>,
    pub bus: Arc<dyn Bus>,
    pub directory: Directory,
    pub presence: Presence,
    pub archive: Archive,
    pub uploads: Uploads,
    /// A token of the account `local`, which administers everything.
    pub root: String,
    _temp: TempCatalog,
}

/// What a test may set differently.
pub struct Adjust {
    pub options: Options,
    pub sql: SqlOptions,
    pub stream: Option<Arc<dyn Stream>>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub bytes: Vec<u8>,
    /// It ended before its end.
    pub broken_off: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// Insists on a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        assert_eq!(self.status.as_u16(), status, "{text}");
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// Insists on a refusal with this code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert!(!body["request_id"].as_str().unwrap().is_empty());
        body["detail"].as_str().unwrap().to_owned()
    }
}

impl Api {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(adjust: impl FnOnce(&mut Adjust)) -> Self {
        Self::on(TempCatalog::sqlite().await.unwrap(), adjust).await
    }

    pub async fn on(temp: TempCatalog, adjust: impl FnOnce(&mut Adjust)) -> Self {
        let catalog = temp.catalog.clone();
        let clock = Arc::new(TestClock::new(START));
        let options = Options {
            password_cost: Cost { memory_kib: 8, passes: 1 },
            login: Allowance { burst: 5, every: Duration::from_secs(10) },
            ..Options::default()
        };
        let mut adjusted = Adjust { options, sql: SqlOptions::default(), stream: None };
        adjust(&mut adjusted);
        let time = || Arc::clone(&clock) as Arc<dyn Clock>;
        let instance = InstanceId(Uuid::from_u128(7));
        let bus: Arc<dyn Bus> = LocalBus::new(64);
        let directory = Directory::open(catalog.clone(), Arc::clone(&bus)).await.unwrap();
        let presence = Presence::new(instance, time());
        let hunts = Hunts::open(
            catalog.clone(),
            Arc::clone(&bus),
            directory.clone(),
            presence.clone(),
            time(),
        )
        .await
        .unwrap();
        let schedules =
            Schedules::load(catalog.clone(), Arc::clone(&bus), directory.clone(), Vec::new())
                .await
                .unwrap();
        let inventory = Inventory::open(muster_inventory::Deps {
            catalog: catalog.clone(),
            bus: Arc::clone(&bus),
            directory: directory.clone(),
            clock: time(),
            instance,
        })
        .await
        .unwrap();
        let folder = temp.dir.path().canonicalize().unwrap();
        let archive = Archive::open(&format!("file://{}/archive", folder.display())).unwrap();
        let key = Key::new(&[7; 32]);
        let options = muster_uploads::Options::default();
        let uploads = Uploads::open(catalog.clone(), archive.clone(), &key, options).await.unwrap();
        let sinks = Sinks::new(
            catalog.clone(),
            Arc::new(Key::new(&[7; 32])),
            time(),
            muster_sinks::Options::new(temp.dir.path().join("sinks")),
        );
        let state = ApiState::new(Deps {
            sinks,
            secret_key: Arc::new(Key::new(&[7; 32])),
            catalog: catalog.clone(),
            bus: Arc::clone(&bus),
            clock: time(),
            instance,
            directory: directory.clone(),
            presence: presence.clone(),
            hunts,
            schedules,
            inventory,
            uploads: uploads.clone(),
            archive: archive.clone(),
            diagnose: Arc::new(|| Box::pin(async { Vec::new() })),
            pressure: None,
            stream: adjusted.stream,
            share: Share::whole(),
            assets: AssetServer::new(Arc::new(page()), archive.clone()),
            sql: adjusted.sql,
            version: "0.0.0-test".into(),
            options: adjusted.options,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let root = bootstrap::local_token(&catalog, START).await.unwrap().expose().to_owned();
        let router = muster_api::router(state);
        Self {
            router,
            catalog,
            clock,
            bus,
            directory,
            presence,
            archive,
            uploads,
            root,
            _temp: temp,
        }
    }

    /// Any request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let (mut bytes, mut broken_off) = (Vec::new(), false);
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(_) => broken_off = true,
            }
            assert!(bytes.len() <= 16 << 20, "an answer without end");
        }
        Answer { status: parts.status, headers: parts.headers, bytes, broken_off }
    }

    /// A request with a token (if any) and a JSON body (if not null).
    pub async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> Answer {
        self.send(request(token, method, path, &body)).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, Method::GET, path, Value::Null).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, Method::POST, path, body).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(token, Method::DELETE, path, Value::Null).await
    }

    /// Signs in and returns the token.
    pub async fn login(&self, name: &str, password: &str) -> String {
        let body = json!({"name": name, "password": password});
        let session = self.post("", "/v1/login", body).await.expect(200);
        session["token"].as_str().unwrap().to_owned()
    }

    /// Makes a user with these roles who has changed the one-time password; returns a session.
    pub async fn user(&self, name: &str, roles: Value) -> String {
        let new = json!({"name": name, "roles": roles});
        let made = self.post(&self.root, "/v1/users", new).await.expect(201);
        let first = made["one_time_password"].as_str().unwrap();
        let token = self.login(name, first).await;
        let change = json!({"current_password": first, "new_password": PASSWORD});
        self.post(&token, "/v1/password", change).await.expect(204);
        token
    }

    /// Enrols a machine with an osquery agent.
    pub async fn osquery_endpoint(&self, name: &str) -> u32 {
        self.enrolled(name, AgentKind::Osquery).await.1
    }

    pub async fn enrolled(&self, name: &str, kind: AgentKind) -> (AgentNo, u32) {
        let new = Enrol {
            org: OrgId::DEFAULT,
            kind,
            external_id: name.to_owned(),
            public_key: None,
            machine: None,
            report: AgentReport {
                hostname: name.to_owned(),
                platform: "linux".to_owned(),
                ..AgentReport::default()
            },
            secret: None,
        };
        let enrolled = enrol(&self.catalog, &new, self.clock.now()).await.unwrap();
        self.directory.refresh().await.unwrap();
        (AgentNo(enrolled.agent.0), enrolled.endpoint.0)
    }

    /// Enrols a machine, online or not, and gives it a label.
    pub async fn endpoint(&self, name: &str, online: bool, label: &str) -> u32 {
        let (agent, no) = self.enrolled(name, AgentKind::Native).await;
        if online {
            self.presence.connected(agent);
        }
        if !label.is_empty() {
            let made = self.post(&self.root, "/v1/labels", json!({"name": label})).await;
            assert!(matches!(made.status.as_u16(), 201 | 409));
            let path = format!("/v1/labels/{label}/endpoints");
            self.post(&self.root, &path, json!({"add": [no]})).await.expect(200);
        }
        no
    }

    /// Records of the audit log, newest first.
    pub async fn audited(&self, filter: &str) -> Vec<Value> {
        let path = format!("/v1/audit?limit=1000&{filter}");
        let page = self.get(&self.root, &path).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
}

pub const PASSWORD: &str = "a long enough secret";

fn page() -> Assets {
    Assets::of_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui"))).unwrap()
}

pub fn request(token: &str, method: Method, path: &str, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(ClientAddress([192, 0, 2, 7].into()));
    request
}
