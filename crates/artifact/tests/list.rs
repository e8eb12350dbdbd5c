//! The page of documentation that lists the built-in artifacts is made from them.

use std::fmt::Write as _;

use muster_artifact::{Artifact, Parameter, Platform, builtin};

/// The second word of names, as a heading.
fn heading(artifact: &Artifact) -> &str {
    match artifact.name.split('.').nth(1).unwrap_or_default() {
        "browser" => "Browsers",
        "containers" => "Containers",
        "devices" => "Devices",
        "events" => "Events",
        "execution" => "Traces of execution",
        "files" => "Files",
        "logs" => "Logs",
        "network" => "Network",
        "persistence" => "Persistence",
        "processes" => "Processes",
        "software" => "Software",
        "system" => "System",
        "users" => "Users",
        other => panic!("{}: no heading for {other}", artifact.name),
    }
}

fn parameter(parameter: &Parameter) -> String {
    let name = &parameter.name;
    match &parameter.default {
        _ if parameter.required => format!("**`{name}`**"),
        Some(serde_json::Value::String(text)) => format!("`{name}` ({text})"),
        Some(value) => format!("`{name}` ({value})"),
        None => format!("`{name}`"),
    }
}

fn page() -> String {
    let mut page = "\
# Built-in artifacts

This page is made by `cargo xtask generate`. `muster artifact show NAME` tells what each collects,
what a hunter looks for in it and what is normal; [Artifacts](artifacts.md) tells how to write one.
Required parameters are bold; behind the others stands what holds when they are not given.
Artifacts whose names differ in the platform alone have the same columns.
"
    .to_owned();
    for platform in Platform::ALL {
        let of: Vec<_> = builtin().iter().filter(|a| a.is_for(platform.as_str())).collect();
        write!(page, "\n## {} ({})\n", platform.title(), of.len()).unwrap();
        let mut under = "";
        for artifact in of {
            if under != heading(artifact) {
                under = heading(artifact);
                write!(page, "\n### {under}\n\n| name | collects | parameters | agents |\n")
                    .unwrap();
                page.push_str("|---|---|---|---|\n");
            }
            let kinds: Vec<_> = artifact.sources.keys().map(ToString::to_string).collect();
            let parameters: Vec<_> = artifact.parameters.iter().map(parameter).collect();
            let (name, title) = (&artifact.name, &artifact.title);
            let (parameters, kinds) = (parameters.join(", "), kinds.join(", "));
            writeln!(page, "| `{name}` | {title} | {parameters} | {kinds} |").unwrap();
        }
    }
    page
}

#[test]
fn generated_page_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/artifact-list.md");
    if std::env::var_os("MUSTER_REGENERATE").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == page(), "{path} is stale; run `cargo xtask generate`");
}
