//! A part of the configuration that osquery agents are given.

use muster_types::{OrgId, Timestamp};
use serde_json::{Map, Value};

use crate::Platforms;

/// A part to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFragment {
    /// Its name, unique.
    pub name: String,
    /// Only for endpoints with this label; empty for everyone.
    pub label: String,
    /// On which systems.
    pub platforms: Platforms,
    /// Of two that say different things the one with the higher number wins.
    pub precedence: i64,
    /// Sections of osquery's configuration, see [`crate::SECTIONS`].
    pub sections: Map<String, Value>,
}

/// A part as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// Its number.
    pub no: i64,
    /// Whose.
    pub org: OrgId,
    /// Its name, unique.
    pub name: String,
    /// Only for endpoints with this label; empty for everyone.
    pub label: String,
    /// On which systems.
    pub platforms: Platforms,
    /// Of two that say different things the one with the higher number wins.
    pub precedence: i64,
    /// Sections of osquery's configuration.
    pub sections: Map<String, Value>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}
