//! Which rows a sink is for.

use muster_results::RowClass;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which rows a sink is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Result tables or artifacts, `*` for any characters: `linux_*`, `windows.autoruns`,
    /// `agent_log`. Empty: everything that was collected or scheduled, without the tables that the
    /// server keeps of its own work (`collections`, `errors`, `agent_log`, `unchanged`).
    pub tables: Vec<String>,
    /// Only endpoints that carry one of these labels when their rows are sent. Empty: all.
    pub labels: Vec<String>,
}

impl Filter {
    /// Whether rows of this table are for the sink at all.
    #[must_use]
    pub fn takes_table(&self, table: &str, class: RowClass) -> bool {
        if !class.is_told() {
            return false;
        }
        if self.tables.is_empty() {
            return class != RowClass::System;
        }
        self.tables.iter().any(|pattern| matches(&folded(pattern), table))
    }
}

/// An artifact's name as that of its table.
fn folded(pattern: &str) -> String {
    pattern.to_ascii_lowercase().replace('.', "_")
}

/// `*` stands for any characters, everything else for itself.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(tables: &[&str]) -> Filter {
        Filter { tables: tables.iter().map(ToString::to_string).collect(), labels: Vec::new() }
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, text, expected) in [
            ("linux_*", "linux_processes", true),
            ("linux_*", "linux", false),
            ("*", "x", true),
            ("*", "", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*log", "agent_log", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn own_tables_only_by_name() {
        use RowClass::{Collected, Scheduled, System};
        assert!(filter(&[]).takes_table("hunt_1", Collected));
        assert!(filter(&[]).takes_table("x", Scheduled));
        assert!(!filter(&[]).takes_table("errors", System));
        assert!(filter(&["errors"]).takes_table("errors", System));
        assert!(filter(&["Linux.Processes"]).takes_table("linux_processes", Collected));
        assert!(!filter(&["errors"]).takes_table("linux_processes", Collected));
    }
}
