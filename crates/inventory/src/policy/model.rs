//! What a policy is, and what may be one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use muster_types::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Platform;

const NAME_CHARS_MAX: usize = 200;
const TEXT_CHARS_MAX: usize = 8_192;
const QUERY_BYTES_MAX: usize = 64 * 1024;
const LABELS_MAX: usize = 64;

/// Number of a policy. Starts at 1, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyNo(pub u32);

impl fmt::Display for PolicyNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of a policy on one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyState {
    /// One row or more.
    Pass,
    /// No row.
    Fail,
    /// The question could not be answered; the message says why.
    Unknown,
}

impl PolicyState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Fail, Self::Unknown];

    /// The word used in the API and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

impl FromStr for PolicyState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == word);
        found.ok_or_else(|| format!("unknown state {word:?}; known are pass, fail, unknown"))
    }
}

/// A policy as a person writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPolicy {
    /// Unique in the organisation.
    pub name: String,
    /// What it checks and why.
    pub description: String,
    /// What to do where it fails.
    pub resolution: String,
    /// Whether a failure is urgent.
    pub critical: bool,
    /// osquery's SQL; passes with one row or more.
    pub query: String,
    /// Who is asked; empty: every platform.
    pub platforms: Vec<Platform>,
    /// Only endpoints with one of these labels; empty: all.
    pub labels: Vec<String>,
    /// No endpoint with one of these.
    pub exclude_labels: Vec<String>,
    /// Whether it is asked at all.
    pub enabled: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its number.
    pub no: PolicyNo,
    /// Whose.
    pub org: OrgId,
    /// What was written.
    pub text: NewPolicy,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// Answers before this were to another question and count for nothing.
    pub asked_since: Timestamp,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The query, shared with those who hand it out.
    pub sql: Arc<str>,
}

/// Why a policy is not as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PolicyError {
    /// A part of it cannot be so.
    #[error("{problem}")]
    Invalid {
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The name is taken.
    #[error("policy {0:?} exists already")]
    Exists(String),
    /// No such policy.
    #[error("no policy {0}")]
    Unknown(PolicyNo),
    /// There are enough.
    #[error("there are {max} policies already, and no organisation may have more", max = super::POLICIES_MAX)]
    TooMany,
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}

impl NewPolicy {
    /// Checks it and puts its lists in order.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn checked(mut self) -> Result<Self, PolicyError> {
        let invalid = |field, problem: String| Err(PolicyError::Invalid { field, problem });
        self.name = self.name.trim().to_owned();
        let name_is_fine = !self.name.is_empty()
            && self.name.chars().count() <= NAME_CHARS_MAX
            && !self.name.chars().any(|c| c.is_control() || c == '~');
        if !name_is_fine {
            let problem =
                format!("give a name of 1 to {NAME_CHARS_MAX} characters, without a tilde");
            return invalid("name", problem);
        }
        for (field, text) in [("description", &self.description), ("resolution", &self.resolution)]
        {
            if text.chars().count() > TEXT_CHARS_MAX {
                return invalid(field, format!("is longer than {TEXT_CHARS_MAX} characters"));
            }
        }
        self.query = self.query.trim().trim_end_matches(';').trim_end().to_owned();
        if self.query.is_empty() || self.query.len() > QUERY_BYTES_MAX {
            return invalid("query", format!("must be SQL of 1 to {QUERY_BYTES_MAX} bytes"));
        }
        for (field, labels) in
            [("labels", &mut self.labels), ("exclude_labels", &mut self.exclude_labels)]
        {
            let sorted: BTreeSet<String> = labels.drain(..).collect();
            *labels = sorted.into_iter().collect();
            if labels.len() > LABELS_MAX {
                return invalid(field, format!("are more than {LABELS_MAX}"));
            }
        }
        self.platforms.sort_unstable();
        self.platforms.dedup();
        Ok(self)
    }
}

impl Policy {
    /// Whether it is asked of this platform; an unknown platform is asked what every platform is.
    #[must_use]
    pub fn is_for(&self, platform: Option<Platform>) -> bool {
        let wanted = &self.text.platforms;
        wanted.is_empty()
            || platform.map_or(wanted.len() == Platform::ALL.len(), |one| wanted.contains(&one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> NewPolicy {
        NewPolicy {
            name: " Disk is encrypted ".into(),
            query: "SELECT 1; ".into(),
            platforms: vec![Platform::Windows, Platform::Linux, Platform::Windows],
            ..NewPolicy::default()
        }
    }

    #[test]
    fn it_is_put_in_order() {
        let checked = good().checked().unwrap();
        assert_eq!(
            (checked.name.as_str(), checked.query.as_str()),
            ("Disk is encrypted", "SELECT 1")
        );
        assert_eq!(checked.platforms, [Platform::Linux, Platform::Windows]);
    }

    #[test]
    fn faults_name_their_field() {
        let field = |policy: NewPolicy| match policy.checked() {
            Err(PolicyError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(NewPolicy { name: "a\nb".into(), ..good() }), "name");
        assert_eq!(field(NewPolicy { query: " ; ".into(), ..good() }), "query");
        assert_eq!(field(NewPolicy { resolution: "x".repeat(9_000), ..good() }), "resolution");
        let many = (0..65).map(|n| n.to_string()).collect();
        assert_eq!(field(NewPolicy { labels: many, ..good() }), "labels");
    }
}
