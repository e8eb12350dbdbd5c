//! The present state in SQL: steps of many parts, merged or not, come to what there is.

use std::sync::Arc;
use std::time::Duration;

use muster_archive::compaction::{CompactOptions, compact_once};
use muster_results::{Origin, RowClass, RowFormat, SegmentBuilder, Step, TableSpec};
use muster_types::{Access, ColumnType};

use crate::kit::{NOW, ORG, World, meta, spec};

fn current(name: &str, columns: &[(&str, ColumnType)]) -> Arc<TableSpec> {
    let spec = spec(name, columns);
    Arc::new(TableSpec { class: RowClass::Current, ..(*spec).clone() })
}

fn software() -> Arc<TableSpec> {
    let text = ColumnType::Text;
    current("inventory_software_current", &[("name", text), ("version", text), ("source", text)])
}

/// A step of an agent's source, as the fold writes it: `name version` each.
fn step(
    segment: &mut SegmentBuilder,
    agent: u32,
    second: i64,
    generation: u32,
    step: Step,
    rows: &[&str],
) {
    let (table, meta, source) = (software(), meta(agent, 0, second), "inventory.software.deb");
    let origin = |step| Origin::Current { source, generation, step };
    let mark = if step == Step::Gap { Step::Gap } else { Step::Mark };
    segment.append_row_from(&table, &meta, origin(mark), &[]);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (name, version) = row.split_once(' ').unwrap();
            serde_json::json!({"name": name, "version": version, "source": "deb"})
        })
        .collect();
    if !rows.is_empty() {
        let json = serde_json::to_vec(&rows).unwrap();
        segment.append_from(&table, &meta, origin(step), RowFormat::Array, &json).unwrap();
    }
}

async fn publish(world: &World, steps: &[(u32, i64, u32, Step, &[&str])]) {
    let mut segment = SegmentBuilder::new();
    for (agent, second, generation, kind, rows) in steps {
        step(&mut segment, *agent, *second, *generation, *kind, rows);
    }
    world.publish(segment).await;
}

async fn compact(world: &World) -> u32 {
    let options =
        CompactOptions { min_age: Duration::ZERO, min_parts: 1, ..CompactOptions::default() };
    let (mut merges, at) = (0, NOW.plus(Duration::from_secs(60)));
    while compact_once(&world.temp.catalog, &world.archive, &options, at).await.unwrap().is_some() {
        merges += 1;
    }
    merges
}

const ALL: &str = "SELECT endpoint_name, name, version,
    CAST(EXTRACT(EPOCH FROM first_seen) AS BIGINT) - 1800000000 AS first,
    CAST(EXTRACT(EPOCH FROM last_seen) AS BIGINT) - 1800000000 AS last, complete
    FROM software ORDER BY endpoint_name, name, version";

/// The lines of a printed table without its frame.
fn lines(table: &str) -> Vec<String> {
    let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
        .collect()
}

#[tokio::test]
async fn what_there_is_is_the_same_before_and_after_every_merge() {
    let world = World::new().await;
    assert_eq!(world.one("SELECT count(*) FROM software").await, "0", "before anybody told");
    publish(
        &world,
        &[
            (1, 1, 1, Step::Add, &["openssl 3.0.9", "bash 5.2", "bash 5.2"]),
            (2, 2, 1, Step::Add, &["openssl 3.0.14"]),
            (3, 3, 1, Step::Add, &["bash 5.1"]),
            (4, 3, 1, Step::Add, &["gone 1"]),
        ],
    )
    .await;
    let first = [
        "board-three bash 5.1 3 3 true",
        "dev-one bash 5.2 1 1 true",
        "dev-one bash 5.2 1 1 true",
        "dev-one openssl 3.0.9 1 1 true",
        "dev-two openssl 3.0.14 2 2 true",
    ];
    assert_eq!(lines(&world.all(ALL).await), first);
    assert_eq!(compact(&world).await, 2, "into buckets, and into bases");
    assert_eq!(lines(&world.all(ALL).await), first);
    // One is patched, one is followed with a gap, one has nothing left, one is unchanged.
    publish(
        &world,
        &[
            (1, 11, 1, Step::Remove, &["openssl 3.0.9", "bash 5.2"]),
            (1, 11, 1, Step::Add, &["openssl 3.0.15"]),
            (2, 12, 1, Step::Gap, &[]),
        ],
    )
    .await;
    publish(&world, &[(3, 13, 2, Step::Mark, &[]), (4, 14, 1, Step::Mark, &[])]).await;
    let second = [
        "dev-one bash 5.2 1 11 true",
        "dev-one openssl 3.0.15 11 11 true",
        "dev-two openssl 3.0.14 2 12 false",
    ];
    assert_eq!(lines(&world.all(ALL).await), second);
    assert!(compact(&world).await > 0);
    assert_eq!(lines(&world.all(ALL).await), second);
    // A new state keeps what is known of equal rows.
    publish(&world, &[(2, 20, 2, Step::Add, &["openssl 3.0.14", "curl 8.5"])]).await;
    let third = ["dev-two curl 8.5 20 20 true", "dev-two openssl 3.0.14 2 20 true"];
    assert_eq!(lines(&world.all(ALL).await)[2..], third);
    assert!(compact(&world).await > 0);
    assert_eq!(lines(&world.all(ALL).await)[2..], third);
}

#[tokio::test]
async fn filters_are_asked_of_the_parts_and_change_nothing() {
    let world = World::new().await;
    for second in 0..4 {
        let rows = [format!("openssl 3.0.{second}"), format!("p{second} 1")];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let before = format!("openssl 3.0.{}", second - 1);
        publish(&world, &[(1, second, 1, Step::Add, &rows), (2, second, 1, Step::Add, &rows)])
            .await;
        if second > 0 {
            publish(&world, &[(1, second, 1, Step::Remove, &[&before])]).await;
        }
        if second == 2 {
            compact(&world).await;
        }
    }
    let one = async |sql: &str| world.one(sql).await;
    assert_eq!(one("SELECT count(*) FROM software").await, "13");
    assert_eq!(one("SELECT count(*) FROM software WHERE name = 'openssl'").await, "5");
    assert_eq!(
        one("SELECT count(*) FROM software WHERE name = 'openssl' AND agent = 1").await,
        "1"
    );
    assert_eq!(
        one("SELECT version FROM software WHERE name = 'openssl' AND endpoint = 1").await,
        "3.0.3"
    );
    let below =
        "SELECT count(*) FROM software WHERE name = 'openssl' AND version_lt(version, '3.0.2')";
    assert_eq!(one(below).await, "2");
    assert_eq!(one("SELECT count(*) FROM software WHERE endpoint_name = 'dev-two'").await, "8");
    assert_eq!(one("SELECT count(*) FROM software WHERE last_seen > first_seen").await, "9");
    assert_eq!(one("SELECT version_compare('1.0~rc1', '1.0')").await, "-1");
    assert_eq!(
        one("SELECT count(DISTINCT _source) FROM inventory_software_current").await,
        "1",
        "the source is there by name"
    );
    let head = world.all("SELECT * FROM software LIMIT 1").await;
    let head: Vec<_> = head.lines().nth(1).unwrap().split('|').map(str::trim).collect();
    assert_eq!(
        head[1..11],
        [
            "endpoint_name",
            "endpoint",
            "agent",
            "agent_kind",
            "name",
            "version",
            "source",
            "arch",
            "vendor",
            "path"
        ]
    );
}

#[tokio::test]
async fn what_is_gone_makes_no_question_fail() {
    let world = World::new().await;
    publish(&world, &[(1, 1, 1, Step::Add, &["p abc", "p 1"]), (2, 1, 1, Step::Add, &["p x"])])
        .await;
    publish(&world, &[(1, 2, 1, Step::Remove, &["p abc"]), (2, 2, 2, Step::Add, &["p 2"])]).await;
    let sql = "SELECT sum(CAST(version AS BIGINT)) FROM software WHERE CAST(version AS BIGINT) > 0";
    assert_eq!(world.one(sql).await, "3");
    compact(&world).await;
    assert_eq!(world.one(sql).await, "3");
    publish(&world, &[(2, 3, 3, Step::Mark, &[])]).await;
    assert_eq!(world.one(sql).await, "1", "the base of a former state");
}

#[tokio::test]
async fn an_asker_sees_the_state_of_its_endpoints_only() {
    let world = World::new().await;
    publish(
        &world,
        &[
            (1, 1, 1, Step::Add, &["a 1"]),
            (2, 1, 1, Step::Add, &["b 1"]),
            (3, 1, 1, Step::Add, &["c 1"]),
            (4, 1, 1, Step::Add, &["d 1"]),
        ],
    )
    .await;
    for _ in 0..2 {
        let board = world.labelled("board").await;
        let seen = world.ask(&board, "SELECT name FROM software").await.unwrap();
        assert_eq!(lines(&seen), ["c"]);
        let nobody = Access { org: ORG, agents: Some([].into_iter().collect()) };
        let seen = world.ask(&nobody, "SELECT count(*) FROM software").await.unwrap();
        assert_eq!(lines(&seen), ["0"]);
        assert_eq!(
            world.one("SELECT count(*) FROM software").await,
            "3",
            "deleted endpoints vanish"
        );
        compact(&world).await;
    }
}

#[tokio::test]
async fn a_name_is_found_in_few_pages() {
    let world = World::empty().await;
    let mut segment = SegmentBuilder::new();
    for agent in 1..=20 {
        let rows: Vec<String> = (0..3_000).map(|n| format!("p{n:04} {agent}")).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        // Of one bucket.
        step(&mut segment, agent * 16, 1, 1, Step::Add, &rows);
    }
    world.publish(segment).await;
    compact(&world).await;
    let sql = "SELECT version FROM software WHERE name = 'p0007'";
    assert_eq!(lines(&world.all(sql).await).len(), 20);
    let plan = world.all(&format!("EXPLAIN ANALYZE {sql}")).await;
    assert!(plan.contains("page_index_pages_pruned=3 total → 1 matched"), "{plan}");
}
