//! Which endpoints something is about, as a person writes it.

use serde::{Deserialize, Serialize};

use crate::EndpointNo;

/// A set of endpoints by rule. Parts that are given must all hold; an empty one is every endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeSpec {
    /// Only these endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointNo>,
    /// At least one of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// None of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_labels: Vec<String>,
    /// A SQL condition over the columns of `endpoints`, for example `platform = 'linux'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Only endpoints that are online when it is evaluated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub online: bool,
}

impl ScopeSpec {
    /// Every endpoint.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Exactly these endpoints.
    #[must_use]
    pub fn of(endpoints: Vec<EndpointNo>) -> Self {
        Self { endpoints, ..Self::default() }
    }
}
