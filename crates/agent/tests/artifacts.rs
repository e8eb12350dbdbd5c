//! Every built-in artifact with a source for this agent fits its tables, and gives what it declares.

use std::collections::BTreeMap;

use muster_agent::query::{Answer, Bounds, Engine};
use muster_agent::tables;
use muster_artifact::{Artifact, builtin};
use muster_types::AgentKind;
use serde_json::json;

fn native() -> impl Iterator<Item = &'static Artifact> {
    builtin().iter().filter(|artifact| artifact.sources.contains_key(&AgentKind::Native))
}

fn run(engine: &Engine, artifact: &Artifact, rows: &str) -> Answer {
    let required = artifact.parameters.iter().filter(|parameter| parameter.required);
    let given: BTreeMap<_, _> = required.map(|p| (p.name.clone(), json!("/"))).collect();
    let bound = serde_json::to_value(artifact.bind(&given).unwrap()).unwrap();
    let values = serde_json::from_value(bound).unwrap();
    let query = &artifact.sources[&AgentKind::Native].query;
    let bounds = Bounds { rows_max: 1_000_000, bytes_max: 1 << 30 };
    engine.run(&format!("SELECT * FROM ({query}\n) {rows}"), &values, bounds, &mut |_, _| Ok(()))
}

#[test]
fn sources_of_built_in_artifacts_fit_the_tables() {
    let engine = Engine::open(tables::all(), None).unwrap();
    for artifact in native() {
        let answer = run(&engine, artifact, "LIMIT 0");
        assert!(answer.result.is_ok(), "{}: {:?}", artifact.name, answer.result);
        let made: Vec<_> = answer.columns.iter().map(|column| &column.name).collect();
        let declared: Vec<_> = artifact.columns.iter().map(|column| &column.name).collect();
        assert_eq!(made, declared, "{}", artifact.name);
    }
}

/// Run for real, except those that read whatever lies about on the disk of this machine.
#[test]
fn they_run_to_their_end_and_constrain_what_they_read() {
    for artifact in native().filter(|artifact| !artifact.name.starts_with("linux.files.")) {
        let engine = Engine::open(tables::all(), None).unwrap();
        let answer = run(&engine, artifact, "");
        assert!(answer.result.is_ok(), "{}: {:?}", artifact.name, answer.result);
        let refused = engine.warnings().into_iter().find(|w| w.contains("gives no rows unless"));
        assert_eq!(refused, None, "{}", artifact.name);
    }
}
