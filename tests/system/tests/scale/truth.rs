//! What must hold after every fault.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, ensure};
use muster_testkit::{Instance, wait_for};
use serde_json::{Value, json};

use crate::support::{Ask, Coverage, SOON};
use crate::world::{Hunts, World};

/// The tag of a row of an osquery host's own making, which is in no other line.
const TAG: &str = "split_part(split_part(columns, '\"instance_id\":\"', 2), '\"', 1)";

/// One outcome per endpoint, every acknowledged row once, the evidence on its carriers only, and no
/// log line lost or doubled.
pub fn holds(world: &mut World, hunts: &Hunts, operator: usize) -> anyhow::Result<()> {
    for hunt in [hunts.found, hunts.many] {
        one_outcome_each(world.cluster.instance(operator), hunt, world.agents)?;
        let rows = world.native.acked(hunt, world.agents)?;
        each_row_once(world.cluster.instance(operator), hunt, rows)?;
    }
    let lines = Lines::taken(&world.osquery.wait("a report", |_| true)?);
    let operator = world.cluster.instance(operator);
    evidence(world, operator, hunts.found)?;
    lines.are_stored(operator, false)
}

/// Every recruited endpoint has one outcome, and the outcomes sum to the scope.
fn one_outcome_each(operator: &Instance, hunt: u64, agents: u64) -> anyhow::Result<()> {
    let all = |c: &Coverage| c.is_complete(agents);
    let covered = operator
        .covered(hunt, "all to answer", all)
        .or_else(|_| operator.covered(hunt, "all to answer, twice as long", all))?;
    ensure!(covered.sums(), "hunt {hunt}: {covered:?}");
    ensure!(covered.get("rows") + covered.get("empty") == agents, "hunt {hunt}: {covered:?}");
    let outcomes = operator.list(&["hunt", "outcomes", &hunt.to_string()])?;
    let endpoints: HashSet<u64> = outcomes.iter().filter_map(|o| o["endpoint"].as_u64()).collect();
    let counted = (outcomes.len() as u64, endpoints.len() as u64);
    ensure!(counted == (agents, agents), "hunt {hunt}: outcomes and endpoints {counted:?}");
    Ok(())
}

/// The rows agents were told are stored, in the hunt's count and in the segments.
fn each_row_once(operator: &Instance, hunt: u64, rows: u64) -> anyhow::Result<()> {
    let covered = operator.coverage(hunt)?;
    ensure!(covered.get("row_count") == rows, "hunt {hunt}: {rows} acknowledged: {covered:?}");
    let count = format!("SELECT count(*) AS n FROM hunt_{hunt}");
    if let Some(found) = operator.sql(&count)? {
        ensure!(found == [json!({"n": rows})], "hunt {hunt}: {rows} acknowledged, {found:?}");
    }
    Ok(())
}

/// The evidence is found on its carriers, and nowhere else.
fn evidence(world: &World, operator: &Instance, hunt: u64) -> anyhow::Result<()> {
    let with_rows = operator.list(&["hunt", "outcomes", &hunt.to_string(), "--outcome", "rows"])?;
    let names = with_rows.iter().filter_map(|outcome| outcome["name"].as_str());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    ensure!(names == world.planted, "found on {names:?}, planted on {:?}", world.planted);
    Ok(())
}

/// The scheduled task that keeps a label in step, which runs every 45 seconds, added each carrier once
/// and removed nobody, whichever schedulers came and went meanwhile. Looked at when all faults are
/// over: the history keeps what happened under each.
pub fn applied_once(world: &World, label: &str) -> anyhow::Result<()> {
    let operator = world.operator_instance();
    let wanted = world.planted.len();
    let mut history = Vec::new();
    let added = |history: &[Value]| -> Vec<String> {
        let added = history.iter().filter_map(|change| change["added"].as_array()).flatten();
        added.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
    };
    // A rule is asked every 45 seconds, and at once on a hint that may be lost.
    let waited = wait_for("the label to follow its rule", SOON, || {
        history = operator.list(&["label", "rule", "history", label])?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok((added(&history).len() >= wanted).then_some(()))
    });
    waited.with_context(|| format!("{label}: {history:?}"))?;
    let names = added(&history);
    let distinct: BTreeSet<String> = names.iter().cloned().collect();
    ensure!(names.len() == wanted && distinct == world.planted, "{label}: {history:?}");
    let removed = history.iter().filter_map(|change| change["removed_count"].as_u64());
    ensure!(removed.sum::<u64>() == 0, "{label}: {history:?}");
    Ok(())
}

/// Lines of osquery hosts' own making that the server took.
struct Lines {
    own: u64,
    status: u64,
}

impl Lines {
    fn taken(report: &Value) -> Self {
        let taken = |of: &str| report["taken_of"][of].as_u64().unwrap_or_default();
        Self { own: taken("own"), status: taken("status") }
    }

    /// At least these are there, each once; at the end, when nobody sends any more, exactly these.
    fn are_stored(&self, operator: &Instance, exactly: bool) -> anyhow::Result<()> {
        let own = "FROM osquery_other WHERE name = 'loadgen_osquery_info'";
        let words = "FROM agent_log WHERE message LIKE '%Executing scheduled query osq-%'";
        for (from, tag, taken) in [(own, TAG, self.own), (words, "message", self.status)] {
            let question = format!("SELECT COUNT(*) AS n, COUNT(DISTINCT {tag}) AS tags {from}");
            let mut last = Value::Null;
            let waited = wait_for("lines in SQL", SOON, || {
                let Some(rows) = operator.sql(&question)? else { return Ok(Some(())) };
                last = rows.into_iter().next().unwrap_or_default();
                if last["n"] != last["tags"] {
                    let twice = format!(
                        "SELECT * FROM (SELECT *, COUNT(*) OVER (PARTITION BY {tag}) AS times, \
                         {tag} AS tag {from}) AS t WHERE times > 1 ORDER BY tag LIMIT 8"
                    );
                    let twice = operator.sql(&twice)?.unwrap_or_default();
                    anyhow::bail!("lines came twice: {:#}", Value::from(twice));
                }
                Ok((last["n"].as_u64() >= Some(taken)).then_some(()))
            });
            waited.with_context(|| format!("{taken} lines were taken {from}: {last}"))?;
            let same = last.is_null() || last["n"] == taken;
            ensure!(same || !exactly, "{taken} lines were taken {from}: {last}");
        }
        Ok(())
    }
}

/// Ends agents in order: what they still have goes out, and what they were told is there.
pub fn last(world: World) -> anyhow::Result<()> {
    // What is not named stays until the end: stores, and the folder of the clock.
    let World { native, mut osquery, ref cluster, agents, hosts, .. } = world;
    osquery.say("storm")?;
    let report = osquery.stop()?;
    for none in ["lines_buffered", "lines_forgotten", "node_invalid"] {
        ensure!(report[none] == 0, "{none}: {report}");
    }
    ensure!(
        report["lost"] == json!({}) && report["lines_made"] == report["lines_taken"],
        "{report}"
    );
    let operator = cluster.instances().iter().find(|one| one.has_role("api"));
    let operator = operator.context("nobody serves people")?;
    let lines = Lines::taken(&report);
    println!("{} result lines and {} status lines, each once", lines.own, lines.status);
    lines.are_stored(operator, true)?;
    let native = native.stop()?;
    ensure!(native["rekeys"] == 0, "an agent was taken for a copy: {native}");
    println!("agents sent {} batches; errors they saw: {}", native["batches"], native["errors"]);
    let listed = operator.list(&["agents"])?.len() as u64;
    ensure!(listed == agents + hosts, "{listed} agents");
    Ok(())
}
