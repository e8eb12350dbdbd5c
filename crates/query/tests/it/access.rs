//! What a scoped asker gets to know: nothing of others.

use muster_catalog::Priority;
use muster_types::{Access, HuntNo, OrgId, Outcome};

use crate::kit::{ORG, World, one};

/// Words that stand only in rows of endpoints outside the label `dev`.
const FOREIGN: [&str; 5] = ["board", "three", "gone", "192.0.2.3", "192.0.2.4"];

#[tokio::test]
async fn nothing_of_others_appears_anywhere() {
    let world = World::new().await;
    let dev = world.labelled("dev").await;
    let shown = world
        .ask(&dev, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        .await
        .unwrap();
    let tables: Vec<String> = shown
        .lines()
        .skip(3)
        .filter_map(|line| line.split('|').nth(1))
        .map(|name| name.trim().to_owned())
        .collect();
    for expected in [
        "agents",
        "endpoints",
        "hunts",
        "labels",
        "collections",
        "errors",
        "agent_log",
        "hunt_1",
        "hunt_2",
        "linux_processes",
    ] {
        assert!(tables.iter().any(|name| name == expected), "{expected} in {tables:?}");
    }
    assert!(!tables.contains(&"hunt_3".to_owned()));
    for table in &tables {
        for sql in [
            format!("SELECT * FROM {table}"),
            format!("SELECT count(*) FROM {table}"),
            format!(
                "SELECT count(*), count(DISTINCT t) FROM (SELECT arrow_typeof(1) AS t, * FROM {table})"
            ),
            format!("SELECT * FROM {table} a JOIN endpoints e ON true"),
            format!(
                "SELECT * FROM {table} a LEFT JOIN agents g ON true LEFT JOIN labels l ON true"
            ),
            format!("SELECT * FROM (SELECT * FROM {table} UNION ALL SELECT * FROM {table})"),
            format!("EXPLAIN SELECT * FROM {table}"),
            format!("DESCRIBE {table}"),
            format!("SELECT nothing FROM {table}"),
            format!("SELECT * FROM {table}x"),
            format!("SELECT * FROM {table} WHERE bord-three = 1"),
        ] {
            let answer = match world.ask(&dev, &sql).await {
                Ok(answer) => answer,
                Err(error) => error.chain(),
            };
            for word in FOREIGN {
                assert!(!answer.contains(word), "{sql}: {word} in\n{answer}");
            }
        }
    }
    for sql in [
        "SHOW TABLES",
        "SHOW ALL",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
    ] {
        let answer = world.ask(&dev, sql).await.unwrap_or_else(|error| error.chain());
        assert!(!FOREIGN.iter().any(|word| answer.contains(word)), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn errors_quote_no_row_of_others() {
    let world = World::new().await;
    let board = world.labelled("board").await;
    for sql in [
        "SELECT * FROM linux_processes WHERE CAST(cmdline AS INT) = 1",
        "SELECT CAST(cmdline AS INT) FROM linux_processes",
        "SELECT pid FROM hunt_1 WHERE CAST(cmdline AS INT) = 1 AND pid > 0",
    ] {
        let said = world.ask(&board, sql).await.unwrap_err().chain();
        assert!(said.contains("board-three"), "{sql}: {said}");
        assert!(!said.contains("dev-"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn filters_below_the_cut_change_no_answer() {
    let world = World::new().await;
    let board = world.labelled("board").await;
    for (filter, rows) in [
        ("pid = 3", "1"),
        ("pid IN (3, 4) AND name <> 'p4'", "1"),
        ("cmdline LIKE '%dev-one%'", "0"),
        ("cmdline LIKE '%three%' AND NOT (pid > 2)", "2"),
        ("cmdline LIKE '/bin/' || name || ' --%' AND pid < 3", "2"),
        ("hunt IS NOT NULL AND late IS DISTINCT FROM true", "10"),
        ("endpoint_name = 'board-three' AND pid >= 9", "2"),
        ("endpoint_name = 'dev-one'", "0"),
        ("100 / (3 - agent) > 0 OR pid = 1", "error"),
        ("100 / (2 - agent) < 0", "10"),
    ] {
        for columns in ["pid", "*"] {
            let sql = format!("SELECT count(*) FROM (SELECT {columns} FROM hunt_1 WHERE {filter})");
            match world.ask(&board, &sql).await {
                Ok(answer) => assert_eq!(one(&answer), rows, "{sql}"),
                Err(_) => assert_eq!(rows, "error", "{sql}"),
            }
        }
    }
}

#[tokio::test]
async fn counts_are_of_what_is_seen() {
    let world = World::new().await;
    let (dev, board) = (world.labelled("dev").await, world.labelled("board").await);
    let nobody = Access { org: dev.org, agents: Some([].into_iter().collect()) };
    let elsewhere = Access::all(OrgId(7));
    for (sql, all, two, single) in [
        ("SELECT count(*) FROM linux_processes", "30", "20", "10"),
        ("SELECT count(1) FROM linux_processes WHERE pid = 3", "3", "2", "1"),
        ("SELECT count(agent) FROM hunt_1", "30", "20", "10"),
        ("SELECT count(*) FROM (SELECT * FROM linux_processes LIMIT 1000)", "30", "20", "10"),
        ("SELECT count(*) FROM hunt_2", "3", "2", "1"),
        ("SELECT count(DISTINCT endpoint_name) FROM linux_processes", "3", "2", "1"),
        ("SELECT max(agent) - min(agent) FROM linux_processes", "2", "1", "0"),
        ("SELECT count(*) FROM endpoints", "3", "2", "1"),
        ("SELECT count(*) FROM agents", "3", "2", "1"),
        ("SELECT count(*) FROM labels", "3", "2", "1"),
        ("SELECT count(*) FROM errors", "3", "2", "1"),
        ("SELECT count(*) FROM agent_log", "3", "2", "1"),
        ("SELECT count(*) FROM collections WHERE outcome = 'rows'", "3", "2", "1"),
        ("SELECT count(*) FROM collections WHERE outcome = 'running'", "2", "1", "1"),
        ("SELECT count(*) FROM collections WHERE outcome = 'waiting'", "1", "1", "0"),
        ("SELECT count(*) FROM collections", "6", "4", "2"),
        ("SELECT sum(rows) FROM hunts", "4", "2", "1"),
        ("SELECT rows FROM hunts WHERE hunt = 1", "4", "2", "1"),
        ("SELECT running FROM hunts WHERE hunt = 2", "2", "1", "1"),
        ("SELECT waiting FROM hunts WHERE hunt = 2 AND kind = 'hunt'", "1", "1", "0"),
        ("SELECT retired FROM hunts WHERE hunt = 2", "1", "0", "0"),
        ("SELECT sum(waiting + running + rows + retired) FROM hunts", "8", "4", "2"),
    ] {
        assert_eq!(world.one(sql).await, all, "{sql}");
        assert_eq!(one(&world.ask(&dev, sql).await.unwrap()), two, "{sql}");
        assert_eq!(one(&world.ask(&board, sql).await.unwrap()), single, "{sql}");
        if !sql.contains("max") {
            assert_eq!(one(&world.ask(&nobody, sql).await.unwrap()), "0", "{sql}");
        }
    }
    for table in ["linux_processes", "hunt_1", "hunt_2"] {
        let sql = format!("SELECT * FROM {table}");
        let said = world.refusal(&elsewhere, &sql).await;
        assert!(said.starts_with(&format!("there is no table {table:?};")), "{said}");
    }
    for sql in ["EXPLAIN ANALYZE SELECT 1", "EXPLAIN VERBOSE SELECT 1"] {
        assert!(world.refusal(&dev, sql).await.contains("access"), "{sql}");
    }
}

#[tokio::test]
async fn hunts_are_counted_as_far_as_they_are_seen() {
    for temp in muster_testkit::TempCatalog::both().await.unwrap() {
        counted(&World::filled(temp).await).await;
    }
}

async fn counted(world: &World) {
    let dev = world.labelled("dev").await;
    let asked = world.hunt("").await;
    world.recruit(asked, 1, &[1, 3]).await;
    world.progress(asked, 1, Some(Outcome::Failed)).await;
    world.progress(asked, 3, Some(Outcome::Empty)).await;
    let counts = "concat_ws(' ', waiting, running, rows, empty, failed, timed_out, unsupported, cancelled, expired, retired)";
    let of = |what: &str| format!("SELECT {what} FROM hunts WHERE hunt = {asked}");
    // Endpoint 2 is in the scope and has no task yet.
    assert_eq!(world.one(&of(counts)).await, "1 0 0 1 1 0 0 0 0 0");
    assert_eq!(one(&world.ask(&dev, &of(counts)).await.unwrap()), "1 0 0 0 1 0 0 0 0 0");
    // Rows are counted for all of a hunt together.
    assert_eq!(world.one(&of("row_count")).await, "0");
    assert_eq!(one(&world.ask(&dev, &of("row_count IS NULL")).await.unwrap()), "true");
    for (filter, hunts) in [
        ("failed > 0", "4"),
        ("hunt > 1 AND hunt < 4", "2"),
        ("rows = 4 OR hunt = 2", "1,2"),
        ("hunt IN (SELECT hunt FROM hunts WHERE running = 2)", "2"),
    ] {
        let sql = format!(
            "SELECT string_agg(hunt, ',' ORDER BY hunt) FROM hunts WHERE {filter} AND waiting >= 0"
        );
        assert_eq!(world.one(&sql).await, hunts, "{filter}");
    }
    assert_eq!(world.one("SELECT count(*) FROM hunts").await, "3");
}

#[tokio::test]
async fn why_a_hunt_paused_itself_tells_no_counts_of_others() {
    let world = World::new().await;
    let dev = world.labelled("dev").await;
    let why = "errors: 777 of 888 endpoints that answered failed or timed out, more than 50 %";
    let mut tx = world.temp.catalog.begin(Priority::Api).await.unwrap();
    muster_hunts::pause(&mut tx, ORG, HuntNo(1), why).await.unwrap();
    muster_hunts::pause(&mut tx, ORG, HuntNo(2), "paused by ana: lunch").await.unwrap();
    tx.commit().await.unwrap();
    let sql = "SELECT pause_reason FROM hunts WHERE pause_reason IS NOT NULL ORDER BY hunt";
    let all = world.all(sql).await;
    assert!(all.contains(why) && all.contains("lunch"), "{all}");
    let some = world.ask(&dev, sql).await.unwrap();
    assert!(some.contains("errors: too many endpoints failed or timed out"), "{some}");
    assert!(some.contains("lunch") && !some.contains("777"), "{some}");
    let like = "SELECT count(*) FROM hunts WHERE pause_reason LIKE '%777%'";
    assert_eq!(one(&world.ask(&dev, like).await.unwrap()), "0");
}
