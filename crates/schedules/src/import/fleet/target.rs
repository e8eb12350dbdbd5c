//! Whom an item is for: teams and labels of Fleet as labels and platforms here.

use crate::Platforms;
use crate::import::json::Node;

use super::list;

/// Labels and platforms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) labels_in: Vec<String>,
    pub(super) labels_out: Vec<String>,
    pub(super) platforms: Platforms,
}

impl Default for Target {
    fn default() -> Self {
        Self { labels_in: Vec::new(), labels_out: Vec::new(), platforms: Platforms::ALL }
    }
}

impl Target {
    /// For the hosts of a team.
    pub(super) fn team(team: &str) -> Self {
        Self { labels_in: vec![team_label(team)], ..Self::default() }
    }

    /// The pack of its queries: `Global` in Fleet when it is for everyone.
    pub(super) fn pack(&self) -> String {
        self.labels_in.first().map_or_else(|| "Global".to_owned(), |label| label.replace('/', "-"))
    }

    /// Narrowed to what an item says of labels. What cannot be said here is told.
    ///
    /// # Errors
    /// When the item must not be imported for more hosts than it was for.
    pub(super) fn narrowed(&self, item: &Node) -> Result<Self, String> {
        let mut target = self.clone();
        if !list(item.get("labels_include_all")).is_empty() {
            return Err(
                "is for hosts with all of several labels, which is not known here".to_owned()
            );
        }
        let include = names(item, "labels_include_any");
        if !include.is_empty() {
            // A host has to be in the team and have the label; here any label of the list will do.
            if !target.labels_in.is_empty() {
                let problem = "is for labels within a team, which is not known here";
                return Err(problem.to_owned());
            }
            target.labels_in = include;
        }
        target.labels_out.extend(names(item, "labels_exclude_any"));
        Ok(target)
    }
}

fn names(item: &Node, key: &str) -> Vec<String> {
    list(item.get(key)).iter().filter_map(Node::text).map(label_name).collect()
}

/// The label that stands for a team.
pub(super) fn team_label(team: &str) -> String {
    label_name(&format!("team:{team}"))
}

/// A name that a label can have here: letters, digits and `. _ - : /` between them.
pub(super) fn label_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.trim().chars() {
        let fits = c.is_alphanumeric() || matches!(c, '.' | '_' | ':' | '/');
        if fits {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    let trimmed = out.trim_matches(|c: char| !c.is_alphanumeric());
    trimmed
        .chars()
        .take(64)
        .collect::<String>()
        .trim_end_matches(['-', '.', '_', ':', '/'])
        .to_owned()
}

/// What Fleet's own labels stand for.
pub(super) fn built_in(label: &str) -> Option<Platforms> {
    let word = match label {
        "All Hosts" => "all",
        "macOS" => "darwin",
        "MS Windows" => "windows",
        "All Linux" => "linux",
        _ => return None,
    };
    word.parse().ok()
}
