//! What monitoring sees: metrics that parse and keep their conventions, a dashboard and alerts that
//! name only metrics there are, and a readiness that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_testkit::{Server, ServerOptions};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: bool,
    unit: Option<String>,
    samples: BTreeSet<String>,
}

/// OpenMetrics 1.0, strictly enough: every sample belongs to the family before it, and the text ends.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut ended = false;
    for line in text.lines() {
        assert!(!ended, "{line} after the end");
        if line == "# EOF" {
            ended = true;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let value = words.next().unwrap_or_default();
            if name != current {
                assert!(!families.contains_key(name), "{name} comes twice");
                name.clone_into(&mut current);
            }
            let family = families.entry(name.to_owned()).or_default();
            match what {
                "HELP" => family.help = !value.trim().is_empty(),
                "TYPE" => value.clone_into(&mut family.kind),
                "UNIT" => family.unit = Some(value.to_owned()),
                other => panic!("{other} is not OpenMetrics: {line}"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
        let (name, rest) = line.split_at(end);
        let value = if rest.starts_with('{') {
            let close = rest.rfind('}').unwrap_or_else(|| panic!("labels do not end: {line}"));
            for label in rest[1..close].split("\",") {
                assert!(label.contains("=\""), "{line}");
            }
            &rest[close + 1..]
        } else {
            rest
        };
        let value = value.trim();
        assert!(value.parse::<f64>().is_ok(), "{value} is no number: {line}");
        assert!(name.starts_with(&current), "{name} in the family {current}");
        families.get_mut(&current).unwrap().samples.insert(name.to_owned());
    }
    assert!(ended, "the text has no end");
    families
}

/// Names of metrics in an expression: whatever begins as ours do.
fn named(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_word(c));
    let ours = |word: &&str| word.starts_with("muster_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn metrics_keep_their_conventions_and_what_is_shown_exists() {
    let server = Server::up(ServerOptions::default()).unwrap();
    // A sink has its metrics only where there is one.
    let file = ["sink", "add", "file", "seen", "seen.ndjson"];
    server.ok(&file).unwrap();
    muster_testkit::wait_for("the sink's metrics", std::time::Duration::from_secs(60), || {
        Ok(server.health("/metrics")?.contains("sink=\"seen\"").then_some(()))
    })
    .unwrap();
    let answer = server.health("/metrics").unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("openmetrics-text"), "{head}");
    let text = body(head, text);
    let families = parse(&text);
    let mut samples = BTreeSet::new();
    for (name, family) in &families {
        assert!(family.help, "{name} has no help");
        let known = ["counter", "gauge", "histogram", "info"];
        assert!(known.contains(&family.kind.as_str()), "{name} is a {}", family.kind);
        if let Some(unit) = &family.unit {
            assert!(name.ends_with(&format!("_{unit}")), "{name} is in {unit}");
        }
        for unit in ["bytes", "seconds"] {
            let says = name.ends_with(&format!("_{unit}"));
            assert_eq!(says, family.unit.as_deref() == Some(unit), "{name}");
        }
        for abbreviation in ["_ms", "_micros", "_kb", "_mb"] {
            assert!(!name.ends_with(abbreviation), "{name} is in no base unit");
        }
        if family.kind == "counter" {
            assert!(family.samples.iter().all(|sample| sample.ends_with("_total")), "{name}");
        }
        samples.extend(family.samples.iter().cloned());
    }
    println!("{} families, {} lines", families.len(), text.lines().count());
    assert!(text.lines().count() < 3000, "labels are bounded");
    for file in ["deploy/grafana/muster.json", "deploy/prometheus/alerts.yml"] {
        let shown = std::fs::read_to_string(root().join(file)).unwrap();
        for name in named(&shown) {
            assert!(samples.contains(&name), "{file} names {name}, which is not there");
        }
    }
}

/// A body that came in chunks is put together.
fn body(head: &str, text: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return text.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole.push_str(&more[..length]);
        rest = &more[length + 2..];
    }
    whole
}

#[test]
fn every_alert_says_what_to_do() {
    let file = root().join("deploy/prometheus/alerts.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 20, "{}", alerts.len());
    for alert in alerts {
        for key in ["expr:", "for:", "severity:", "summary:", "remedy:"] {
            assert!(alert.contains(key), "no {key} in {alert}");
        }
    }
    let dashboard = std::fs::read(root().join("deploy/grafana/muster.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "{panel} has the id of another");
        let described = panel["description"].as_str().is_some_and(|text| !text.is_empty());
        assert!(described || panel["type"] == "row", "{panel} says nothing");
    }
    match Command::new("promtool").args(["check", "rules"]).arg(&file).output() {
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => eprintln!("not checked by promtool: it is not installed"),
    }
}

#[test]
fn readiness_says_why() {
    let mut server = Server::up(ServerOptions::default()).unwrap();
    let ready = server.health("/readyz?verbose").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("catalog: ok"), "{ready}");
    assert!(server.health("/livez").unwrap().ends_with("alive\n"));
    server.stop().unwrap();
}
