//! What is known of an osquery endpoint without anybody asking by hand: vitals, policies, labels by rule.

use muster_testkit::{Server, ServerOptions, wait_for};

use crate::support::{Ask, Osqueryd, SOON};

#[test]
fn an_osquery_endpoint_is_known_checked_and_labelled() -> anyhow::Result<()> {
    let options = ServerOptions { args: vec!["--no-agent".into()], ..ServerOptions::default() };
    let server = Server::up(options)?;
    let root = "SELECT 1 FROM users WHERE uid = '0'";
    let nobody = "SELECT 1 FROM users WHERE uid = '4000000000'";
    let unknown = "SELECT 1 FROM no_such_table";
    for (name, query) in [("root is there", root), ("nobody", nobody), ("cannot tell", unknown)] {
        server.json(&["policy", "add", name, "--query", query])?;
    }
    let agent = Osqueryd::enrol(&server, "web-1")?;
    let mut asked = Vec::new();
    wait_for("its questions", SOON, || {
        asked.extend(agent.cycle()?);
        Ok(asked.iter().any(|sql| sql.contains("FROM system_info")).then_some(()))
    })?;
    assert!(asked.iter().any(|sql| sql == root), "{asked:?}");
    // A policy of the same second is asked again; then there is nothing for an hour.
    wait_for("nothing more to ask", SOON, || Ok(agent.cycle()?.is_empty().then_some(())))?;
    server.refused(&["endpoint", "refetch", "1"], 0)?;
    wait_for("to be asked again", SOON, || {
        Ok(agent.cycle()?.iter().any(|sql| sql == root).then_some(()))
    })?;
    if server.sql("SELECT 1 AS one")?.is_none() {
        return Ok(());
    }

    let mut shown = serde_json::Value::Null;
    wait_for("vitals", SOON, || {
        shown = server.json(&["endpoint", "show", "1"])?;
        // It bears the name that its vitals tell, once the directory has followed.
        let hostname = &shown["vitals"]["system"][0]["hostname"];
        Ok((hostname.is_string() && *hostname == shown["name"]).then_some(()))
    })?;
    let users = server.list(&["endpoint", "users", "1"])?;
    assert!(users.iter().any(|user| user["username"] == "root"), "{users:?}");
    wait_for("policies", SOON, || {
        let mut states: Vec<_> = server
            .list(&["endpoint", "policies", "1"])?
            .iter()
            .map(|policy| policy["state"].as_str().unwrap_or_default().to_owned())
            .collect();
        states.sort();
        Ok((states == ["fail", "pass", "unknown"]).then_some(()))
    })?;
    let failing = server.list(&["policy", "failing", "nobody"])?;
    assert_eq!(failing.len(), 1, "{failing:?}");
    let counted = server.list(&["policy", "list"])?;
    assert_eq!((&counted[0]["pass"], &counted[0]["pending"]), (&1.into(), &0.into()));

    let rule = "SELECT endpoint FROM inventory_users_current WHERE username = 'root'";
    server.json(&["label", "create", "has-root"])?;
    let preview = server.json(&["label", "rule", "preview", rule])?;
    assert_eq!(preview["endpoint_count"], 1, "{preview}");
    server.json(&["label", "rule", "set", "has-root", rule])?;
    wait_for("the label", SOON, || {
        let labels = server.list(&["label", "list"])?;
        let labelled =
            |label: &serde_json::Value| label["name"] == "has-root" && label["endpoint_count"] == 1;
        Ok(labels.iter().any(labelled).then_some(()))
    })?;
    let history = server.list(&["label", "rule", "history", "has-root"])?;
    assert_eq!(history[0]["added"][0]["no"], 1, "{history:?}");
    Ok(())
}
