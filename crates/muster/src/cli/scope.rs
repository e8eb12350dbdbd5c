//! Flags that say which endpoints a command is about.

use clap::Args;
use serde_json::{Value, json};

/// Which endpoints. Without any flag: all that the caller may see.
#[derive(Args, Clone, Default)]
pub struct ScopeArgs {
    /// Only this endpoint, by number or name (repeatable).
    #[arg(long = "endpoint", short = 'e', value_name = "ENDPOINT")]
    pub endpoints: Vec<String>,
    /// Only endpoints with this label (repeatable: any of them).
    #[arg(long = "label", short = 'l', value_name = "LABEL")]
    pub labels: Vec<String>,
    /// No endpoint with this label (repeatable).
    #[arg(long = "exclude-label", value_name = "LABEL")]
    pub exclude_labels: Vec<String>,
    /// Only endpoints for which this SQL condition holds, for example "platform = 'linux'".
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
}

impl ScopeArgs {
    /// The API's form, once endpoints are numbers.
    pub fn to_json(&self, endpoints: &[u64]) -> Value {
        let mut scope = json!({});
        if !endpoints.is_empty() {
            scope["endpoints"] = json!(endpoints);
        }
        if !self.labels.is_empty() {
            scope["labels"] = json!(self.labels);
        }
        if !self.exclude_labels.is_empty() {
            scope["exclude_labels"] = json!(self.exclude_labels);
        }
        if let Some(condition) = &self.condition {
            scope["condition"] = json!(condition);
        }
        scope
    }
}
