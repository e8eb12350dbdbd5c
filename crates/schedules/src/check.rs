//! What a schedule or a fragment may hold: whatever passes here, every agent can read.

use muster_artifact::{Artifact, BindError};
use muster_types::AgentKind;
use serde_json::{Map, Value};

use crate::NewSchedule;

/// Sections that a fragment may set. Schedules and packs are made of [`crate::Schedule`]s instead.
pub const SECTIONS: [&str; 14] = [
    "auto_table_construction",
    "decorators",
    "events",
    "exclude_paths",
    "feature_vectors",
    "file_accesses",
    "file_paths",
    "file_paths_query",
    "kafka_topics",
    "logger",
    "options",
    "prometheus_targets",
    "views",
    "yara",
];

/// Schedules one organisation may have.
pub(crate) const SCHEDULES_MAX: i64 = 10_000;
/// Fragments one organisation may have.
pub(crate) const FRAGMENTS_MAX: i64 = 1_000;
/// Longest fragment; agents take documents of a mebibyte in all.
const SECTIONS_BYTES_MAX: usize = 256 * 1024;
/// osquery refuses a document that is nested more deeply; the document itself adds a level.
const DEPTH_MAX: usize = 31;
const INTERVAL_S_MAX: u32 = 604_800;
const NAME_CHARS_MAX: usize = 200;
const LABELS_MAX: usize = 64;
const DISCOVERY_MAX: usize = 16;
const SQL_BYTES_MAX: usize = 64 * 1024;

/// Why a schedule or a fragment is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A value is not allowed.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A parameter of the artifact does not fit.
    #[error(transparent)]
    Parameters(#[from] BindError),
    /// The name is taken.
    #[error("{0:?} exists already")]
    Exists(String),
    /// There are as many as there may be.
    #[error("there are {0}; delete some that are not used")]
    TooMany(i64),
    /// There is no such schedule or fragment.
    #[error("no such thing: {0}")]
    Unknown(String),
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}

pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> ScheduleError {
    ScheduleError::Invalid { field, problem: problem.into() }
}

type Checked = Result<(), ScheduleError>;

/// A name that agents take and give back unchanged.
fn check_name(field: &'static str, name: &str) -> Checked {
    if name.trim() != name || name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        let problem = format!("take 1 to {NAME_CHARS_MAX} characters without blanks around them");
        return Err(invalid(field, problem));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid(field, "holds a control character"));
    }
    Ok(())
}

/// Everything of a new schedule that can be told without the catalog.
pub(crate) fn check_schedule(new: &NewSchedule) -> Checked {
    check_name("name", &new.name)?;
    let kept = ["query.", "cache.", "config_views."];
    if let Some(prefix) = kept.into_iter().find(|prefix| new.name.starts_with(prefix)) {
        return Err(invalid(
            "name",
            format!("begins with {prefix:?}, which osquery keeps to itself"),
        ));
    }
    if let Some(end) = ["epoch", "counter"].into_iter().find(|end| new.name.ends_with(end)) {
        return Err(invalid("name", format!("ends in {end:?}, which osquery keeps to itself")));
    }
    if new.name.starts_with("pack/") || new.name.starts_with("muster.") {
        return Err(invalid(
            "name",
            "begins with pack/ or muster., which stand for something else",
        ));
    }
    if !new.pack.is_empty() {
        check_name("pack", &new.pack)?;
        if new.pack.contains('/') {
            return Err(invalid("pack", "holds a slash, which divides pack and name in results"));
        }
    }
    if new.interval_s == 0 || new.interval_s > INTERVAL_S_MAX {
        return Err(invalid("interval_s", format!("take 1 to {INTERVAL_S_MAX} seconds")));
    }
    if new.platforms.is_empty() {
        return Err(invalid("platforms", "is for no system at all"));
    }
    if !(1..=100).contains(&new.shard_percent) {
        return Err(invalid("shard_percent", "take 1 to 100"));
    }
    let version = |c: char| c.is_ascii_digit() || c == '.';
    if new.min_version.len() > 32 || !new.min_version.chars().all(version) {
        return Err(invalid("min_version", "is no version of osquery; write it like 5.8.0"));
    }
    if new.labels_in.len() + new.labels_out.len() > LABELS_MAX {
        return Err(invalid("labels_in", format!("more than {LABELS_MAX} labels in all")));
    }
    let discovery = new.discovery.as_deref().unwrap_or_default();
    if !discovery.is_empty() && new.pack.is_empty() {
        return Err(invalid("discovery", "needs a pack: agents look at it once for a whole pack"));
    }
    if discovery.len() > DISCOVERY_MAX {
        return Err(invalid("discovery", format!("more than {DISCOVERY_MAX} queries")));
    }
    discovery.iter().try_for_each(|sql| check_sql("discovery", sql))
}

/// SQL of a schedule or of a pack's discovery.
pub(crate) fn check_sql(field: &'static str, sql: &str) -> Checked {
    if sql.trim().is_empty() || sql.len() > SQL_BYTES_MAX {
        return Err(invalid(field, format!("must be SQL of 1 to {SQL_BYTES_MAX} bytes")));
    }
    if sql.contains('\0') {
        return Err(invalid(field, "holds a NUL character"));
    }
    Ok(())
}

/// Whether osquery agents can run the artifact.
pub(crate) fn check_artifact(artifact: &Artifact) -> Checked {
    if artifact.sources.contains_key(&AgentKind::Osquery) {
        return Ok(());
    }
    Err(invalid("artifact", format!("{} has no source for osquery", artifact.name)))
}

/// The sections of a fragment.
pub(crate) fn check_sections(sections: &Map<String, Value>) -> Checked {
    for (name, section) in sections {
        let problem = match name.as_str() {
            "schedule" | "packs" => {
                "make schedules of these (muster import osquery does); their names must be known here"
            }
            name if SECTIONS.contains(&name) => {
                check_depth(section, DEPTH_MAX)?;
                continue;
            }
            _ => "is no section of osquery's configuration",
        };
        return Err(invalid("sections", format!("{name:?}: {problem}")));
    }
    if sections.get("options").is_some_and(|options| options.get("pack_delimiter").is_some()) {
        let problem = "options.pack_delimiter is set by the server, which reads names by it";
        return Err(invalid("sections", problem));
    }
    let options = sections.get("options").and_then(Value::as_object);
    let plain = |value: &Value| !value.is_object() && !value.is_array();
    if let Some((name, _)) = options.into_iter().flatten().find(|(_, value)| !plain(value)) {
        return Err(invalid("sections", format!("options.{name} is no text, number or boolean")));
    }
    let bytes = serde_json::to_vec(sections).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > SECTIONS_BYTES_MAX {
        let problem = format!("{bytes} bytes of JSON; the limit is {SECTIONS_BYTES_MAX}");
        return Err(invalid("sections", problem));
    }
    Ok(())
}

fn check_depth(value: &Value, left: usize) -> Checked {
    let Some(left) = left.checked_sub(1) else {
        return Err(invalid("sections", "is nested more deeply than agents read"));
    };
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, left)),
        Value::Object(members) => members.values().try_for_each(|item| check_depth(item, left)),
        _ => Ok(()),
    }
}

/// Name and number of a fragment.
pub(crate) fn check_fragment(name: &str, platforms: crate::Platforms) -> Checked {
    check_name("name", name)?;
    if name.contains('/') {
        return Err(invalid("name", "holds a slash"));
    }
    if platforms.is_empty() {
        return Err(invalid("platforms", "is for no system at all"));
    }
    Ok(())
}
