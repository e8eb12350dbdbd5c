//! Queries, labels, policies and secrets: the same in both forms.

use serde_json::{Map, Value, json};

use super::target::{Target, label_name};
use super::variables::replaced;
use super::{Reader, list, named};
use crate::import::json::Node;
use crate::import::query::{add, flag, integer, text};
use crate::import::{Kind, Place};
use crate::{Mode, NewSchedule, Platforms};

/// The pack of the queries that labels follow.
const LABELS_PACK: &str = "fleet-labels";
/// As often as Fleet asks for labels.
const LABELS_INTERVAL_S: u32 = 3_600;

/// Systems as a list; none for all.
fn words(platforms: Platforms) -> Vec<String> {
    let text = platforms.to_string();
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Reader<'_> {
    /// A query or report: a schedule when it has an interval, else an artifact to be run by hand.
    pub(super) fn query(&mut self, item: &Node, at: Place) {
        let name = named(item, "name").unwrap_or_default().to_owned();
        let what = format!("query {name:?}");
        if name.is_empty() {
            return self.import.skip("query", "has no name", at);
        }
        let result = self.try_query(&name, item, at.clone());
        if let Err(reason) = result {
            self.import.skip(what, reason, at);
        }
    }

    fn try_query(&mut self, name: &str, item: &Node, at: Place) -> Result<(), String> {
        let sql = named(item, "query").ok_or("has no query")?;
        let interval = match item.get("interval") {
            None => 0,
            Some(interval) => integer(interval).ok_or("its interval is no number")?,
        };
        if interval == 0 {
            return self.saved_query(name, sql, item, at);
        }
        let target = self.target.narrowed(item)?;
        let mode = match text(item, "logging")?.as_str() {
            "differential" => Mode::Differential,
            "differential_ignore_removals" => Mode::AddedOnly,
            _ => Mode::Snapshot,
        };
        let platforms: Platforms = text(item, "platform")?.parse()?;
        let seconds = u32::try_from(interval).map_err(|_| "its interval is out of range")?;
        let mut new = NewSchedule {
            // Agents reported it so to Fleet: what they still hold finds its table.
            pack: self.target.pack(),
            description: text(item, "description")?.trim().to_owned(),
            mode,
            platforms: platforms.both(target.platforms),
            min_version: text(item, "min_osquery_version")?,
            labels_in: target.labels_in,
            labels_out: target.labels_out,
            ..NewSchedule::of_query(name, sql, seconds)
        };
        if !flag(item, "automations_enabled", true)? || flag(item, "discard_data", false)? {
            let how = "its results are kept here, whether or not they were sent to a log there";
            self.import.changed(format!("query {name:?}"), how, at.clone());
        }
        add(&mut self.import, &mut new, at)
    }

    /// A query without an interval.
    fn saved_query(&mut self, name: &str, sql: &str, item: &Node, at: Place) -> Result<(), String> {
        let artifact = crate::own_artifact::artifact_of_query(
            "fleet",
            name,
            text(item, "description")?.trim(),
            sql,
        );
        let (artifact, yaml) = artifact.map_err(|error| error.to_string())?;
        let how = format!("has no interval: an artifact to be run by hand, {artifact}");
        self.import.changed(format!("query {name:?}"), how, at.clone());
        let body = Map::from_iter([("yaml".to_owned(), Value::from(yaml))]);
        self.import.want(Kind::Artifact, &artifact, body, at);
        Ok(())
    }

    /// A label: by rule when it has a query, else by hand.
    pub(super) fn label(&mut self, item: &Node, at: Place) {
        let Some(given) = named(item, "name") else {
            return self.import.skip("label", "has no name", at);
        };
        let (name, what) = (label_name(given), format!("label {given:?}"));
        if name != given {
            self.import.changed(&what, format!("is called {name:?} here"), at.clone());
        }
        if named(item, "label_type") == Some("builtin") {
            return self.import.skip(what, "comes with Fleet", at);
        }
        let mut body = json!({
            "name": name,
            "description": named(item, "description").unwrap_or_default(),
        });
        let membership = named(item, "label_membership_type").unwrap_or("dynamic");
        match (membership, named(item, "query")) {
            ("manual", _) => {
                let hosts: Vec<&str> =
                    list(item.get("hosts")).iter().filter_map(Node::text).collect();
                body["hosts"] = json!(hosts);
            }
            ("dynamic", Some(query)) => {
                if let Err(reason) = self.label_rule(&name, query, item, at.clone()) {
                    return self.import.skip(what, reason, at);
                }
                let how = "follows a schedule of the pack fleet-labels: who has a row carries it";
                self.import.changed(&what, how, at.clone());
            }
            _ => return self.import.skip(what, "has neither a query nor hosts", at),
        }
        let body = body.as_object().cloned().unwrap_or_default();
        self.import.want(Kind::Label, &name, body, at);
    }

    /// Hosts tell by a schedule whether they belong to a label.
    fn label_rule(&mut self, name: &str, sql: &str, item: &Node, at: Place) -> Result<(), String> {
        let mut new = NewSchedule {
            pack: LABELS_PACK.to_owned(),
            description: format!("Hosts with a row carry the label {name}."),
            mode: Mode::Snapshot,
            platforms: text(item, "platform")?.parse()?,
            discovery: Some(Vec::new()),
            ..NewSchedule::of_query(name, sql, LABELS_INTERVAL_S)
        };
        add(&mut self.import, &mut new, at.clone())?;
        let source = crate::reported_name(LABELS_PACK, &new.name);
        let body = Map::from_iter([("schedule".to_owned(), Value::from(source))]);
        self.import.want(Kind::LabelRule, name, body, at);
        Ok(())
    }

    /// A policy.
    pub(super) fn policy(&mut self, item: &Node, at: Place) {
        let Some(name) = named(item, "name") else {
            return self.import.skip("policy", "has no name", at);
        };
        let what = format!("policy {name:?}");
        let Some(query) = named(item, "query") else {
            return self.import.skip(what, "has no query", at);
        };
        let read = || -> Result<(Target, Platforms, bool), String> {
            let platforms: Platforms = text(item, "platform")?.parse()?;
            Ok((self.target.narrowed(item)?, platforms, flag(item, "critical", false)?))
        };
        let (target, platforms, critical) = match read() {
            Ok(read) => read,
            Err(reason) => return self.import.skip(what, reason, at),
        };
        for key in ["run_script", "install_software", "calendar_events_enabled"] {
            if item.get(key).is_some_and(|value| !value.plain().is_null() && value.plain() != false)
            {
                let how = format!("{key} is not known here and left out");
                self.import.changed(&what, how, at.clone());
            }
        }
        let body = json!({
            "name": name,
            "query": query,
            "description": named(item, "description").unwrap_or_default(),
            "resolution": named(item, "resolution").unwrap_or_default(),
            "platforms": words(platforms.both(target.platforms)),
            "critical": critical,
            "labels": target.labels_in,
            "exclude_labels": target.labels_out,
            "enabled": true,
        });
        let body = body.as_object().cloned().unwrap_or_default();
        self.import.want(Kind::Policy, name, body, at);
    }

    /// Secrets that agents enrol with; those of a team give the team's label.
    pub(super) fn secrets(&mut self, file: &str, items: &[Node]) {
        let labels = self.target.labels_in.clone();
        for (n, item) in items.iter().enumerate() {
            let at = Place { file: file.to_owned(), line: item.line };
            let given = named(item, "secret").or_else(|| item.text()).unwrap_or_default();
            // What is shown must not be the secret.
            let owner = labels.first().map_or("fleet", String::as_str);
            let name =
                named(item, "name").map_or_else(|| format!("{owner} {}", n + 1), str::to_owned);
            let what = format!("enrol secret {name:?}");
            let secret = match replaced(given, self.around.variable) {
                Ok(secret) if secret.is_empty() => {
                    self.import.skip(what, "is empty", at);
                    continue;
                }
                Ok(secret) => secret,
                Err(reason) => {
                    self.import.skip(what, reason, at);
                    continue;
                }
            };
            let body = json!({"name": name, "labels": labels, "secret": secret});
            let body = body.as_object().cloned().unwrap_or_default();
            self.import.want(Kind::EnrolSecret, &name, body, at);
        }
    }
}
