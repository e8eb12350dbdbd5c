//! Making, changing and deleting, on both databases where SQL matters.

use crate::common::{ORG, World, query};
use muster_catalog::check;
use muster_results::RowClass;
use muster_schedules::{Edit, Mode, NewSchedule, Platforms, ScheduleError, What};
use muster_testkit::TempCatalog;
use muster_types::AgentKind;
use serde_json::{Value, json};

const OSQUERY: AgentKind = AgentKind::Osquery;

#[tokio::test]
async fn statements_prepare_and_seek_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems =
            check::problems(&temp.catalog, &muster_schedules::statements()).await.unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

#[tokio::test]
async fn what_is_stored_is_what_is_read_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let world = World::on(temp).await;
        let new = NewSchedule {
            pack: "it".into(),
            description: " keys ".into(),
            mode: Mode::AddedOnly,
            platforms: "linux,windows".parse().unwrap(),
            min_version: "5.8.0".into(),
            shard_percent: 7,
            discovery: Some(vec!["SELECT 1".into()]),
            denylist: false,
            priority: -2,
            labels_in: vec!["a".into()],
            labels_out: vec!["b".into()],
            enabled: false,
            ..query("keys")
        };
        let made = world.add(&new).await.unwrap();
        assert_eq!((made.name.as_str(), made.short_name()), ("pack/it/keys", "keys"));
        assert_eq!(made.description, "keys");
        let read = muster_schedules::schedules(&world.catalog, ORG).await.unwrap();
        assert_eq!(read, std::slice::from_ref(&made));
        let edit = Edit { what: Some(What::Query("SELECT 2".into())), ..Edit::default() };
        let changed = world.edit(made.no, &edit).await.unwrap();
        assert_eq!(changed, made);
        world.delete(made.no).await;
        assert!(muster_schedules::schedules(&world.catalog, ORG).await.unwrap().is_empty());
        world.put("base", 1, &json!({"options": {"x": 1}})).await;
        world.put("base", 2, &json!({"options": {"x": 2}})).await;
        let fragments = muster_schedules::fragments(&world.catalog, ORG).await.unwrap();
        assert_eq!(fragments.len(), 1);
        assert_eq!(fragments[0].precedence, 2);
    }
}

#[tokio::test]
async fn rows_find_their_table_by_the_reported_name() {
    let world = World::new().await;
    world.add(&NewSchedule { pack: "it".into(), ..query("USB devices") }).await.unwrap();
    let table = world.schedules.scheduled(ORG, OSQUERY, "pack/it/USB devices").unwrap();
    assert_eq!(
        (table.name.as_str(), table.class),
        ("schedule_it_usb_devices", RowClass::Scheduled)
    );
    assert!(table.open && table.columns.is_empty());

    let what =
        What::Artifact { name: "linux.users.accounts".into(), parameters: Default::default() };
    world.add(&NewSchedule { what, ..query("accounts") }).await.unwrap();
    let table = world.schedules.scheduled(ORG, OSQUERY, "accounts").unwrap();
    assert_eq!(table.name, "linux_users_accounts");
    assert!(!table.open && !table.columns.is_empty());

    assert!(world.schedules.scheduled(ORG, AgentKind::Native, "accounts").is_none());
    assert!(world.schedules.scheduled(ORG, OSQUERY, "nobody").is_none());
}

#[tokio::test]
async fn rows_of_a_deleted_schedule_are_still_taken() {
    let world = World::new().await;
    let first = world.add(&query("one")).await.unwrap();
    world.delete(first.no).await;
    assert_eq!(world.schedules.scheduled(ORG, OSQUERY, "one").unwrap().name, "schedule_one");
    // Made anew under the same name it goes before the deleted one.
    let what =
        What::Artifact { name: "linux.users.accounts".into(), parameters: Default::default() };
    world.add(&NewSchedule { what, ..query("one") }).await.unwrap();
    assert_eq!(
        world.schedules.scheduled(ORG, OSQUERY, "one").unwrap().name,
        "linux_users_accounts"
    );
}

#[tokio::test]
async fn events_keep_no_state() {
    let world = World::new().await;
    let of =
        |name: &str, sql: &str, mode| NewSchedule { mode, ..NewSchedule::of_query(name, sql, 60) };
    let processes = "SELECT pid FROM process_events";
    world.add(&of("events", processes, Mode::Differential)).await.unwrap();
    world.add(&of("added", "SELECT 1", Mode::AddedOnly)).await.unwrap();
    world.add(&of("state", "SELECT 1 FROM my_events_x", Mode::Differential)).await.unwrap();
    world.add(&of("all", processes, Mode::Snapshot)).await.unwrap();
    let found = ["events", "added", "state", "all", "nobody"]
        .map(|name| world.schedules.is_events(ORG, OSQUERY, name));
    assert_eq!(found, [true, true, false, false, false]);
}

#[tokio::test]
async fn discovery_belongs_to_the_pack() {
    let world = World::new().await;
    let one = |name: &str, discovery: Option<Vec<String>>| NewSchedule {
        pack: "p".into(),
        discovery,
        ..query(name)
    };
    world.add(&one("a", Some(vec!["SELECT 1".into()]))).await.unwrap();
    let b = world.add(&one("b", None)).await.unwrap();
    assert_eq!(b.discovery, ["SELECT 1"]);
    let edit = Edit { discovery: Some(vec!["SELECT 2".into()]), ..Edit::default() };
    world.edit(b.no, &edit).await.unwrap();
    let all = muster_schedules::schedules(&world.catalog, ORG).await.unwrap();
    assert!(all.iter().all(|one| one.discovery == ["SELECT 2"]), "{all:?}");
    let agent = world.agent("a", "linux").await;
    assert_eq!(world.document(&agent)["packs"]["p"]["discovery"], json!(["SELECT 2"]));
}

#[tokio::test]
async fn an_artifact_made_for_a_schedule_goes_with_it() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    let one = world.add(&query("one")).await.unwrap();
    let edit = Edit { what: Some(What::Query("SELECT 2".into())), ..Edit::default() };
    world.edit(one.no, &edit).await.unwrap();
    assert_eq!(world.document(&agent)["schedule"]["one"]["query"], "SELECT 2");
    let what =
        What::Artifact { name: "linux.users.accounts".into(), parameters: Default::default() };
    let edit = Edit { what: Some(what), ..Edit::default() };
    let changed = world.edit(one.no, &edit).await.unwrap();
    assert_eq!((changed.artifact.as_str(), changed.own_artifact), ("linux.users.accounts", false));
    // Its name is free again.
    let other = world.add(&NewSchedule { pack: String::new(), ..query("one.") }).await.unwrap();
    assert_eq!(other.artifact, "schedule.one");
    let third = world.add(&query("One")).await.unwrap();
    assert_eq!(third.artifact, "schedule.one_2");
}

#[tokio::test]
async fn what_agents_could_not_take_is_refused() {
    let world = World::new().await;
    let sql = |sql: &str| What::Query(sql.to_owned());
    let artifact =
        |name: &str| What::Artifact { name: name.into(), parameters: Default::default() };
    let refused = [
        query(" x"),
        query("query.x"),
        query("my_counter"),
        query("pack/a/b"),
        query("muster.flags"),
        NewSchedule { interval_s: 0, ..query("x") },
        NewSchedule { interval_s: 604_801, ..query("x") },
        NewSchedule { shard_percent: 0, ..query("x") },
        NewSchedule { min_version: "new".into(), ..query("x") },
        NewSchedule { pack: "a/b".into(), ..query("x") },
        NewSchedule { discovery: Some(vec!["SELECT 1".into()]), ..query("x") },
        NewSchedule { what: sql(" "), ..query("x") },
        NewSchedule { what: sql("SELECT :x"), ..query("x") },
        NewSchedule { what: artifact("no.such"), ..query("x") },
        NewSchedule { what: artifact("linux.files.find"), ..query("x") },
    ];
    let mut problems = Vec::new();
    for new in refused {
        problems.push(world.add(&new).await.unwrap_err().to_string());
    }
    world.add(&query("twice")).await.unwrap();
    problems.push(world.add(&query("twice")).await.unwrap_err().to_string());
    insta::assert_snapshot!(problems.join("\n"));
}

#[tokio::test]
async fn what_is_no_configuration_is_refused() {
    let world = World::new().await;
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!({ "a": deep });
    }
    let refused = [
        json!({"schedule": {}}),
        json!({"error": 1}),
        json!({"options": {"pack_delimiter": "_"}}),
        json!({"options": {"a": [1]}}),
        json!({ "views": deep }),
        json!({"views": {"v": "x".repeat(300_000)}}),
    ];
    let mut problems = Vec::new();
    for sections in &refused {
        let put = world.put_for("x", 0, sections, "", Platforms::ALL).await;
        problems.push(put.unwrap_err().to_string());
    }
    let none: Value = json!({});
    let put = world.put_for("a/b", 0, &none, "", Platforms::ALL).await;
    assert!(matches!(put, Err(ScheduleError::Invalid { field: "name", .. })));
    insta::assert_snapshot!(problems.join("\n"));
}
