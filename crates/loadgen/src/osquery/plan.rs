//! What a configuration document tells an agent to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// One scheduled query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scheduled {
    /// As it reports.
    pub(super) name: String,
    pub(super) interval: u64,
    pub(super) snapshot: bool,
    pub(super) removed: bool,
    /// A name that ends in `_10` gives ten rows.
    pub(super) rows: usize,
}

/// Everything scheduled, of the schedule and of its packs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) queries: Vec<Scheduled>,
}

impl Plan {
    /// Reads a document; what cannot be read is left out, as agents do.
    pub(super) fn read(document: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(document).unwrap_or_default();
        let delimiter = document["options"]["pack_delimiter"].as_str().unwrap_or("_");
        let mut queries = Vec::new();
        add(&mut queries, "", &document["schedule"]);
        if let Some(packs) = document["packs"].as_object() {
            for (pack, content) in packs {
                let prefix = format!("pack{delimiter}{pack}{delimiter}");
                add(&mut queries, &prefix, &content["queries"]);
            }
        }
        Self { queries }
    }
}

fn add(queries: &mut Vec<Scheduled>, prefix: &str, entries: &Value) {
    let Some(entries) = entries.as_object() else { return };
    for (name, entry) in entries {
        let interval = match &entry["interval"] {
            Value::Number(n) => n.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let flag = |name: &str, default| entry[name].as_bool().unwrap_or(default);
        let wanted = match entry["platform"].as_str() {
            None | Some("" | "all" | "any") => true,
            Some(list) => {
                list.split(',').any(|one| matches!(one.trim(), "linux" | "posix" | "all"))
            }
        };
        if !wanted {
            continue;
        }
        queries.push(Scheduled {
            name: format!("{prefix}{name}"),
            interval: interval.filter(|n| (1..=604_800).contains(n)).unwrap_or(3600),
            snapshot: flag("snapshot", false),
            removed: flag("removed", true),
            rows: if name.ends_with("_10") { 10 } else { 1 },
        });
    }
}

/// Documents that were read, by their text: hosts with the same one share its plan.
#[derive(Default)]
pub(super) struct Plans(Mutex<HashMap<Vec<u8>, Arc<Plan>>>);

/// Different documents remembered; beyond, all are read again.
const PLANS_MAX: usize = 256;

impl Plans {
    pub(super) fn of(&self, document: &[u8]) -> Arc<Plan> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = known.get(document) {
            return Arc::clone(plan);
        }
        if known.len() >= PLANS_MAX {
            known.clear();
        }
        let plan = Arc::new(Plan::read(document));
        known.insert(document.to_vec(), Arc::clone(&plan));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_and_packs_are_read_as_agents_read_them() {
        let plan = Plan::read(
            br#"{"options":{"pack_delimiter":"/"},
                "schedule":{"a_10":{"query":"q","interval":"60","snapshot":true},
                            "w":{"query":"q","interval":10,"platform":"windows"}},
                "packs":{"p":{"queries":{"b":{"query":"q","removed":false}}}}}"#,
        );
        let names: Vec<_> = plan.queries.iter().map(|q| (&*q.name, q.interval, q.rows)).collect();
        assert_eq!(names, [("a_10", 60, 10), ("pack/p/b", 3600, 1)]);
        assert!(plan.queries[0].snapshot && !plan.queries[1].removed);
        assert!(Plan::read(b"no document").queries.is_empty());
    }
}
