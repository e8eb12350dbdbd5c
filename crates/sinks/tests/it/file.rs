//! Files: once each, in order, whatever is killed.

use std::collections::BTreeMap;
use std::path::Path;

use muster_results::RowClass;
use muster_sinks::{Batch, Destination};
use serde_json::Value;

use crate::kit::{World, n_of, rows};

fn to(rotate_bytes: u64, keep: u32) -> Destination {
    Destination::File { file: "events.ndjson".to_owned(), rotate_bytes, keep }
}

/// The rows of a file and of those put aside, oldest first.
fn read(folder: &Path) -> Vec<Value> {
    let mut names: Vec<(u32, std::path::PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let n = path.extension().unwrap().to_str().unwrap().parse().unwrap_or(0);
        names.push((n, path));
    }
    names.sort();
    let mut values = Vec::new();
    for (_, path) in names.iter().rev() {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        values.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_once_and_in_its_agents_order_although_killed_again_and_again() {
    let mut world = World::new().await;
    let mut agents = Vec::new();
    for n in 0..4 {
        agents.push(world.endpoint(&format!("host-{n}"), "").await);
    }
    let mut new = World::new_sink("file", to(20_000, 1000));
    // Short batches, so that a kill mostly hits the middle of a record.
    new.batch = Batch { rows: 3, ..Batch::default() };
    world.add(&new).await;
    let mut next = 0;
    let mut running = world.start();
    for round in 0..30_u32 {
        for agent in &agents {
            world.commit("t", RowClass::Collected, &[(*agent, &rows(next..next + 7))]).await;
            next += 7;
        }
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        running.kill().await;
        running = world.start();
    }
    let done = world.until("file", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!(done.progress.delivered_rows, i64::from(next));
    let rows = read(&world.folder);
    let mut ids: Vec<&str> = rows.iter().map(|row| row["event"]["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!((all, ids.len()), (next as usize, next as usize), "no row twice, none missing");
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    for row in &rows {
        let agent = row["agent"]["id"].as_str().unwrap().to_owned();
        let before = last.insert(agent.clone(), n_of(row));
        assert!(before.is_none_or(|before| before < n_of(row)), "agent {agent} out of order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_is_cut_off_and_old_files_go() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    std::fs::create_dir_all(&world.folder).unwrap();
    std::fs::write(world.folder.join("events.ndjson"), "{\"event\":{\"id\":\"x\"}}\n{\"ev")
        .unwrap();
    world.add(&World::new_sink("file", to(4096, 2))).await;
    let running = world.start();
    world.commit("t", RowClass::Collected, &[(agent, &rows(0..100))]).await;
    world.until("file", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    let mut names: Vec<_> = std::fs::read_dir(&world.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["events.ndjson", "events.ndjson.1", "events.ndjson.2"]);
    let rows = read(&world.folder);
    assert_eq!(n_of(rows.last().unwrap()), 99);
    assert!(rows.len() < 100, "the oldest are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_holder_changes_nothing() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    world.add(&World::new_sink("file", to(1 << 20, 1))).await;
    let older = world.start();
    world.commit("t", RowClass::Collected, &[(agent, &rows(0..5))]).await;
    world.until("file", "first rows", |status| status.progress.delivered_rows == 5).await;
    let newer = world.start();
    for n in 1..20 {
        world.commit("t", RowClass::Collected, &[(agent, &rows(n * 5..n * 5 + 5))]).await;
    }
    let status = world.until("file", "all rows done", |status| status.lag_rows == 0).await;
    assert_eq!(status.progress.delivered_rows, 100, "each counted once");
    older.stop().await;
    newer.stop().await;
}
