//! The artifact behind a schedule that was given as SQL.

use std::collections::BTreeMap;

use muster_artifact::{Artifact, RowClass, Source, SourceLimits, parse};
use muster_catalog::Tx;
use muster_types::AgentKind;

use crate::change::artifact_exists;
use crate::check::invalid;
use crate::{Schedule, ScheduleError};

/// Names tried before giving up.
const TRIES: u32 = 100;
const SLUG_BYTES_MAX: usize = 80;

/// The text of the artifact of a schedule.
pub(crate) fn own_artifact(schedule: &Schedule, sql: &str) -> Result<String, ScheduleError> {
    let title = schedule.short_name();
    yaml(&schedule.artifact, title, &schedule.description, RowClass::Scheduled, sql)
}

/// Name and text of an artifact for a query that is run by hand.
pub(crate) fn artifact_of_query(
    prefix: &str,
    title: &str,
    description: &str,
    sql: &str,
) -> Result<(String, String), ScheduleError> {
    let name = slug(prefix, title);
    let yaml = yaml(&name, title, description, RowClass::Collected, sql)?;
    Ok((name, yaml))
}

/// It declares no columns: its table has those of the rows.
fn yaml(
    name: &str,
    title: &str,
    description: &str,
    class: RowClass,
    sql: &str,
) -> Result<String, ScheduleError> {
    let artifact = Artifact {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        author: String::new(),
        references: Vec::new(),
        platforms: Vec::new(),
        parameters: Vec::new(),
        columns: Vec::new(),
        class,
        sources: BTreeMap::from([(AgentKind::Osquery, Source { query: sql.to_owned() })]),
        limits: SourceLimits::default(),
    };
    let yaml = serde_norway::to_string(&artifact)
        .map_err(|error| invalid("query", format!("cannot be written as YAML: {error}")))?;
    // An artifact's `:name` is a parameter, so a query that uses one is refused here with its reason.
    parse(&yaml).map_err(|error| invalid("query", error.to_string()))?;
    Ok(yaml)
}

/// A name for the artifact that nothing has yet.
pub(crate) async fn free_name(tx: &mut Tx, schedule: &Schedule) -> Result<String, ScheduleError> {
    let name = slug("schedule", &schedule.name);
    for n in 1..=TRIES {
        let candidate = if n == 1 { name.clone() } else { format!("{name}_{n}") };
        if !artifact_exists(tx, schedule.org, &candidate).await? {
            return Ok(candidate);
        }
    }
    Err(invalid("name", format!("{TRIES} artifacts are named like {name} already")))
}

/// A prefix and the name as lower-case words: `pack/it-compliance/USB devices` becomes
/// `schedule.it_compliance.usb_devices`.
fn slug(prefix: &str, name: &str) -> String {
    let mut out = prefix.to_owned();
    for part in name.strip_prefix("pack/").unwrap_or(name).split(['/', '.']) {
        let mut word = String::new();
        for c in part.chars() {
            let c = c.to_ascii_lowercase();
            let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
            if c != '_' || !word.ends_with('_') {
                word.push(c);
            }
        }
        let word = word.trim_matches('_');
        if word.is_empty() {
            continue;
        }
        out.push('.');
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str("q_");
        }
        out.push_str(word);
    }
    if out == prefix {
        out.push_str(".query");
    }
    out.truncate(SLUG_BYTES_MAX);
    out.trim_end_matches(['.', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_of_artifacts() {
        let cases = [
            ("uptime", "schedule.uptime"),
            ("pack/it-compliance/USB devices", "schedule.it_compliance.usb_devices"),
            ("7zip", "schedule.q_7zip"),
            ("Größe der Platte", "schedule.gr_e_der_platte"),
            ("日本", "schedule.query"),
            ("a.b", "schedule.a.b"),
        ];
        for (name, expected) in cases {
            assert_eq!(slug("schedule", name), expected, "{name}");
        }
    }
}
