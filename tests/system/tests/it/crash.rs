//! kill -9 at random moments of hunts: nothing is lost, nothing comes twice.

use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use muster_testkit::{Server, ServerOptions, wait_for};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Ask, Fleet, SOON, companion, seed};

const AGENTS: u64 = 200;
const ROWS: u64 = 7;

/// `MUSTER_CRASH_ROUNDS`, for the long run; 5 without it.
fn rounds() -> u32 {
    let given = std::env::var("MUSTER_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(5)
}

#[test]
fn a_server_killed_at_any_moment_of_a_hunt() -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = Server::up(ServerOptions {
        env: vec![("MUSTER_AGENTS__ENROLMENTS_PER_SECOND".into(), "5000".into())],
        args: vec!["--no-agent".into()],
    })?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "200", "--canned", "7"])?;
    fleet.up(AGENTS, AGENTS)?;
    let mut hunts = Vec::new();
    for round in 0..rounds() {
        let rate = ["150", "20000"][rng.random_range(0..2)];
        let args = ["--sql", "SELECT pid, name FROM processes", "--rate", rate, "--canary", "0"];
        hunts.push(server.hunt(&args)?);
        // Deliveries, answers, segments and their commits are spread over these.
        let moment = Duration::from_millis(rng.random_range(0..1500));
        println!("round {round}: rate {rate}, killed after {moment:?}");
        std::thread::sleep(moment);
        server.kill();
        server.start()?;
    }
    for &hunt in &hunts {
        let covered = server.covered(hunt, "all to answer", |c| c.is_complete(AGENTS))?;
        assert!(covered.sums(), "{covered:?}");
        assert_eq!((covered.get("rows"), covered.get("row_count")), (AGENTS, AGENTS * ROWS));
        let outcomes = server.list(&["hunt", "outcomes", &hunt.to_string()])?;
        assert_eq!(outcomes.len() as u64, AGENTS);
    }
    fleet.up(AGENTS, AGENTS)?;
    for &hunt in &hunts {
        each_row_once(&server, hunt)?;
    }
    assert_eq!(server.list(&["agents"])?.len() as u64, AGENTS);
    let report = fleet.stop()?;
    // An answer is made once, however often it had to be sent; nobody was taken for a copy.
    assert_eq!(report["rekeys"], 0, "{report}");
    Ok(())
}

fn each_row_once(server: &Server, hunt: u64) -> anyhow::Result<()> {
    let counted = |table: &str, condition: &str| {
        server.sql(&format!(
            "SELECT count(*) AS n, count(DISTINCT agent) AS agents FROM {table} {condition}"
        ))
    };
    let Some(rows) = counted(&format!("hunt_{hunt}"), "")? else { return Ok(()) };
    assert_eq!(rows, [serde_json::json!({"n": AGENTS * ROWS, "agents": AGENTS})]);
    let ends = counted("collections", &format!("WHERE hunt = {hunt}"))?.unwrap_or_default();
    assert_eq!(ends, [serde_json::json!({"n": AGENTS, "agents": AGENTS})]);
    Ok(())
}

#[test]
fn an_agent_killed_in_the_middle_of_a_query() -> anyhow::Result<()> {
    const SLOW: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 4000000) \
                        SELECT count(*) AS n FROM c";
    let server = Server::up(ServerOptions::default())?;
    let agent = companion(&server)?;
    server.agent_online()?;
    let mut asking = server.command()?;
    asking.args(["query", SLOW, "-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let asking = asking.stderr(Stdio::piped()).spawn()?;
    wait_for("the agent to run the query", SOON, || {
        let children = std::fs::read_to_string(format!("/proc/{agent}/task/{agent}/children"))?;
        Ok((!children.trim().is_empty()).then_some(()))
    })?;
    let pid = i32::try_from(agent)?;
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    let output = asking.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    ensure!(matches!(code, Some(0 | 1 | 4)), "ended with {code:?}: {said}");
    let ended = server.covered(1, "its one outcome", |c| c.is_complete(1))?;
    assert!(ended.sums() && ended.get("row_count") <= 1, "{ended:?}");
    let again = companion(&server)?;
    assert_ne!(again, agent);
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    assert_eq!(server.list(&["agents"])?.len(), 1);
    Ok(())
}
