//! Reports: facts about an instance that others judge.
//!
//! Nobody can look into another machine, so each instance writes down once a minute what matters of
//! its own: clock, limits, disks, certificates, configuration. [`crate::doctor`] compares and judges;
//! an instance never judges itself.

mod service;
mod store;

use std::collections::BTreeMap;

use muster_types::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::redact;

pub(crate) use service::clock_ahead_ms;
pub use service::{Gather, Service};
pub use store::{STATEMENTS, read_all};

/// What an instance says of itself. Fields that a version does not know stay at their default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its clock minus the database's, in milliseconds.
    pub clock_ahead_ms: i64,
    /// How many files it may open.
    pub open_files_max: u64,
    /// Volumes it writes to.
    pub volumes: Vec<Volume>,
    /// Certificates it shows.
    pub certificates: Vec<Certificate>,
    /// The effective configuration, redacted, key by key; without what may differ by design.
    pub configuration: BTreeMap<String, String>,
    /// Whether its key opens the secrets of the installation.
    pub secret_key_fits: Option<bool>,
    /// Intake has stopped.
    pub stream_stopped: bool,
    /// Age of the oldest record that its worker has folded and not committed, or not folded.
    pub worker_lag_ms: u64,
    /// Shards it holds whose records are gone.
    pub shards_standing_still: u64,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// What is on it: `data`, `stream`, `archive`.
    pub holds: String,
    /// Where.
    pub path: String,
    /// Bytes that are free for this process.
    pub free_bytes: u64,
    /// Below so many free bytes intake stops; 0: nothing depends on it.
    pub reserve_bytes: u64,
}

/// A certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Where it is shown: `operators`, `agents`.
    pub listener: String,
    /// Names and addresses in it.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// The report of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose.
    pub instance: InstanceId,
    /// When, by database time.
    pub at: Timestamp,
    /// What it says.
    pub facts: Facts,
}

/// Parts of a configuration that may differ from instance to instance.
const OWN: [&str; 9] =
    ["data_dir", "roles", "names", "listeners", "instance", "log", "tls", "telemetry", "pins"];
/// Longest value that is kept.
const VALUE_MAX: usize = 200;

/// A configuration, key by key, as it may be compared: redacted, without what may differ.
#[must_use]
pub fn comparable(configuration: &Value) -> BTreeMap<String, String> {
    let mut configuration = configuration.clone();
    redact::redact(&mut configuration);
    let mut found = BTreeMap::new();
    for (key, value) in configuration.as_object().into_iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            flatten(key, value, &mut found);
        }
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(&format!("{path}.{key}"), value, found);
            }
        }
        value => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            found.insert(path.to_owned(), text.chars().take(VALUE_MAX).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_must_be_equal_is_compared() {
        let found = comparable(&json!({
            "data_dir": "/a",
            "log": {"level": "debug"},
            "retention": {"collected": "365days"},
            "catalog": {"url": "postgres://u:hunter2@h/d"},
        }));
        let keys: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(keys, ["catalog.url", "retention.collected"]);
        assert_eq!(found["catalog.url"], "postgres://u:***@h/d");
    }
}
