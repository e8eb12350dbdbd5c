//! Hunts over a simulated fleet: exact outcomes, planted evidence, and what operators may do to them.

use std::collections::{BTreeSet, HashSet};
use std::process::Stdio;

use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::Value;

use crate::support::{Ask, Coverage, Fleet, SOON};

const FOUND: &str = "SELECT path, command FROM crontab WHERE command LIKE '%203.0.113.66%'";

fn server() -> anyhow::Result<Server> {
    Server::up(ServerOptions {
        env: vec![("MUSTER_AGENTS__ENROLMENTS_PER_SECOND".into(), "5000".into())],
        args: vec!["--no-agent".into()],
    })
}

#[test]
fn a_hunt_finds_all_that_was_planted() -> anyhow::Result<()> {
    let server = server()?;
    let args = ["--endpoints", "300", "--offline", "20", "--failing", "4", "--seed", "7"];
    let mut fleet = Fleet::start(&server, &[&args[..], &["--plant", "cron-dropper=3"]].concat())?;
    fleet.up(300, 280)?;

    nothing_is_created_by_asking(&server)?;
    let hunt = server.hunt(&["--sql", FOUND, "--rate", "2000"])?;
    let online = server.covered(hunt, "those online to answer", |c| c.get("ended") == 280)?;
    assert!(online.sums(), "{online:?}");
    assert_eq!((online.get("total"), online.get("waiting")), (300, 20), "{online:?}");
    assert_eq!(online.get("failed"), 4, "{online:?}");
    sql_counts_the_same(&server, hunt, &online)?;

    fleet.say("online")?;
    let all = server.covered(hunt, "those that came back", |c| c.is_complete(300))?;
    assert!(all.sums(), "{all:?}");
    // One that fails may carry the evidence; all others with evidence answer with it.
    let failing = server.list(&["hunt", "outcomes", &hunt.to_string(), "--outcome", "failed"])?;
    let failing: BTreeSet<&str> = failing.iter().filter_map(|f| f["name"].as_str()).collect();
    let planted = fleet.plants["cron-dropper"].as_array().unwrap();
    assert_eq!(planted.len(), 3);
    let found = planted.iter().filter_map(Value::as_str).filter(|name| !failing.contains(name));
    let found: BTreeSet<&str> = found.collect();
    let expected = found.len() as u64;
    let counted = ["failed", "rows", "empty", "row_count"].map(|key| all.get(key));
    assert_eq!(counted, [4, expected, 296 - expected, expected], "{all:?}");

    let outcomes = server.list(&["hunt", "outcomes", &hunt.to_string()])?;
    let distinct: HashSet<u64> = outcomes.iter().filter_map(|o| o["endpoint"].as_u64()).collect();
    assert_eq!((outcomes.len(), distinct.len()), (300, 300));
    let with_rows = outcomes.iter().filter(|o| o["outcome"] == "rows");
    let with_rows: BTreeSet<&str> = with_rows.filter_map(|o| o["name"].as_str()).collect();
    assert_eq!(with_rows, found);

    sql_counts_the_same(&server, hunt, &all)?;
    asked_live(&server, &found)?;
    results_are_exact(&server, hunt, expected)?;

    // Machines that enrol while the hunt lives are asked as well.
    let mut late = Fleet::start(&server, &["--endpoints", "10", "--first", "300", "--seed", "7"])?;
    late.up(10, 10)?;
    let late = server.covered(hunt, "latecomers", |c| c.is_complete(310))?;
    assert_eq!((late.get("empty"), late.get("row_count")), (306 - expected, expected), "{late:?}");
    assert_eq!(fleet.stop()?["errors"], serde_json::json!({}));
    Ok(())
}

/// `--dry-run` and a question without `--yes` say how many, and leave nothing.
fn nothing_is_created_by_asking(server: &Server) -> anyhow::Result<()> {
    let sentence = wait_for("presence", SOON, || {
        let told = server.ok(&["hunt", "start", "linux.persistence.cron", "--dry-run"])?;
        Ok(Some(told).filter(|told| told.contains("280 online")))
    })?;
    assert_eq!(sentence, "300 match: 280 online, 20 offline\n");
    let err = server.refused(&["hunt", "start", "linux.persistence.cron"], 2)?;
    assert!(err.contains("300 match") && err.contains("--yes"), "{err}");
    let err = server.refused(&["query", "SELECT 1"], 2)?;
    assert!(err.contains("280") && err.contains("--yes"), "{err}");
    assert_eq!(server.list(&["hunt", "list"])?, Vec::<Value>::new());
    Ok(())
}

/// The same as a live query: rows come with the names of their endpoints; exit 4 since some failed.
fn asked_live(server: &Server, found: &BTreeSet<&str>) -> anyhow::Result<()> {
    let told = server.tell(&["query", FOUND, "--yes", "-o", "json"])?;
    assert_eq!(told.code, 4, "{told:?}");
    assert!(told.err.contains("simulated failure"), "{told:?}");
    let rows: Vec<Value> = serde_json::from_str(&told.out)?;
    let names: BTreeSet<&str> = rows.iter().filter_map(|row| row["endpoint"].as_str()).collect();
    assert_eq!((&names, rows.len()), (found, found.len()));
    Ok(())
}

/// `hunts` in SQL says what `hunt coverage` does, also of endpoints that have no task yet.
fn sql_counts_the_same(server: &Server, hunt: u64, coverage: &Coverage) -> anyhow::Result<()> {
    let counts = "waiting, running, rows, empty, failed, timed_out, unsupported, cancelled, expired, retired, row_count";
    let said = server.sql(&format!("SELECT {counts} FROM hunts WHERE hunt = {hunt}"))?;
    let Some([said]) = said.as_deref() else { return Ok(()) };
    for count in counts.split(", ") {
        assert_eq!(said[count].as_u64(), Some(coverage.get(count)), "{count}: {said} {coverage:?}");
    }
    Ok(())
}

fn results_are_exact(server: &Server, hunt: u64, expected: u64) -> anyhow::Result<()> {
    let rows = format!("SELECT count(*) AS n, count(DISTINCT agent) AS a FROM hunt_{hunt}");
    let Some(rows) = server.sql(&rows)? else { return Ok(()) };
    assert_eq!(rows, [serde_json::json!({"n": expected, "a": expected})]);
    let ends = format!(
        "SELECT count(*) AS n, count(DISTINCT agent) AS a FROM collections WHERE hunt = {hunt}"
    );
    let ends = server.sql(&ends)?.unwrap_or_default();
    assert_eq!(ends, [serde_json::json!({"n": 300, "a": 300})]);
    Ok(())
}

#[test]
fn ctrl_c_ends_a_question_on_the_server_too() -> anyhow::Result<()> {
    let server = server()?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "3"])?;
    fleet.up(3, 3)?;
    fleet.say("mute")?;
    let mut command = server.command()?;
    command.args(["query", "SELECT 1 AS one", "--timeout", "5m"]);
    let mut asking = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let running = wait_for("a question that nobody answers", SOON, || {
        let hunts = server.list(&["hunt", "list"])?;
        let no = hunts.first().and_then(|hunt| hunt["no"].as_u64());
        let Some(no) = no else { return Ok(None) };
        Ok((server.coverage(no)?.get("running") == 3).then_some(no))
    })?;
    let pid = rustix::process::Pid::from_child(&asking);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let ended = wait_for("the command to end", SOON, || Ok(asking.try_wait()?))?;
    assert_eq!(ended.code(), Some(130));
    let shown = server.json(&["hunt", "show", &running.to_string()])?;
    assert_eq!(shown["hunt"]["state"], "stopped", "{shown}");
    Ok(())
}

#[test]
fn a_hunt_that_goes_wrong_pauses_itself_and_says_why() -> anyhow::Result<()> {
    let server = server()?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "120"])?;
    fleet.up(120, 120)?;
    // Every tenth of the first wave would be too many; here all fail.
    let wrong = ["--sql", "SELECT * FROM no_such_table", "--canary", "20", "--rate", "20"];
    let hunt = server.hunt(&wrong)?;
    let no = hunt.to_string();
    let shown = wait_for("the hunt to pause itself", SOON, || {
        let shown = server.json(&["hunt", "show", &no])?;
        Ok((shown["hunt"]["state"] == "paused").then_some(shown))
    })?;
    let why = shown["hunt"]["pause_reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("errors: "), "{why}");
    let paused = server
        .covered(hunt, "what runs to end", |c| c.get("running") == 0 && c.get("failed") >= 20)?;
    assert!(paused.get("waiting") > 0, "{paused:?}");
    let said = format!("SELECT DISTINCT message FROM collections WHERE hunt = {no}");
    if let Some(said) = server.sql(&said)? {
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0]["message"].to_string().contains("no such table"), "{said:?}");
    }

    // As does one that brings too much.
    let args =
        ["--sql", "SELECT pid, name FROM processes", "--canary", "5", "--pause-total", "1 KiB"];
    let many = server.hunt(&args)?.to_string();
    let shown = wait_for("the second hunt to pause itself", SOON, || {
        let shown = server.json(&["hunt", "show", &many])?;
        Ok((shown["hunt"]["state"] == "paused").then_some(shown))
    })?;
    let why = shown["hunt"]["pause_reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("total: "), "{why}");
    Ok(())
}

#[test]
fn a_hunt_is_paused_resumed_extended_and_stopped() -> anyhow::Result<()> {
    let server = server()?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "120"])?;
    fleet.up(120, 120)?;
    // A minute for all of them, so that there is somebody left at every step.
    let hunt = server.hunt(&["linux.processes", "--rate", "2", "--canary", "0"])?;
    let no = hunt.to_string();
    let recruited = server.covered(hunt, "the first", |c| c.get("recruited") > 0)?;
    assert!(recruited.get("recruited") < 120, "{recruited:?}");
    server.ok(&["hunt", "pause", &no, "--reason", "too loud"])?;
    let shown = server.json(&["hunt", "show", &no])?;
    assert_eq!(shown["hunt"]["state"], "paused", "{shown}");
    assert!(shown.to_string().contains("too loud"), "{shown}");
    let paused = server.covered(hunt, "what runs to end", |c| {
        c.get("running") == 0 && c.get("ended") == c.get("recruited")
    })?;
    // A whole other question is answered meanwhile, and nobody was recruited.
    let told = server.tell(&["query", "SELECT 1 AS one", "--yes", "-o", "csv"])?;
    assert_eq!((told.code, told.out.lines().count()), (0, 121), "{told:?}");
    let still = server.coverage(hunt)?;
    assert_eq!(still.get("recruited"), paused.get("recruited"));

    server.ok(&["hunt", "resume", &no])?;
    server.covered(hunt, "more", |c| c.get("recruited") > paused.get("recruited"))?;
    let before = shown["hunt"]["expires_at"].clone();
    server.ok(&["hunt", "extend", &no, "20days"])?;
    let shown = server.json(&["hunt", "show", &no])?;
    assert!(shown["hunt"]["expires_at"].as_str() > before.as_str(), "{shown}");

    server.ok(&["hunt", "stop", &no, "--reason", "seen enough"])?;
    let stopped = server.covered(hunt, "the end", |c| c.is_complete(120))?;
    assert!(stopped.sums() && stopped.get("cancelled") > 0, "{stopped:?}");
    assert_eq!(stopped.get("rows") + stopped.get("cancelled"), 120, "{stopped:?}");
    sql_counts_the_same(&server, hunt, &stopped)?;
    // Every task has its row, also one that was never handed out.
    let tasks = format!("SELECT count(*) AS n FROM collections WHERE hunt = {hunt}");
    if let Some(tasks) = server.sql(&tasks)? {
        assert_eq!(tasks, [serde_json::json!({"n": stopped.get("recruited")})]);
    }
    let err = server.refused(&["hunt", "resume", &no], 1)?;
    assert!(err.contains("stopped"), "{err}");
    server.ok(&["hunt", "delete", &no, "--yes"])?;
    server.refused(&["hunt", "show", &no], 1)?;
    Ok(())
}

/// An agent that takes its task and says nothing more does not keep a hunt open.
#[test]
fn a_silent_agent_is_timed_out() -> anyhow::Result<()> {
    let server = server()?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "6", "--silent", "2", "--seed", "3"])?;
    fleet.up(6, 6)?;
    let hunt = server.hunt(&["linux.processes", "--task-timeout", "2s"])?;
    let done = server.covered(hunt, "the silent ones to be given up", |c| c.is_complete(6))?;
    assert_eq!(["rows", "timed_out"].map(|key| done.get(key)), [4, 2], "{done:?}");
    Ok(())
}
