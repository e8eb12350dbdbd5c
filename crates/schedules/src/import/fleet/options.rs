//! Agent options: osquery's configuration, and what replaces it on single platforms.

use serde_json::{Map, Value, json};

use super::Reader;
use crate::import::json::Node;
use crate::import::{Import, Kind, Place, osquery};

/// Parts for single platforms lie over the one for all.
const OVERRIDE: i64 = 10;
/// Parts of a team lie over those for everyone.
const TEAM: i64 = 100;

impl Reader<'_> {
    pub(super) fn agent_options(&mut self, file: &str, name: &str, node: &Node) {
        let (label, precedence) = match self.target.labels_in.first() {
            Some(label) => (label.clone(), TEAM),
            None => (String::new(), 0),
        };
        let base = node.get("config").map(|config| self.sections(file, config)).unwrap_or_default();
        let line = node.get("config").map_or(node.line, |config| config.line);
        let at = Place { file: file.to_owned(), line };
        if !base.is_empty() {
            self.part(name, (&label, ""), precedence, &base, at);
        }
        let overrides = node.get("overrides").and_then(|overrides| overrides.get("platforms"));
        for (platform, line, config) in overrides.map(Node::members).unwrap_or_default() {
            let at = Place { file: file.to_owned(), line: *line };
            let what = format!("options of platform {platform:?}");
            let Ok(platforms) = platform.parse::<crate::Platforms>() else {
                self.import.skip(what, "is no platform", at);
                continue;
            };
            if matches!(platform.as_str(), "ubuntu" | "centos" | "rhel" | "debian") {
                let how = "is for all Linux here: distributions are told apart by labels";
                self.import.changed(what, how, at.clone());
            }
            // There it replaces the whole: what it does not say goes.
            let mut sections = self.sections(file, config);
            take_away(&mut sections, &base);
            let name = format!("{name}-{platform}");
            let over = precedence + OVERRIDE;
            self.part(&name, (&label, &platforms.to_string()), over, &sections, at);
        }
        for (key, line, _) in node.members() {
            let reason = match key.as_str() {
                "config" | "overrides" => continue,
                "command_line_flags" => {
                    "are read from the flag file only (muster generate osquery-flags)"
                }
                _ => "is nothing that can be imported",
            };
            let at = Place { file: file.to_owned(), line: *line };
            self.import.skip(format!("agent option {key:?}"), reason, at);
        }
    }

    /// The sections of a configuration; its schedule and packs become schedules.
    fn sections(&mut self, file: &str, node: &Node) -> Map<String, Value> {
        let mut read = Import::default();
        let load = |path: &str| Err(format!("{path:?} is not looked for in agents' options"));
        osquery::config(&mut read, file, "config", node, &load);
        self.import.notes.append(&mut read.notes);
        let mut sections = Map::new();
        for mut one in read.wanted {
            match one.kind {
                Kind::OsqueryConfig => {
                    if let Some(Value::Object(config)) = one.body.remove("config") {
                        sections = config;
                    }
                }
                kind => {
                    if !self.target.labels_in.is_empty() {
                        one.body.insert("labels_in".to_owned(), json!(self.target.labels_in));
                    }
                    self.import.want(kind, &one.name, one.body, one.place);
                }
            }
        }
        sections
    }

    fn part(
        &mut self,
        name: &str,
        (label, platforms): (&str, &str),
        precedence: i64,
        sections: &Map<String, Value>,
        at: Place,
    ) {
        let body = json!({
            "label": label,
            "platforms": platforms,
            "precedence": precedence,
            "config": sections,
        });
        let body = body.as_object().cloned().unwrap_or_default();
        self.import.want(Kind::OsqueryConfig, name, body, at);
    }
}

/// Puts a `null` for everything that `base` says and `over` does not.
fn take_away(over: &mut Map<String, Value>, base: &Map<String, Value>) {
    for (key, below) in base {
        match (over.get_mut(key), below) {
            (None, _) => drop(over.insert(key.clone(), Value::Null)),
            (Some(Value::Object(over)), Value::Object(base)) => take_away(over, base),
            (Some(_), _) => {}
        }
    }
}
