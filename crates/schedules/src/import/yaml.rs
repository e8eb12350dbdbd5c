//! YAML with lines.
//!
//! The YAML parser at hand does not tell where a value stood. Its keys do stand in the text in the order
//! in which they are read, so a second walk finds them there; a key that is not found (an alias, say)
//! has the line of the one before.

use serde::Deserialize;
use serde_norway::Value as Yaml;

use super::json::{Node, Value};

/// All documents of a text.
///
/// # Errors
/// The line and what is wrong there.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, (usize, String)> {
    let mut walk = Walk::new(text);
    let mut found = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = Yaml::deserialize(document)
            .map_err(|error| (error.location().map_or(0, |at| at.line()), error.to_string()))?;
        if !value.is_null() {
            found.push(walk.node(value));
        }
    }
    Ok(found)
}

/// A walk through a text, downwards.
struct Walk<'a> {
    text: &'a str,
    /// Where the next search begins.
    at: usize,
    /// The line it is on, from 1, and where that line begins.
    next_line: usize,
    line_at: usize,
    /// The last line where something was found.
    line: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, next_line: 1, line_at: 0, line: 1 }
    }

    fn node(&mut self, value: Yaml) -> Node {
        match value {
            Yaml::Mapping(mapping) => {
                let mut members = Vec::new();
                for (key, value) in mapping {
                    let key = scalar(&key);
                    self.find_key(&key);
                    let line = self.line;
                    members.push((key, line, self.node(value)));
                }
                let line = members.first().map_or(self.line, |(_, line, _)| *line);
                Node { line, value: Value::Object(members) }
            }
            Yaml::Sequence(items) => {
                let items: Vec<Node> = items.into_iter().map(|item| self.item(item)).collect();
                let line = items.first().map_or(self.line, |item| item.line);
                Node { line, value: Value::List(items) }
            }
            Yaml::Tagged(tagged) => self.node(tagged.value),
            other => Node { line: self.line, value: Value::Plain(plain(&other)) },
        }
    }

    /// An item of a list; one that is a scalar stands behind a dash, or in brackets.
    fn item(&mut self, value: Yaml) -> Node {
        if !matches!(value, Yaml::Mapping(_) | Yaml::Sequence(_)) {
            self.find(|line, from| {
                let dash = line.trim_start().starts_with("- ").then(|| line.find('-')).flatten();
                let dash = dash.filter(|at| *at >= from).map(|at| at + 2);
                dash.or_else(|| line[from..].find(['[', ',']).map(|at| from + at + 1))
            });
        }
        self.node(value)
    }

    fn find_key(&mut self, key: &str) {
        if self.find(|line, from| key_end(line, from, key)) {
            self.skip_block();
        }
    }

    /// Goes behind the next place that fits: `fits` takes a line and where in it to begin, and gives
    /// where the place ends. Stays when none fits.
    fn find(&mut self, fits: impl Fn(&str, usize) -> Option<usize>) -> bool {
        let (mut line, mut line_at, mut from) =
            (self.next_line, self.line_at, self.at - self.line_at);
        for text in self.text[line_at..].split_inclusive('\n') {
            let comment = text.trim_start().starts_with('#');
            if let Some(end) = fits(text, from.min(text.len())).filter(|_| !comment) {
                (self.line, self.next_line) = (line, line);
                (self.line_at, self.at) = (line_at, line_at + end);
                return true;
            }
            (line, line_at, from) = (line + 1, line_at + text.len(), 0);
        }
        false
    }

    /// Behind the key of a block of text (`|`, `>`) goes past the block: what is in it is no key.
    fn skip_block(&mut self) {
        let mut lines = self.text[self.line_at..].split_inclusive('\n');
        let first = lines.next().unwrap_or_default();
        let indicator = first[(self.at - self.line_at).min(first.len())..].trim();
        if !indicator.starts_with(['|', '>']) {
            return;
        }
        let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
        let (own, mut line, mut line_at) =
            (indent(first), self.line + 1, self.line_at + first.len());
        for text in lines {
            if !text.trim().is_empty() && text.len() - text.trim_start().len() <= own {
                break;
            }
            (line, line_at) = (line + 1, line_at + text.len());
        }
        (self.next_line, self.line_at, self.at) = (line, line_at, line_at);
    }
}

/// Where a key that stands on this line at or after `from` ends, with its colon.
fn key_end(line: &str, from: usize, key: &str) -> Option<usize> {
    for (at, _) in line.match_indices(key).filter(|(at, _)| *at >= from && !key.is_empty()) {
        let (before, after) = (&line[..at], &line[at + key.len()..]);
        let (before, after) = match before.chars().next_back() {
            Some(quote @ ('"' | '\'')) => {
                let Some(after) = after.strip_prefix(quote) else { continue };
                (&before[..at - 1], after)
            }
            _ => (before, after),
        };
        let colon = after.trim_start().starts_with(':');
        let block = before.chars().all(|c| c == ' ' || c == '-');
        let flow = before.contains('{') && before.trim_end().ends_with(['{', ',']);
        if colon && (block || flow) {
            return Some(line.len() - after.trim_start().len() + 1);
        }
    }
    None
}

fn scalar(value: &Yaml) -> String {
    match plain(value) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn plain(value: &Yaml) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_lines() {
        let text = "# name: no\napiVersion: v1\nspec:\n  name: a\n  query: |\n    name: not this\n\n    x\n  interval: 5\n---\nspec: {name: b, labels: [x]}\nlist:\n  - name: c\n  - 'name': d\n    deep:\n    - e\n";
        let documents = documents(text).unwrap();
        let spec = documents[0].get("spec").unwrap();
        let lines: Vec<_> =
            spec.members().iter().map(|(key, line, _)| (key.as_str(), *line)).collect();
        assert_eq!(lines, [("name", 4), ("query", 5), ("interval", 9)]);
        assert_eq!(documents[1].get("spec").unwrap().get("name").unwrap().line, 11);
        let Value::List(items) = &documents[1].get("list").unwrap().value else { panic!() };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [13, 14]);
        assert_eq!(items[1].get("deep").unwrap().line, 16);
    }

    #[test]
    fn faults_have_their_lines() {
        let (line, problem) = documents("a: 1\nb: [\nc: 2\n").unwrap_err();
        assert!(line >= 2, "{line}: {problem}");
        assert!(documents("").unwrap().is_empty());
        assert_eq!(documents("---\n---\na: 1\n").unwrap().len(), 1);
    }
}
