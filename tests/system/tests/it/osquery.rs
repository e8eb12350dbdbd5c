//! An osquery agent against the real server: enrolled over HTTPS, asked by hunt and live query, with a
//! schedule, its rows in SQL.

use anyhow::Context as _;
use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::{Value, json};

use crate::support::{Ask, Osqueryd, SOON};

fn server() -> anyhow::Result<Server> {
    Server::up(ServerOptions { args: vec!["--no-agent".into()], ..ServerOptions::default() })
}

/// An agent that has polled, so that it is online.
fn agent(server: &Server) -> anyhow::Result<Osqueryd> {
    let agent = Osqueryd::enrol(server, "web-1")?;
    wait_for("the agent to be online", SOON, || {
        agent.cycle()?;
        let agents = server.list(&["agents"])?;
        Ok(agents.iter().any(|agent| agent["online"] == true).then_some(()))
    })?;
    Ok(agent)
}

#[test]
fn an_osquery_agent_answers_hunts() -> anyhow::Result<()> {
    let server = server()?;
    let agent = agent(&server)?;
    let hunt = server.hunt(&["--sql", "SELECT pid, name FROM processes WHERE pid = 1"])?;
    let failing = server.hunt(&["--sql", "SELECT * FROM no_such_table"])?;
    for (hunt, outcome) in [(hunt, "rows"), (failing, "failed")] {
        wait_for(outcome, SOON, || {
            agent.cycle()?;
            let args = ["hunt", "outcomes", &hunt.to_string(), "--outcome", outcome];
            Ok((server.list(&args)?.len() == 1).then_some(()))
        })?;
    }
    if let Some(rows) = server.sql(&format!("SELECT pid, agent_kind FROM hunt_{hunt}"))? {
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["agent_kind"], "osquery");
    }
    let cost = "SELECT status, elapsed_us, user_us, system_us, memory_bytes FROM collections \
                WHERE hunt > 0 ORDER BY hunt";
    if let Some(rows) = server.sql(cost)? {
        let cost = |status: i64| {
            json!({"status": status, "elapsed_us": 7000, "user_us": 5000, "system_us": 1000,
                "memory_bytes": 4096})
        };
        assert_eq!(rows, [cost(0), cost(1)]);
    }
    Ok(())
}

#[test]
fn a_live_query_streams_an_osquery_agents_rows() -> anyhow::Result<()> {
    let server = server()?;
    let agent = agent(&server)?;
    std::thread::scope(|scope| {
        let sql = "SELECT pid, 'asked' AS marker FROM processes WHERE pid = 1";
        let asked = scope.spawn(|| server.tell(&["query", sql, "--yes", "-o", "json"]));
        wait_for("the live query", SOON, || {
            Ok(agent.cycle()?.iter().any(|sql| sql.contains("marker")).then_some(()))
        })?;
        let told = asked.join().expect("the asker does not panic")?;
        let rows: Vec<Value> = serde_json::from_str(&told.out)?;
        assert_eq!((told.code, rows.len()), (0, 1), "{told:?}");
        assert_eq!(rows[0]["marker"], "asked");
        Ok(())
    })
}

#[test]
fn an_osquery_agent_runs_its_schedule_and_its_rows_are_in_sql() -> anyhow::Result<()> {
    let server = server()?;
    let agent = agent(&server)?;
    let sql = "SELECT pid, name FROM processes WHERE pid = 1";
    server.json(&["schedule", "add", "first_process", "--sql", sql, "--mode", "snapshot"])?;
    wait_for("the schedule", SOON, || {
        Ok(agent.run_schedule()?.contains(&"first_process".to_owned()).then_some(()))
    })?;
    // Sent again, as after an answer that was lost.
    agent.run_schedule()?;
    let shown = server.json(&["schedule", "show", "first_process"])?;
    let table = shown["table"].as_str().context("a schedule has a table")?.to_owned();
    if server.sql("SELECT 1 AS one")?.is_none() {
        return Ok(());
    }
    let sql = format!("SELECT pid, name FROM {table}");
    let rows: Vec<Value> = wait_for("the rows", SOON, || {
        let told = server.tell(&["sql", &sql, "-o", "json"])?;
        // The table is there as soon as its first rows are.
        if told.err.contains("there is no table") {
            return Ok(None);
        }
        anyhow::ensure!(told.code == 0, "{told:?}");
        Ok(Some(serde_json::from_str(&told.out)?).filter(|rows: &Vec<Value>| !rows.is_empty()))
    })?;
    assert_eq!(rows.len(), 1, "what was sent twice is there once: {rows:?}");
    Ok(())
}

#[test]
fn an_osquery_agent_goes_on_after_a_restart_and_a_foreign_one_enrols() -> anyhow::Result<()> {
    let mut server = server()?;
    let mut agent = agent(&server)?;
    server.stop()?;
    server.start()?;
    assert_eq!(agent.call("log", json!({"data": [], "log_type": "result"}))?, json!({}));
    agent.key = "6W9x0yTjGZ0Jz4q8mNbV2cL5kR7tYh1U".to_owned();
    assert_eq!(agent.call("config", json!({}))?["node_invalid"], true);
    agent.renew()?;
    assert!(agent.call("config", json!({}))?.get("error").is_none());
    assert_eq!(server.list(&["endpoints"])?.len(), 1, "the same as before");
    Ok(())
}
