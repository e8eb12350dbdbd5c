//! `collections` shows tasks that wait or run, and each task once.

use muster_results::{Cell, SegmentBuilder};
use muster_testkit::TempCatalog;
use muster_types::{ColumnType, HuntNo, Outcome};

use crate::kit::{NAMES, World, meta, one, spec};

const ALL: &str = "SELECT string_agg(concat_ws(' ', hunt, endpoint_name, outcome), ', ' ORDER BY hunt, agent) FROM collections";

#[tokio::test]
async fn a_task_is_shown_once_from_recruitment_to_its_end() {
    for temp in TempCatalog::both().await.unwrap() {
        shown_once(&World::filled(temp).await).await;
    }
}

async fn shown_once(world: &World) {
    let ended = "1 dev-one rows, 1 dev-two rows, 1 board-three rows";
    let open = "2 dev-one running, 2 dev-two waiting, 2 board-three running";
    assert_eq!(world.one(ALL).await, format!("{ended}, {open}"));
    let one_of = |hunt| format!("SELECT count(*) FROM collections WHERE hunt = {hunt}");
    assert_eq!(world.one(&one_of(1)).await, "3");
    assert_eq!(world.one(&one_of(2)).await, "3");
    assert_eq!(world.one(&one_of(3)).await, "0");

    world.progress(HuntNo(2), 1, Some(Outcome::Empty)).await;
    let mut segment = SegmentBuilder::new();
    let ends = spec("collections", &[("outcome", ColumnType::Text), ("rows", ColumnType::Int)]);
    let row = [("outcome", Cell::Text("empty")), ("rows", Cell::Int(0))];
    segment.append_row(&ends, &meta(1, 2, 20), &row);
    world.publish(segment).await;
    let open = "2 dev-one empty, 2 dev-two waiting, 2 board-three running";
    assert_eq!(world.one(ALL).await, format!("{ended}, {open}"));
    let board = world.labelled("board").await;
    let seen = one(&world.ask(&board, ALL).await.unwrap());
    assert_eq!(seen, "1 board-three rows, 2 board-three running");

    world.end(HuntNo(2), "stopped").await;
    let given_up = "2 dev-one empty, 2 dev-two cancelled, 2 board-three cancelled";
    assert_eq!(world.one(ALL).await, format!("{ended}, {given_up}"));
    let seen = one(&world.ask(&board, ALL).await.unwrap());
    assert_eq!(seen, "1 board-three rows, 2 board-three cancelled");
}

#[tokio::test]
async fn open_tasks_have_the_columns_of_the_others() {
    let world = World::new().await;
    let of = async |what: &str| {
        let sql = format!("SELECT {what} FROM collections WHERE outcome = 'waiting'");
        world.one(&sql).await
    };
    assert_eq!(of("endpoint").await, "2");
    assert_eq!(of("agent_kind").await, "native");
    assert_eq!(of("concat_ws(' ', attempt, late, rows, bytes, message)").await, "1 false");
    assert_eq!(of("_shard || ' ' || _row || ' ' || _org").await, "2 0 1");
    assert_eq!(of("finished_time IS NULL AND received_time IS NOT NULL").await, "true");
    let rows = world.all("SELECT * FROM collections c JOIN endpoints e USING (endpoint)").await;
    assert_eq!(rows.lines().count(), 6 + 4, "{rows}");
    assert!(!rows.contains(NAMES[3]), "{rows}");
}

#[tokio::test]
async fn open_tasks_are_there_before_the_first_end() {
    let world = World::empty().await;
    world.fleet().await;
    let hunt = world.hunt("").await;
    world.recruit(hunt, 1, &[1, 2, 3]).await;
    assert_eq!(world.one("SELECT count(*) FROM collections").await, "3");
    assert_eq!(world.one("SELECT max(outcome) FROM collections WHERE agent = 3").await, "waiting");
    assert_eq!(world.one("SELECT count(*) FROM collections WHERE rows > 0").await, "0");
}

#[tokio::test]
async fn a_task_that_was_never_handed_out_has_its_end() {
    for temp in TempCatalog::both().await.unwrap() {
        never_handed_out(&World::filled(temp).await).await;
    }
}

async fn never_handed_out(world: &World) {
    let count = |filter: &str| format!("SELECT count(*) FROM collections WHERE {filter}");
    world.end(HuntNo(2), "expired").await;
    // What was handed out ends with the hunt's time; what was not could not begin.
    let open = "2 dev-one expired, 2 dev-two expired, 2 board-three expired";
    let ended = "1 dev-one rows, 1 dev-two rows, 1 board-three rows";
    assert_eq!(world.one(ALL).await, format!("{ended}, {open}"));
    for (filter, rows) in [
        ("hunt = 2", "3"),
        ("hunt = 1", "3"),
        ("hunt > 2", "0"),
        ("outcome = 'expired'", "3"),
        ("outcome = 'waiting'", "0"),
        ("agent = 3 AND hunt = 2", "1"),
        ("hunt = 2 AND received_time < '2001-01-01'", "0"),
        ("hunt = 2 AND agent IN (SELECT agent FROM collections WHERE outcome = 'expired')", "3"),
    ] {
        assert_eq!(world.one(&count(filter)).await, rows, "{filter}");
    }
    let said = "SELECT concat_ws(' ', expired, retired) FROM hunts WHERE hunt = 2";
    assert_eq!(world.one(said).await, "3 1");

    // Bitmaps are read of those hunts only that the filters leave: these cannot be read.
    world.damage(HuntNo(2)).await;
    let everybody = muster_types::Access::all(crate::kit::ORG);
    for (sql, is_read) in [
        ("SELECT count(*) FROM collections WHERE hunt = 2", true),
        ("SELECT count(*) FROM collections WHERE outcome IN ('failed', 'expired')", true),
        ("SELECT count(*) FROM collections WHERE hunt = 1", false),
        ("SELECT count(*) FROM collections WHERE outcome = 'rows'", false),
        ("SELECT count(*) FROM collections WHERE outcome IN ('rows', 'empty')", false),
        ("SELECT sum(rows) FROM hunts", true),
        ("SELECT rows FROM hunts WHERE hunt = 1", false),
        ("SELECT state FROM hunts", false),
    ] {
        assert_eq!(world.ask(&everybody, sql).await.is_err(), is_read, "{sql}");
    }

    // Of a hunt that was deleted nothing is shown.
    let mut tx = world.temp.catalog.begin(muster_catalog::Priority::Api).await.unwrap();
    muster_hunts::delete(&mut tx, crate::kit::ORG, HuntNo(2)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.one(&count("hunt = 2")).await, "0");
}
