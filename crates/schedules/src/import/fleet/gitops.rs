//! The gitops form: one file per team, which names others.

use super::target::team_label;
use super::{Reader, documents, list, named};
use crate::import::json::{Node, Value};
use crate::import::{Place, Unreadable};

/// Members that concern nothing we have.
const KNOWN: [&str; 9] = [
    "name",
    "queries",
    "reports",
    "policies",
    "labels",
    "agent_options",
    "org_settings",
    "team_settings",
    "settings",
];

type Item<'a> = fn(&mut Reader<'a>, &Node, Place);

impl<'a> Reader<'a> {
    pub(super) fn gitops(&mut self, file: &str, document: &Node) -> Result<(), Unreadable> {
        if !document.members().iter().any(|(key, _, _)| KNOWN[1..].contains(&key.as_str())) {
            return Err(Unreadable {
                place: Place { file: file.to_owned(), line: document.line },
                problem: "is neither a document with kind and spec nor a gitops file".to_owned(),
            });
        }
        let team =
            named(document, "name").filter(|name| *name != "No team" && *name != "Unassigned");
        self.of_team(team, Place { file: file.to_owned(), line: document.line });
        let prefix =
            team.map_or_else(|| "fleet".to_owned(), |team| team_label(team).replace('/', "-"));
        let lists: [(&str, Item<'a>); 4] = [
            ("labels", Reader::label),
            ("queries", Reader::query),
            ("reports", Reader::query),
            ("policies", Reader::policy),
        ];
        for (key, read) in lists {
            for item in list(document.get(key)) {
                self.item(file, item, read);
            }
        }
        if let Some(options) = document.get("agent_options") {
            match self.referred(file, options) {
                None => self.agent_options(file, &prefix, options),
                Some((path, found)) => {
                    for options in found {
                        self.agent_options(&path, &prefix, &options);
                    }
                }
            }
        }
        for key in ["org_settings", "team_settings", "settings"] {
            if let Some(settings) = document.get(key) {
                self.secrets(file, list(settings.get("secrets")));
                self.left_out(file, settings, &["secrets"]);
            }
        }
        self.left_out(file, document, &KNOWN);
        Ok(())
    }

    /// An item that stands here, or those of the file that it names.
    fn item(&mut self, file: &str, item: &Node, read: Item<'a>) {
        let Some((path, found)) = self.referred(file, item) else {
            return read(self, item, Place { file: file.to_owned(), line: item.line });
        };
        for document in found {
            let items = match &document.value {
                Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&document),
            };
            for item in items {
                // Files of the other form are referred to as well.
                let item = item.get("spec").unwrap_or(item);
                read(self, item, Place { file: path.clone(), line: item.line });
            }
        }
    }

    /// The documents of the file that a node names; `None` when it names none.
    fn referred(&mut self, file: &str, node: &Node) -> Option<(String, Vec<Node>)> {
        let at = Place { file: file.to_owned(), line: node.line };
        if let Some(paths) = named(node, "paths") {
            let reason = "names several files by a pattern; name them one by one with path";
            self.import.skip(format!("{paths:?}"), reason, at);
            return Some((String::new(), Vec::new()));
        }
        let path = named(node, "path")?.to_owned();
        let read = (self.around.load)(&path)
            .and_then(|text| documents(&path, &text).map_err(|error| error.to_string()));
        let found = read.unwrap_or_else(|reason| {
            self.import.skip(format!("file {path:?}"), reason, at);
            Vec::new()
        });
        Some((path, found))
    }
}
