//! One simulated host: who it is, its key, and what it has not got rid of.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::OsqueryOptions;
use super::buffer::Buffer;
use super::fate::Fate;
use super::report::Route;
use super::request::Failure;
use super::run::Shared;

/// Tries of one enrolment before the agent ends, and its service manager starts it again.
const ENROL_ATTEMPTS: u64 = 12;
/// Between the two.
const RESTART: Duration = Duration::from_secs(5);

/// A host.
pub(super) struct Host {
    pub(super) number: u32,
    /// The minor version: 5.7, 5.12 or 5.23.
    pub(super) release: u32,
    pub(super) has_etag: bool,
    pub(super) gzips: bool,
    pub(super) is_v1: bool,
    pub(super) is_dirty: bool,
    /// Any loop may throw it away, whichever key it was told about.
    key: Mutex<Option<String>>,
    enrolling: tokio::sync::Mutex<()>,
    pub(super) buffer: Mutex<Buffer>,
    /// Tags given out.
    pub(super) tags: AtomicU64,
    uuid: String,
    instance: String,
}

impl Host {
    pub(super) fn new(options: &OsqueryOptions, number: u32) -> Self {
        let share = |salt, of, size| OsqueryOptions::share(number, salt, of, size);
        // Two hosts from one image share what the hardware says, and nothing else.
        let nth = number - options.first;
        let hardware = if nth < options.clones { number - nth % 2 } else { number };
        Self {
            number,
            release: match share(1, 100, options.old_percent) {
                true if share(5, 5, 1) => 7,
                true => 12,
                false => 23,
            },
            has_etag: !share(1, 100, options.old_percent) && share(6, 100, options.etag_percent),
            gzips: share(2, 100, options.gzip_percent),
            is_v1: share(3, 100, options.v1_percent),
            is_dirty: share(4, 1000, options.dirty_permille),
            key: Mutex::default(),
            enrolling: tokio::sync::Mutex::default(),
            buffer: Mutex::default(),
            tags: AtomicU64::new(0),
            uuid: format!("4C4C4544-0000-4000-8000-{hardware:012X}"),
            instance: format!("6e1f5a3b-0000-4000-8000-{number:012x}"),
        }
    }

    pub(super) fn hostname(&self) -> String {
        format!("osq-{:06}.example.net", self.number)
    }

    pub(super) fn version(&self) -> &'static str {
        match self.release {
            7 => "5.7.0",
            12 => "5.12.1",
            _ => "5.23.1",
        }
    }

    /// Whether its requests carry the key in a header too.
    pub(super) fn has_header(&self) -> bool {
        self.release >= 23
    }

    pub(super) fn identifier(&self) -> &str {
        &self.uuid
    }

    /// The path of a request in the family this host was set up with.
    pub(super) fn path(&self, route: Route) -> String {
        format!("/api/{}osquery/{}", if self.is_v1 { "v1/" } else { "" }, route.path())
    }

    /// Told that its key is no good: the stored one goes, even if another loop has just got it.
    pub(super) fn forget_key(&self) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The key; enrols when there is none. One at a time: the others wait for it.
    pub(super) async fn key(&self, shared: &Shared) -> String {
        loop {
            if let Some(key) = self.stored_key() {
                return key;
            }
            let _turn = self.enrolling.lock().await;
            if let Some(key) = self.stored_key() {
                return key;
            }
            match self.enrol(shared).await {
                Some(key) => {
                    shared.stats.enrolled.fetch_add(1, Relaxed);
                    *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
                    return key;
                }
                None => {
                    shared.stats.restarts.fetch_add(1, Relaxed);
                    shared.pause(RESTART).await;
                }
            }
        }
    }

    fn stored_key(&self) -> Option<String> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Twelve attempts, with waits that grow by the square.
    async fn enrol(&self, shared: &Shared) -> Option<String> {
        let body = self.enrol_body(&shared.options.secret);
        let stats = &shared.stats.routes[Route::Enrol as usize];
        for attempt in 1..=ENROL_ATTEMPTS {
            let asked = super::request::post(shared, self, Route::Enrol, None, &body, false).await;
            let refused = match asked {
                Ok(answer) => {
                    let answer: serde_json::Value =
                        serde_json::from_slice(&answer.body).unwrap_or_default();
                    let key = answer["node_key"].as_str().or_else(|| answer["id"].as_str());
                    match key.filter(|key| !key.trim().is_empty()) {
                        Some(key) => {
                            stats.successes.fetch_add(1, Relaxed);
                            return Some(key.to_owned());
                        }
                        None => {
                            stats.errors.fetch_add(1, Relaxed);
                            format!("enrol: {answer}")
                        }
                    }
                }
                Err(Failure(why)) => why,
            };
            shared.stats.error(&refused);
            if attempt < ENROL_ATTEMPTS {
                shared.pause(Duration::from_secs((attempt * attempt).min(600))).await;
            }
        }
        None
    }

    fn enrol_body(&self, secret: &str) -> Vec<u8> {
        let address = Ipv4Addr::from_bits(0x0A00_0000 + self.number);
        let body = json!({
            "enroll_secret": secret,
            "host_identifier": self.uuid,
            "platform_type": "9",
            "host_details": {
                "os_version": {
                    "name": "Ubuntu", "version": "22.04.5 LTS (Jammy Jellyfish)", "major": "22",
                    "minor": "4", "platform": "ubuntu", "platform_like": "debian",
                    "arch": "x86_64", "codename": "jammy"
                },
                "osquery_info": {
                    "version": self.version(), "uuid": self.uuid, "instance_id": self.instance,
                    "pid": (1000 + self.number % 30_000).to_string(), "config_hash": "",
                    "build_platform": "linux", "build_distro": "centos7", "watcher": "1"
                },
                "system_info": {
                    "hostname": self.hostname(), "uuid": self.uuid, "cpu_brand": "Example CPU",
                    "physical_memory": "16777216000", "computer_name": self.hostname(),
                    "hardware_serial": format!("SN{:08}", self.number),
                    "local_hostname": self.hostname(), "cpu_logical_cores": "8"
                },
                "platform_info": { "vendor": "Example", "version": "1.2", "address": address.to_string() }
            }
        });
        body.to_string().into_bytes()
    }
}

/// A request with a key that is tried so often, as the table of attempts says.
pub(super) async fn attempts(
    shared: &Shared,
    host: &Host,
    route: Route,
    body: &impl Fn(&str) -> Vec<u8>,
) -> Option<Vec<u8>> {
    for attempt in 1..=3_u64 {
        let key = host.key(shared).await;
        match super::request::post(shared, host, route, Some(&key), &body(&key), false).await {
            Ok(answer) => match super::request::judge(shared, host, route, &answer) {
                Fate::Success { .. } => return Some(answer.body),
                Fate::NodeInvalid | Fate::Error(_) | Fate::Unreadable => {}
            },
            Err(Failure(why)) => shared.stats.error(&why),
        }
        if attempt < 3 {
            shared.pause(Duration::from_secs(attempt * attempt)).await;
        }
    }
    None
}
