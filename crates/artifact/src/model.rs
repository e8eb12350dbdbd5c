//! The model: what a checked artifact holds.

use std::collections::BTreeMap;

use muster_types::{AgentKind, ColumnDecl, ColumnType};
use serde::{Deserialize, Serialize};

use crate::Platform;

/// One definition of what to collect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Lower-case words joined by dots, for example `linux.processes`.
    pub name: String,
    /// A few words for lists.
    pub title: String,
    /// What it collects and what a hunter looks for in it.
    #[serde(default)]
    pub description: String,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What its sources are written for; none: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Values a run may give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Columns of the result table, in order. None: the table has those of its rows, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// How its rows are kept.
    #[serde(default)]
    pub class: RowClass,
    /// What each agent kind runs.
    pub sources: BTreeMap<AgentKind, Source>,
    /// Limits of one run on one endpoint.
    #[serde(default)]
    pub limits: SourceLimits,
}

/// A result column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name; compared without case.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// How rows are kept: asked for once, or sent on a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowClass {
    /// Rows somebody asked for; sorted by hunt.
    #[default]
    Collected,
    /// Rows agents send on their own; sorted by agent and time.
    Scheduled,
}

/// A value that a run may give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name, as in `:name` in a query.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Used when a run gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// Whether a run must give it. A parameter that is neither required nor has a default is NULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Smallest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest number, or longest text in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// For `choice`: what may be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// UTF-8.
    Text,
    /// 64-bit signed.
    Int,
    /// 64-bit floating point.
    Float,
    /// True or false.
    Bool,
    /// RFC 3339 text, or seconds since 1970.
    Time,
    /// One of `choices`.
    Choice,
}

impl ParameterKind {
    /// The word used in YAML and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Time => "time",
            Self::Choice => "choice",
        }
    }
}

/// What one agent kind runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The text: SQL for native and osquery agents, VQL for Velociraptor, a flow for Fleetspeak.
    pub query: String,
}

/// Limits of one run on one endpoint; what exceeds them ends the run, visibly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceLimits {
    /// Wall time in milliseconds.
    pub timeout_ms: u64,
    /// Rows.
    pub rows: u64,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { timeout_ms: 60_000, rows: 100_000 }
    }
}

impl Artifact {
    /// The name of its result table in SQL.
    #[must_use]
    pub fn table_name(&self) -> String {
        table_name(&self.name)
    }

    /// Its columns as the result format wants them.
    #[must_use]
    pub fn column_decls(&self) -> Vec<ColumnDecl> {
        let decl = |c: &Column| ColumnDecl { name: c.name.clone(), kind: c.kind };
        self.columns.iter().map(decl).collect()
    }
}

/// The SQL name of an artifact's result table: dots become underscores.
#[must_use]
pub fn table_name(artifact: &str) -> String {
    artifact.replace('.', "_")
}
