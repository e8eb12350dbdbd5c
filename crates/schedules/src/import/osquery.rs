//! osquery's own files: packs, and whole configurations.

use serde_json::{Map, Value, json};

use super::json::{self, Node, Value as Json};
use super::query::{self, Pack};
use super::{Import, Kind, Place, Unreadable};
use crate::check::{SECTIONS, check_sections};

/// Options that osquery reads from its command line or flag file only.
const COMMAND_LINE: [&str; 9] = [
    "config_plugin",
    "config_refresh",
    "config_tls_",
    "config_path",
    "enroll_",
    "tls_",
    "carver_",
    "disable_carver",
    "logger_plugin",
];
/// Options that say where an agent's server is: those of the old one would lead agents away.
const OF_THE_SERVER: [&str; 3] =
    ["logger_tls_endpoint", "distributed_tls_read_endpoint", "distributed_tls_write_endpoint"];

/// Reads files that a configuration names.
pub type Load<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads a pack or a whole configuration. A pack bears the name given; so does the part of the
/// configuration that is neither schedule nor pack.
///
/// # Errors
/// [`Unreadable`] when the file is not JSON as osquery reads it.
pub fn read(file: &str, text: &str, name: &str, load: Load<'_>) -> Result<Import, Unreadable> {
    let node = parse(file, text)?;
    let mut import = Import::default();
    if node.get("queries").is_some() && node.get("schedule").is_none() {
        pack(&mut import, file, name, &node, Place { file: file.to_owned(), line: node.line });
    } else {
        config(&mut import, file, name, &node, load);
    }
    Ok(import.finish())
}

fn parse(file: &str, text: &str) -> Result<Node, Unreadable> {
    let node = json::parse(text).map_err(|(line, problem)| Unreadable {
        place: Place { file: file.to_owned(), line },
        problem,
    })?;
    match node.value {
        Json::Object(_) => Ok(node),
        _ => Err(Unreadable {
            place: Place { file: file.to_owned(), line: node.line },
            problem: "is no JSON object".to_owned(),
        }),
    }
}

/// The queries of a pack.
pub(super) fn pack(import: &mut Import, file: &str, name: &str, node: &Node, at: Place) {
    let what = format!("pack {name:?}");
    let read = match head(name, node) {
        Ok(pack) => pack,
        Err(reason) => return import.skip(what, reason, at),
    };
    let queries = node.get("queries").map(Node::members).unwrap_or_default();
    if queries.is_empty() {
        return import.skip(what, "has no queries", at);
    }
    for (query, line, node) in queries {
        let at = Place { file: file.to_owned(), line: *line };
        query::schedule(import, &read, query, node, at);
    }
}

fn head(name: &str, node: &Node) -> Result<Pack, String> {
    let discovery = match node.get("discovery").map(Node::plain) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            let all: Option<Vec<String>> = items.iter().map(text).collect();
            all.ok_or("discovery holds something that is no text")?
        }
        Some(_) => return Err("discovery is no list".to_owned()),
    };
    let shard = match node.get("shard") {
        None => 100,
        Some(shard) => query::integer(shard)
            .and_then(|n| u8::try_from(n).ok())
            .filter(|n| (1..=100).contains(n))
            .ok_or_else(|| format!("shard {} is no percentage", shard.plain()))?,
    };
    Ok(Pack {
        // A slash divides pack and name in what agents report.
        name: name.replace('/', "-"),
        platforms: query::text(node, "platform")?.parse()?,
        version: query::text(node, "version")?,
        shard,
        discovery,
        ..Pack::default()
    })
}

/// A whole configuration; its sections become one part of ours.
pub(super) fn config(import: &mut Import, file: &str, name: &str, node: &Node, load: Load<'_>) {
    let place = |line| Place { file: file.to_owned(), line };
    let (mut sections, mut first) = (Map::new(), 0);
    for (key, line, section) in node.members() {
        match key.as_str() {
            "schedule" => {
                for (query, line, node) in section.members() {
                    query::schedule(import, &Pack::default(), query, node, place(*line));
                }
            }
            "packs" => packs(import, file, section, load),
            key if SECTIONS.contains(&key) => {
                if first == 0 {
                    first = *line;
                }
                let value = match key {
                    "options" => options(import, file, section),
                    _ => section.plain(),
                };
                let empty = value.as_object().is_some_and(Map::is_empty);
                let one = Map::from_iter([(key.to_owned(), value.clone())]);
                if let Err(error) = check_sections(&one) {
                    import.skip(format!("section {key:?}"), error.to_string(), place(*line));
                } else if !empty && !value.is_null() {
                    sections.insert(key.to_owned(), value);
                }
            }
            key => {
                let reason = "is no section of osquery's configuration";
                import.skip(format!("section {key:?}"), reason, place(*line));
            }
        }
    }
    if !sections.is_empty() {
        let body = json!({"label": "", "platforms": "", "precedence": 0, "config": sections});
        let body = body.as_object().cloned().unwrap_or_default();
        import.want(Kind::OsqueryConfig, name, body, place(first));
    }
}

/// What is left of the options.
pub(super) fn options(import: &mut Import, file: &str, node: &Node) -> Value {
    let mut kept = Map::new();
    for (name, line, value) in node.members() {
        let begins =
            |prefix: &str| name == prefix || (prefix.ends_with('_') && name.starts_with(prefix));
        let reason =
            if COMMAND_LINE.iter().any(|prefix| begins(prefix)) || name.starts_with("watchdog_") {
                "is read from the flag file only (muster generate osquery-flags)"
            } else if OF_THE_SERVER.contains(&name.as_str()) {
                "says where the old server is; the flag file says it for this one"
            } else if name == "pack_delimiter" {
                "is always / here; names of packed queries are pack/PACK/NAME"
            } else {
                kept.insert(name.clone(), value.plain());
                continue;
            };
        let at = Place { file: file.to_owned(), line: *line };
        import.skip(format!("option {name:?}"), reason, at);
    }
    Value::Object(kept)
}

fn packs(import: &mut Import, file: &str, node: &Node, load: Load<'_>) {
    for (name, line, node) in node.members() {
        let at = Place { file: file.to_owned(), line: *line };
        match (&node.value, node.text()) {
            (Json::Object(_), _) => pack(import, file, name, node, at),
            (_, Some(path)) => match read_pack(path, load) {
                Ok(node) => {
                    pack(
                        import,
                        path,
                        name,
                        &node,
                        Place { file: path.to_owned(), line: node.line },
                    );
                }
                Err(reason) => import.skip(format!("pack {name:?}"), reason, at),
            },
            _ => import.skip(format!("pack {name:?}"), "is neither a pack nor a path", at),
        }
    }
}

fn read_pack(path: &str, load: Load<'_>) -> Result<Node, String> {
    if path.contains('*') {
        return Err(format!("{path:?} names several files; import them one by one"));
    }
    let text = load(path)?;
    parse(path, &text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::report;

    fn none(path: &str) -> Result<String, String> {
        Err(format!("{path}: no such file"))
    }

    #[test]
    fn a_pack_with_everything() {
        let text = r#"{
  // what the whole pack says
  "platform": "posix", "version": "5.0.0", "shard": 50,
  "discovery": ["SELECT 1 FROM processes WHERE name = 'sshd'"],
  "queries": {
    "users": {"query": "SELECT * FROM users;", "interval": "600", "removed": false},
    "keys": {"query": "SELECT * \
      FROM user_ssh_keys", "interval": 60, "snapshot": true, "platform": "linux", "shard": 80,
      "version": "5.10.1", "denylist": false, "description": "who has keys"},
    "win": {"query": "SELECT 1", "interval": 60, "platform": "windows"},
    "empty": {"query": "", "interval": 60},
    "never": {"query": "SELECT 1", "interval": 0},
    "odd": {"query": "SELECT 1", "intervall": 60},
  },
}"#;
        insta::assert_snapshot!(report(&read("ssh.conf", text, "ssh", &none).unwrap()));
    }

    #[test]
    fn a_whole_configuration() {
        let text = r##"{
  "options": {"logger_tls_period": 10, "config_refresh": 60, "pack_delimiter": "_", "logger_tls_endpoint": "/old"},
  "schedule": {"uptime": {"query": "SELECT * FROM uptime", "interval": 3600}},
  "decorators": {"load": ["SELECT uuid AS host_uuid FROM system_info"]},
  "packs": {
    "in": {"queries": {"a": {"query": "SELECT 1", "interval": 60}}},
    "file": "packs/file.conf",
    "gone": "packs/gone.conf",
    "many": "packs/*.conf",
  },
  "colours": {},
}"##;
        let load = |path: &str| match path {
            "packs/file.conf" => {
                Ok("{\n\"queries\": {\n\"b\": {\"query\": \"SELECT 2\", \"interval\": 60}}}"
                    .to_owned())
            }
            path => none(path),
        };
        insta::assert_snapshot!(report(&read("osquery.conf", text, "osquery", &load).unwrap()));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line() {
        let error = read("x.conf", "{\n\"queries\": [}", "x", &none).unwrap_err();
        assert_eq!(error.to_string(), "x.conf:2: \"}\" is no JSON value");
    }
}
