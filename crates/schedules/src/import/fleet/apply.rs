//! Documents with `kind` and `spec`, as `fleetctl get` writes and `fleetctl apply` reads them.

use std::collections::BTreeMap;

use super::target::{built_in, label_name, team_label};
use super::{Reader, list, named};
use crate::Platforms;
use crate::import::json::{Node, Value};
use crate::import::query::{self, Pack};
use crate::import::{Place, json};

impl Reader<'_> {
    pub(super) fn apply(&mut self, file: &str, documents: &[Node]) {
        // Packs name queries that stand in documents of their own.
        let mut queries = BTreeMap::new();
        for document in documents {
            let spec = document.get("spec").filter(|_| kind(document) == "query");
            if let Some((name, spec)) = spec.and_then(|spec| Some((named(spec, "name")?, spec))) {
                queries.insert(name, spec);
            }
        }
        let packed: Vec<&str> = documents
            .iter()
            .filter(|document| kind(document) == "pack")
            .flat_map(|document| list(document.get("spec").and_then(|spec| spec.get("queries"))))
            .filter_map(|entry| named(entry, "query"))
            .collect();
        for document in documents {
            let place = |line| Place { file: file.to_owned(), line };
            let kind = kind(document);
            let Some(spec) = document.get("spec") else {
                let reason = "has no spec";
                self.import.skip(
                    format!("document of kind {kind:?}"),
                    reason,
                    place(document.line),
                );
                continue;
            };
            let at = place(spec.line);
            let team = named(spec, "team").filter(|team| *team != "All teams");
            self.of_team(team, at.clone());
            match kind {
                // One that runs in packs only is not wanted by hand as well.
                "query" | "report" => {
                    let alone = spec.get("interval").is_some_and(|i| query::integer(i) != Some(0));
                    let in_pack = named(spec, "name").is_some_and(|name| packed.contains(&name));
                    if alone || !in_pack {
                        self.query(spec, at);
                    }
                }
                "pack" => self.pack(file, spec, &queries),
                "label" => self.label(spec, at),
                "policy" => self.policy(spec, at),
                "enroll_secret" => self.secrets(file, list(spec.get("secrets"))),
                "config" => {
                    if let Some(options) = spec.get("agent_options") {
                        self.agent_options(file, "fleet", options);
                    }
                    self.left_out(file, spec, &["agent_options"]);
                }
                "options" => self.agent_options(file, "fleet", spec),
                "team" | "fleet" => {
                    let team = spec.get("team").or_else(|| spec.get("fleet")).unwrap_or(spec);
                    self.team(file, team);
                }
                kind => {
                    let reason = "is nothing that can be imported";
                    self.import.skip(format!("document of kind {kind:?}"), reason, at);
                }
            }
        }
    }

    fn team(&mut self, file: &str, team: &Node) {
        let Some(name) = named(team, "name") else {
            let at = Place { file: file.to_owned(), line: team.line };
            return self.import.skip("team", "has no name", at);
        };
        self.of_team(Some(name), Place { file: file.to_owned(), line: team.line });
        self.secrets(file, list(team.get("secrets")));
        if let Some(options) = team.get("agent_options") {
            self.agent_options(file, &team_label(name).replace('/', "-"), options);
        }
        self.left_out(file, team, &["name", "secrets", "agent_options"]);
    }

    /// Tells which members of something are not imported.
    pub(super) fn left_out(&mut self, file: &str, node: &Node, known: &[&str]) {
        for (key, line, value) in node.members() {
            if !known.contains(&key.as_str()) && !value.plain().is_null() {
                let at = Place { file: file.to_owned(), line: *line };
                self.import.skip(format!("{key:?}"), "is nothing that can be imported", at);
            }
        }
    }

    fn pack(&mut self, file: &str, spec: &Node, queries: &BTreeMap<&str, &Node>) {
        let at = Place { file: file.to_owned(), line: spec.line };
        let Some(name) = named(spec, "name") else {
            return self.import.skip("pack", "has no name", at);
        };
        let what = format!("pack {name:?}");
        let (pack, targets) = match self.pack_head(name, spec) {
            Ok(read) => read,
            Err(reason) => return self.import.skip(what, reason, at),
        };
        if targets == 0 {
            self.import.changed(&what, "has no targets, so it is switched off", at);
        }
        for entry in list(spec.get("queries")) {
            let at = Place { file: file.to_owned(), line: entry.line };
            let Some(saved) = named(entry, "query") else {
                self.import.skip(format!("query of {what}"), "names no query", at);
                continue;
            };
            let Some(text) = queries.get(saved).and_then(|spec| named(spec, "query")) else {
                let reason = "the query it names is not in this file";
                self.import.skip(format!("query {saved:?} of {what}"), reason, at);
                continue;
            };
            let short = named(entry, "name").unwrap_or(saved);
            query::schedule(&mut self.import, &pack, short, &with_text(entry, text), at);
        }
    }

    fn pack_head(&self, name: &str, spec: &Node) -> Result<(Pack, usize), String> {
        let targets = spec.get("targets");
        let of = |key| list(targets.and_then(|targets| targets.get(key)));
        let mut pack = Pack {
            name: name.replace('/', "-"),
            platforms: query::text(spec, "platform")?.parse()?,
            enabled: !query::flag(spec, "disabled", false)?,
            ..Pack::default()
        };
        let mut all = false;
        let mut systems: Option<Vec<Platforms>> = None;
        for label in of("labels").iter().filter_map(Node::text) {
            match built_in(label) {
                Some(platforms) if platforms.is_all() => all = true,
                Some(platforms) => systems.get_or_insert_default().push(platforms),
                None => pack.labels_in.push(label_name(label)),
            }
        }
        pack.labels_in.extend(of("teams").iter().filter_map(Node::text).map(team_label));
        let count = usize::from(all) + systems.as_ref().map_or(0, Vec::len) + pack.labels_in.len();
        if all {
            pack.labels_in.clear();
        } else if let Some(systems) = systems {
            if !pack.labels_in.is_empty() {
                return Err(
                    "is for labels or for systems, which cannot be said at once here".into()
                );
            }
            let words: Vec<String> = systems.iter().map(ToString::to_string).collect();
            pack.platforms = pack.platforms.both(words.join(",").parse()?);
        }
        if count == 0 {
            pack.enabled = false;
        }
        Ok((pack, count))
    }
}

fn kind(document: &Node) -> &str {
    named(document, "kind").unwrap_or_default()
}

/// The entry of a pack with the text of the query that it names.
fn with_text(entry: &Node, text: &str) -> Node {
    let line = entry.get("query").map_or(entry.line, |query| query.line);
    let mut members: Vec<_> =
        entry.members().iter().filter(|(key, _, _)| key != "query").cloned().collect();
    let value = Value::Plain(text.into());
    members.push(("query".to_owned(), line, json::Node { line, value }));
    Node { line: entry.line, value: Value::Object(members) }
}
