//! What a schedule is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use muster_types::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};

/// What of a result an agent sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All rows, each time.
    Snapshot,
    /// What was added and removed since the last run.
    #[default]
    Differential,
    /// What was added since the last run.
    AddedOnly,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Snapshot, Self::Differential, Self::AddedOnly];

    /// The word used in the API and the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Differential => "differential",
            Self::AddedOnly => "added_only",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == word);
        found.ok_or_else(|| {
            format!("unknown mode {word:?}; known are snapshot, differential, added_only")
        })
    }
}

/// Systems something is for: bits of darwin, linux and windows. Written as osquery writes it, a list
/// of words divided by commas; empty stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Platforms(u8);

impl Platforms {
    /// Every system.
    pub const ALL: Self = Self(0b111);
    const WORDS: [(&'static str, u8); 3] = [("darwin", 1), ("linux", 2), ("windows", 4)];

    /// Whether an agent of this system is meant. One whose system is not known is: it reads the list
    /// in its configuration itself.
    #[must_use]
    pub fn includes(self, platform: &str) -> bool {
        Self::bit(platform).is_none_or(|bit| self.0 & bit != 0)
    }

    /// The bit of a system that is known.
    pub(crate) fn bit(platform: &str) -> Option<u8> {
        Self::WORDS.into_iter().find(|(word, _)| *word == platform).map(|(_, bit)| bit)
    }

    /// Those that both hold.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it is for nobody.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is for everybody.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

impl Default for Platforms {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return Ok(());
        }
        let words = Self::WORDS.into_iter().filter(|(_, bit)| self.0 & bit != 0);
        for (at, (word, _)) in words.enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{word}")?;
        }
        Ok(())
    }
}

impl FromStr for Platforms {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bits = 0;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            bits |= match word.to_ascii_lowercase().as_str() {
                "all" | "any" => 7,
                "posix" => 3,
                // What Fleet and older packs call them.
                "macos" => 1,
                "ubuntu" | "centos" | "rhel" | "debian" => 2,
                word => Self::bit(word).ok_or_else(|| {
                    format!("unknown platform {word:?}; known are darwin, linux, windows, posix")
                })?,
            };
        }
        Ok(if bits == 0 { Self::ALL } else { Self(bits) })
    }
}

/// What a schedule runs.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// An artifact that has a source for osquery, with values for its parameters.
    Artifact {
        /// Its name.
        name: String,
        /// Values by name.
        parameters: BTreeMap<String, serde_json::Value>,
    },
    /// SQL; it is kept as an artifact of its own, whose columns are those of its rows.
    Query(String),
}

/// A schedule to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Its name, in its pack if it has one.
    pub name: String,
    /// The pack it belongs to; empty for none.
    pub pack: String,
    /// What it runs.
    pub what: What,
    /// What it is for.
    pub description: String,
    /// Seconds between runs, 1 to 604,800.
    pub interval_s: u32,
    /// What agents send of it.
    pub mode: Mode,
    /// On which systems.
    pub platforms: Platforms,
    /// Lowest version of the agent; empty for any.
    pub min_version: String,
    /// The share of hosts that take part, chosen by the agent from its host name; 100 for all.
    pub shard_percent: u8,
    /// SQL that must all give a row for the pack to run. It belongs to the pack: what is given with
    /// one of its schedules goes for all; `None` leaves the pack's.
    pub discovery: Option<Vec<String>>,
    /// Whether an agent that dies while it runs sets it aside for a day.
    pub denylist: bool,
    /// Order of the first runs after a start (agents from 5.17 on); 0 for none.
    pub priority: i64,
    /// Only on endpoints with one of these labels; empty for all.
    pub labels_in: Vec<String>,
    /// Not on endpoints with one of these labels.
    pub labels_out: Vec<String>,
    /// Whether it is in agents' configuration.
    pub enabled: bool,
}

impl NewSchedule {
    /// A query for everybody with the defaults.
    #[must_use]
    pub fn of_query(name: &str, sql: &str, interval_s: u32) -> Self {
        Self {
            name: name.to_owned(),
            pack: String::new(),
            what: What::Query(sql.to_owned()),
            description: String::new(),
            interval_s,
            mode: Mode::default(),
            platforms: Platforms::ALL,
            min_version: String::new(),
            shard_percent: 100,
            discovery: None,
            denylist: true,
            priority: 0,
            labels_in: Vec::new(),
            labels_out: Vec::new(),
            enabled: true,
        }
    }
}

/// What shall be different about a schedule; what is `None` stays. Its name and pack never change:
/// agents still hold results under them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// What it runs.
    pub what: Option<What>,
    /// What it is for.
    pub description: Option<String>,
    /// Seconds between runs.
    pub interval_s: Option<u32>,
    /// What agents send of it.
    pub mode: Option<Mode>,
    /// On which systems.
    pub platforms: Option<Platforms>,
    /// Lowest version of the agent.
    pub min_version: Option<String>,
    /// The share of hosts.
    pub shard_percent: Option<u8>,
    /// SQL that must all give a row; for the whole pack.
    pub discovery: Option<Vec<String>>,
    /// Whether agents may set it aside.
    pub denylist: Option<bool>,
    /// Order of the first runs.
    pub priority: Option<i64>,
    /// Only on endpoints with one of these labels.
    pub labels_in: Option<Vec<String>>,
    /// Not on endpoints with one of these.
    pub labels_out: Option<Vec<String>>,
    /// Whether it is in agents' configuration.
    pub enabled: Option<bool>,
}

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its number.
    pub no: i64,
    /// Whose.
    pub org: OrgId,
    /// The name agents report it under, unique: `pack/{pack}/{name}` for one in a pack.
    pub name: String,
    /// The pack it belongs to; empty for none.
    pub pack: String,
    /// The artifact it runs.
    pub artifact: String,
    /// Whether the artifact was made for it.
    pub own_artifact: bool,
    /// Values of the artifact's parameters.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// What it is for.
    pub description: String,
    /// Seconds between runs.
    pub interval_s: u32,
    /// What agents send of it.
    pub mode: Mode,
    /// On which systems.
    pub platforms: Platforms,
    /// Lowest version of the agent; empty for any.
    pub min_version: String,
    /// The share of hosts, 1 to 100.
    pub shard_percent: u8,
    /// SQL that must all give a row for its pack to run.
    pub discovery: Vec<String>,
    /// Whether an agent that dies while it runs sets it aside for a day.
    pub denylist: bool,
    /// Order of the first runs; 0 for none.
    pub priority: i64,
    /// Only on endpoints with one of these labels; empty for all.
    pub labels_in: Vec<String>,
    /// Not on endpoints with one of these.
    pub labels_out: Vec<String>,
    /// Whether it is in agents' configuration.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// The name an agent reports: that of the query, with its pack before it.
#[must_use]
pub fn reported_name(pack: &str, name: &str) -> String {
    if pack.is_empty() { name.to_owned() } else { format!("pack/{pack}/{name}") }
}

impl Schedule {
    /// Its name without its pack.
    #[must_use]
    pub fn short_name(&self) -> &str {
        if self.pack.is_empty() {
            return &self.name;
        }
        let packed =
            self.name.strip_prefix("pack/").and_then(|name| name.strip_prefix(&*self.pack));
        packed.and_then(|name| name.strip_prefix('/')).unwrap_or(&self.name)
    }
}
