//! Agents that answer for others, twice, and what nobody asked: they say it in well-formed messages, and it
//! is worth nothing.

use std::collections::BTreeSet;

use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::json;

use crate::support::{Ask, Fleet, SOON};

const ALL: u64 = 40;
const LIARS: u64 = 5;
const ROWS: u64 = 3;
const LIE: &str = "a lie";

#[test]
fn an_agent_that_lies_is_believed_about_itself_alone() -> anyhow::Result<()> {
    let server =
        Server::up(ServerOptions { args: vec!["--no-agent".into()], ..ServerOptions::default() })?;
    let (all, liars, rows) = (ALL.to_string(), LIARS.to_string(), ROWS.to_string());
    let args = ["--endpoints", &all, "--lying", &liars, "--canned", &rows, "--seed", "7"];
    let mut fleet = Fleet::start(&server, &args)?;
    fleet.up(ALL, ALL)?;

    // One that nobody is asked yet, one of all, and the next one of nobody again: liars answer all three.
    let nobody = ["--sql", "SELECT 1 AS pid", "--where", "hostname = 'not yet enrolled'"];
    let before = server.hunt(&nobody)?;
    let hunt = server.hunt(&["--sql", "SELECT pid FROM processes", "--canary", "0"])?;
    let done = server.covered(hunt, "all answers", |c| c.is_complete(ALL))?;
    assert!(done.sums(), "{done:?}");
    assert_eq!(done.get("rows"), ALL, "{done:?}");
    assert_eq!(fleet.acked(hunt, ALL)?, ALL * ROWS, "all were told that their answers are stored");
    let after = server.hunt(&nobody)?;
    assert_eq!((before + 1, hunt + 1), (hunt, after));
    // What was said of `after` before it was there, and is said of it now, is nobody's answer. A liar that
    // said it had answered is not asked at once: that is its own affair.
    let again = server.hunt(&["--sql", "SELECT pid FROM processes", "--canary", "0"])?;
    let honest = ALL - LIARS;
    let done = server.covered(again, "honest answers", |c| c.get("rows") >= honest)?;
    assert!(done.sums(), "{done:?}");
    for asked_of_nobody in [before, after] {
        let coverage = server.coverage(asked_of_nobody)?;
        assert_eq!((coverage.get("ended"), coverage.get("row_count")), (0, 0), "{coverage:?}");
    }

    // They are served on, as is everybody; nothing fell over.
    assert_eq!(server.metric("muster_gateway_sessions")?, ALL as f64);
    let told =
        server.tell(&["query", "SELECT pid FROM processes", "--timeout", "20s", "-o", "json"])?;
    assert!(matches!(told.code, 0 | 4), "{told:?}");
    let live: Vec<serde_json::Value> = serde_json::from_str(&told.out)?;
    let (lies, truths): (Vec<_>, Vec<_>) = live.iter().partition(|row| row["pid"] == LIE);
    let endpoints = |rows: &[&serde_json::Value]| -> BTreeSet<String> {
        rows.iter().map(|row| row["endpoint"].to_string()).collect()
    };
    assert!(truths.iter().all(|row| row["pid"].is_number()), "{truths:?}");
    assert_eq!(truths.len() as u64, endpoints(&truths).len() as u64 * ROWS);
    assert!(endpoints(&truths).len() as u64 >= honest && endpoints(&lies).len() as u64 <= LIARS);

    let errors =
        "SELECT count(DISTINCT agent) AS liars, count(DISTINCT message) AS lies FROM errors";
    let told = wait_for("what was refused to be told", SOON, || {
        let Some(told) = server.sql(errors)? else { return Ok(Some(None)) };
        Ok((told[0]["liars"] == LIARS).then_some(Some(told)))
    })?;
    let Some(told) = told else { return Ok(()) };
    assert!(told[0]["lies"].as_u64() >= Some(4), "{told:?}");
    // What the liars added to their own answers is theirs, and late; true rows kept type and number.
    let true_rows = format!(
        "SELECT count(*) AS n, count(DISTINCT agent) AS a, min(pid) >= '1000' AS numbers \
         FROM hunt_{hunt} WHERE NOT late"
    );
    let counted = server.sql(&true_rows)?.unwrap_or_default();
    assert_eq!(counted, [json!({"n": ALL * ROWS, "a": ALL, "numbers": true})]);
    let late = format!("SELECT count(DISTINCT agent) AS a FROM hunt_{hunt} WHERE late");
    assert_eq!(server.sql(&late)?.unwrap_or_default(), [json!({"a": LIARS})]);
    for hunt in [hunt, again] {
        let of_honest = format!(
            "SELECT count(*) AS n, count(DISTINCT agent) AS a FROM hunt_{hunt} \
             WHERE agent NOT IN (SELECT agent FROM errors)"
        );
        let counted = server.sql(&of_honest)?.unwrap_or_default();
        assert_eq!(counted, [json!({"n": honest * ROWS, "a": honest})]);
        let ends = format!(
            "SELECT count(*) = count(DISTINCT agent) AS one_each, count(DISTINCT outcome) AS outcomes \
             FROM collections WHERE hunt = {hunt} AND message <> '{LIE}'"
        );
        let ends = server.sql(&ends)?.unwrap_or_default();
        assert_eq!(ends, [json!({"one_each": true, "outcomes": 1})]);
    }
    Ok(())
}
