//! Every built-in artifact with a source for this agent fits its tables, and gives what it declares.

use std::collections::BTreeMap;

use muster_agent::query::{Bounds, Engine};
use muster_agent::tables;
use muster_artifact::builtin;
use muster_types::AgentKind;
use serde_json::json;

#[test]
fn sources_of_built_in_artifacts_fit_the_tables() {
    let engine = Engine::open(tables::all(), None).unwrap();
    let bounds = Bounds { rows_max: 1, bytes_max: 1 << 20 };
    for artifact in builtin() {
        let Some(source) = artifact.sources.get(&AgentKind::Native) else { continue };
        let required = artifact.parameters.iter().filter(|parameter| parameter.required);
        let given: BTreeMap<_, _> = required.map(|p| (p.name.clone(), json!("/"))).collect();
        let bound = serde_json::to_value(artifact.bind(&given).unwrap()).unwrap();
        let values = serde_json::from_value(bound).unwrap();
        // Compiled and bound, not run over the disk of this machine.
        let sql = format!("SELECT * FROM ({}\n) LIMIT 0", source.query);
        let answer = engine.run(&sql, &values, bounds, &mut |_, _| Ok(()));
        assert!(answer.result.is_ok(), "{}: {:?}", artifact.name, answer.result);
        let made: Vec<_> = answer.columns.iter().map(|column| &column.name).collect();
        let declared: Vec<_> = artifact.columns.iter().map(|column| &column.name).collect();
        assert_eq!(made, declared, "{}", artifact.name);
    }
}
