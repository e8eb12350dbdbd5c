//! Questions and what they bring: SQL, retention, a second person.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Size, Span};

/// Limits of SQL over results. Each query runs in a child process of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// Memory of one query.
    pub memory: Size,
    /// Time of one query.
    pub time: Span,
    /// Rows of one answer.
    pub rows: u64,
    /// Queries at once; more wait.
    pub concurrent: usize,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            memory: Size::gib(2),
            time: Span(std::time::Duration::from_secs(120)),
            rows: 1_000_000,
            concurrent: 4,
        }
    }
}

/// How long rows are kept, by class. Holds override it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Rows somebody asked for.
    pub collected: Span,
    /// Rows agents send on a schedule.
    pub scheduled: Span,
    /// How long a replaced object stays readable; must exceed `sql.time`.
    pub grace: Span,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |n: u64| Span(std::time::Duration::from_secs(n * 86_400));
        Self {
            collected: days(365),
            scheduled: days(90),
            grace: Span(std::time::Duration::from_secs(30 * 60)),
        }
    }
}

/// When a second person is needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalsConfig {
    /// Hunts on more endpoints than this wait for a second person. Default: never.
    pub hunt_above_endpoints: Option<u64>,
}
