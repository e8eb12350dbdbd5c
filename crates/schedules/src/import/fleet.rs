//! Fleet's YAML: documents with `kind` and `spec` (fleetctl apply), and the gitops form.

mod apply;
mod gitops;
mod items;
mod options;
mod target;
mod variables;

use super::json::{Node, Value};
use super::{Import, Kind, Place, Unreadable, Wanted, yaml};

/// What the import asks of its surroundings.
pub struct Surroundings<'a> {
    /// Reads a file that a gitops file names, by a path relative to that.
    pub load: &'a dyn Fn(&str) -> Result<String, String>,
    /// The text of a variable of the environment, for `$NAME` in secrets, or why there is none.
    pub variable: &'a dyn Fn(&str) -> Result<String, String>,
}

/// Reads a file of either form.
///
/// # Errors
/// [`Unreadable`] when it is not YAML, or neither form.
pub fn read(file: &str, text: &str, around: &Surroundings<'_>) -> Result<Import, Unreadable> {
    let documents = documents(file, text)?;
    let mut reader =
        Reader { import: Import::default(), around, target: target::Target::default() };
    if documents.iter().any(|document| document.get("kind").is_some()) {
        reader.apply(file, &documents);
    } else {
        for document in &documents {
            reader.gitops(file, document)?;
        }
    }
    Ok(reader.import.finish())
}

fn documents(file: &str, text: &str) -> Result<Vec<Node>, Unreadable> {
    yaml::documents(text).map_err(|(line, problem)| Unreadable {
        place: Place { file: file.to_owned(), line },
        problem,
    })
}

/// What is read so far, and what the items that follow are for.
struct Reader<'a> {
    import: Import,
    around: &'a Surroundings<'a>,
    target: target::Target,
}

impl Reader<'_> {
    /// From here on items are for a team: its label has to be there.
    fn of_team(&mut self, team: Option<&str>, at: Place) {
        self.target = team.map_or_else(target::Target::default, target::Target::team);
        let Some(name) = self.target.labels_in.first() else { return };
        let known = |one: &Wanted| one.kind == Kind::Label && one.name == *name;
        if !self.import.wanted.iter().any(known) {
            let description = format!("Hosts of the Fleet team {}.", team.unwrap_or_default());
            let body = [("name", name.as_str()), ("description", description.as_str())];
            let body = body.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
            self.import.want(Kind::Label, &name.clone(), body, at);
        }
    }
}

/// The items of a list; none when it is no list.
fn list(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// Text that is given and not blank.
fn named<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::text).map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
