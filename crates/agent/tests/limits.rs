//! Queries in real child processes: answers, and what happens at each limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_agent::query::{Command, Finished, Limits, Request, Runner};
use muster_types::Outcome;
use tokio_util::sync::CancellationToken;

/// The example program, which cargo builds together with the tests.
fn child() -> Command {
    let mut program: PathBuf = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/agent-query");
    assert!(program.exists(), "{} is missing: run `cargo test -p muster-agent`", program.display());
    Command { program, args: Vec::new() }
}

async fn run(sql: &str, limits: Limits) -> (Finished, Vec<serde_json::Value>) {
    run_until(sql, limits, &CancellationToken::new()).await
}

async fn run_until(
    sql: &str,
    limits: Limits,
    cancel: &CancellationToken,
) -> (Finished, Vec<serde_json::Value>) {
    let request = Request { sql: sql.into(), params: [].into(), limits, parent_pid: None };
    let mut rows = Vec::new();
    let mut sink = |_, json: Bytes| {
        rows.extend(serde_json::from_slice::<Vec<serde_json::Value>>(&json)?);
        Ok(())
    };
    let finished = Runner::new(child()).run(request, cancel, &mut sink).await.unwrap();
    assert_eq!(finished.row_count, rows.len() as u64);
    (finished, rows)
}

const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";

#[tokio::test]
async fn rows_come_back_from_another_process() {
    let sql = "SELECT pid, name, parent, nice FROM processes WHERE name LIKE 'agent-query%'";
    let (finished, rows) = run(sql, Limits::default()).await;
    assert_eq!((finished.outcome, finished.message.as_str()), (None, ""));
    let own = rustix::process::nice(0).unwrap();
    // Tests beside this one have children too, some of which have just begun.
    let is_ours = |row: &serde_json::Value| {
        row["parent"] == std::process::id()
            && row["pid"] != std::process::id()
            && row["nice"] == (own + 10).min(19)
    };
    assert!(rows.iter().any(is_ours), "{rows:?}");
    assert!(finished.spent.elapsed_micros > 0);
}

#[tokio::test]
async fn sqlites_words_and_warnings_reach_the_caller() {
    let (finished, _) = run("SELECT * FROM procesess", Limits::default()).await;
    assert_eq!(finished.outcome, Some(Outcome::Failed));
    assert_eq!(finished.message, "no such table: procesess; did you mean processes?");
    let (finished, _) = run("SELECT * FROM hash", Limits::default()).await;
    assert_eq!(finished.outcome, None);
    assert!(finished.message.contains("gives no rows unless"), "{}", finished.message);
}

#[tokio::test]
async fn an_endless_query_is_killed_in_time() {
    let limits = Limits { timeout_ms: 300, ..Limits::default() };
    let start = Instant::now();
    let (finished, _) = run(&format!("{ENDLESS} SELECT count(*) FROM n"), limits).await;
    assert_eq!(finished.outcome, Some(Outcome::TimedOut));
    assert_eq!(finished.message, "time limit of 300 ms reached");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn memory_is_bounded() {
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let hogs = [
        "SELECT hex(zeroblob(400000000))".to_owned(),
        "SELECT group_concat(a.name || hex(zeroblob(100000))) FROM pragma_function_list a, \
         pragma_function_list b"
            .to_owned(),
        format!("{ENDLESS} SELECT x, randomblob(1000) AS b FROM n ORDER BY b"),
        "SELECT sha256(replace(hex(zeroblob(30000000)), '0', '0000'))".to_owned(),
        "SELECT to_base64(zeroblob(60000000))".to_owned(),
    ];
    for sql in hogs {
        let (finished, rows) = run(&sql, limits).await;
        assert_eq!(finished.outcome, Some(Outcome::Failed), "{sql}");
        assert!(finished.message.contains("memory limit"), "{sql}: {}", finished.message);
        assert_eq!(rows.len(), 0);
    }
}

#[tokio::test]
async fn rows_and_bytes_are_bounded_and_what_came_before_is_kept() {
    let limits = Limits { rows: 1000, ..Limits::default() };
    let (finished, rows) = run(&format!("{ENDLESS} SELECT x FROM n"), limits).await;
    assert_eq!((finished.outcome, rows.len()), (Some(Outcome::Failed), 1000));
    assert_eq!(finished.message, "row limit of 1000 reached");
    let limits = Limits { bytes: 1_000_000, ..Limits::default() };
    let (finished, rows) = run(&format!("{ENDLESS} SELECT x FROM n"), limits).await;
    assert_eq!(finished.message, "byte limit of 1000000 reached");
    assert!(rows.len() > 50_000, "{}", rows.len());
    let limits = Limits { rows: 3, ..Limits::default() };
    let (finished, _) = run("VALUES (1), (2), (3)", limits).await;
    assert_eq!((finished.outcome, finished.row_count), (None, 3));
}

#[tokio::test]
async fn a_cancelled_query_ends_at_once() {
    let cancel = CancellationToken::new();
    let sql = format!("{ENDLESS} SELECT count(*) FROM n");
    let (finished, ()) = tokio::join!(run_until(&sql, Limits::default(), &cancel), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert_eq!(finished.0.outcome, Some(Outcome::Cancelled));
}

#[tokio::test]
async fn many_rows_come_in_several_arrays_and_in_order() {
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) \
               SELECT x FROM n";
    let (finished, rows) = run(sql, Limits::default()).await;
    assert_eq!(finished.outcome, None);
    assert!(rows.iter().enumerate().all(|(at, row)| row["x"] == at + 1));
    assert_eq!(rows.len(), 200_000);
}

#[tokio::test]
async fn a_child_that_is_no_child_of_ours_is_reported() {
    let command = Command { program: "/bin/true".into(), args: Vec::new() };
    let request = Request {
        sql: "SELECT 1".into(),
        params: [].into(),
        limits: Limits::default(),
        parent_pid: None,
    };
    let cancel = CancellationToken::new();
    let finished = Runner::new(command).run(request, &cancel, &mut |_, _| Ok(())).await.unwrap();
    assert_eq!(finished.outcome, Some(Outcome::Failed));
    assert!(finished.message.contains("process ended"), "{}", finished.message);
}
