//! The document an agent is given.

use std::sync::Arc;

use crate::common::{World, query};
use muster_schedules::{Edit, Mode, NewSchedule, Platforms, What};
use serde_json::{Value, json};

#[tokio::test]
async fn a_document_with_everything() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    world.put("base", 0, &json!({"options": {"logger_tls_period": 10}})).await;
    let packed = NewSchedule {
        pack: "it".into(),
        mode: Mode::Snapshot,
        min_version: "5.8.0".into(),
        shard_percent: 50,
        denylist: false,
        priority: 3,
        platforms: "posix".parse().unwrap(),
        discovery: Some(vec!["SELECT 1 FROM processes WHERE name = 'sshd'".into()]),
        ..query("keys")
    };
    world.add(&packed).await.unwrap();
    world.add(&NewSchedule { mode: Mode::AddedOnly, ..query("plain") }).await.unwrap();
    insta::assert_json_snapshot!(world.document(&agent));
}

#[tokio::test]
async fn an_artifact_runs_with_its_values() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    let parameters = [("path".to_owned(), json!("/etc/'x%"))].into();
    let what = What::Artifact { name: "linux.files.find".into(), parameters };
    world.add(&NewSchedule { what, ..query("files") }).await.unwrap();
    let document = world.document(&agent);
    let sql = document["schedule"]["files"]["query"].as_str().unwrap();
    assert!(sql.contains("LIKE '/etc/''x%'"), "{sql}");
}

#[tokio::test]
async fn labels_and_platforms_decide_who_runs_what() {
    let world = World::new().await;
    let linux = world.agent("linux", "linux").await;
    let mac = world.agent("mac", "darwin").await;
    let odd = world.agent("odd", "freebsd").await;
    world.label("web", &[linux.endpoint]).await;
    world.label("quiet", &[mac.endpoint]).await;
    let web = vec!["web".to_owned()];
    world.add(&NewSchedule { labels_in: web, ..query("of_web") }).await.unwrap();
    let quiet = vec!["quiet".to_owned()];
    world.add(&NewSchedule { labels_out: quiet, ..query("not_quiet") }).await.unwrap();
    let platforms = "darwin".parse().unwrap();
    world.add(&NewSchedule { platforms, ..query("of_mac") }).await.unwrap();
    assert_eq!(world.names(&linux), ["not_quiet", "of_web"]);
    assert_eq!(world.names(&mac), ["of_mac"]);
    // One whose platform is not known reads the platforms in its document itself.
    assert_eq!(world.names(&odd), ["not_quiet", "of_mac"]);

    // A new member is seen with the directory's next snapshot.
    world.label("web", &[mac.endpoint]).await;
    assert_eq!(world.names(&mac), ["of_mac", "of_web"]);
}

#[tokio::test]
async fn parts_for_labels_and_platforms_lie_over_those_for_all() {
    let world = World::new().await;
    let (linux, mac) = (world.agent("l", "linux").await, world.agent("m", "darwin").await);
    world.label("slow", &[linux.endpoint]).await;
    world.put("base", 0, &json!({"options": {"a": 1, "b": 1}, "views": {"v": "SELECT 1"}})).await;
    let mac_only = Platforms::ALL.both("darwin".parse().unwrap());
    let over = json!({"options": {"b": 2}, "views": null});
    world.put_for("mac", 10, &over, "", mac_only).await.unwrap();
    let slow = json!({"options": {"a": 9}});
    world.put_for("slow", 10, &slow, "slow", Platforms::ALL).await.unwrap();
    let options = |document: &Value| document["options"].clone();
    let document = world.document(&linux);
    assert_eq!(options(&document), json!({"a": 9, "b": 1, "pack_delimiter": "/"}));
    let document = world.document(&mac);
    assert_eq!(options(&document), json!({"a": 1, "b": 2, "pack_delimiter": "/"}));
    assert!(document.get("views").is_none());
}

#[tokio::test]
async fn a_document_is_rendered_once_per_combination_and_its_bytes_are_stable() {
    let world = World::new().await;
    let mut agents = Vec::new();
    for n in 0..20 {
        let platform = if n % 2 == 0 { "linux" } else { "windows" };
        agents.push(world.agent(&format!("h{n}"), platform).await);
    }
    // A label that nothing asks about makes no difference.
    world.label("unused", &[agents[0].endpoint]).await;
    world.label("web", &[agents[0].endpoint, agents[1].endpoint]).await;
    let of_web = NewSchedule { labels_in: vec!["web".into()], ..query("of_web") };
    let made = world.add(&of_web).await.unwrap();
    let before = world.schedules.rendered_count();
    let first: Vec<_> = agents.iter().map(|a| world.schedules.config_for(a)).collect();
    assert_eq!(world.schedules.rendered_count() - before, 4);
    for (agent, known) in agents.iter().zip(&first) {
        assert!(Arc::ptr_eq(&world.schedules.config_for(agent), known));
    }
    // A change and its undoing leads to the same bytes: agents do not apply them anew.
    world.edit(made.no, &Edit { interval_s: Some(61), ..Edit::default() }).await.unwrap();
    assert_ne!(world.schedules.config_for(&agents[0]).etag, first[0].etag);
    assert_eq!(world.schedules.config_for(&agents[2]).bytes, first[2].bytes);
    world.edit(made.no, &Edit { interval_s: Some(60), ..Edit::default() }).await.unwrap();
    let again = world.schedules.config_for(&agents[0]);
    assert_eq!((&again.bytes, &again.etag), (&first[0].bytes, &first[0].etag));
}

#[tokio::test]
async fn the_etag_stands_first_in_the_document_that_carries_it() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    let rendered = world.schedules.config_for(&agent);
    let with: Value = serde_json::from_slice(&rendered.with_etag).unwrap();
    assert_eq!(with["etag"], &*rendered.etag);
    assert_ne!(&*rendered.etag, "ok");
    let mut without = with;
    without.as_object_mut().unwrap().shift_remove("etag");
    assert_eq!(without, world.document(&agent));
    assert!(world.document(&agent).get("etag").is_none());
}

#[tokio::test]
async fn one_that_is_disabled_or_deleted_is_in_no_document() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    let one = world.add(&query("one")).await.unwrap();
    world.add(&NewSchedule { enabled: false, ..query("two") }).await.unwrap();
    assert_eq!(world.names(&agent), ["one"]);
    world.edit(one.no, &Edit { enabled: Some(false), ..Edit::default() }).await.unwrap();
    assert!(world.names(&agent).is_empty());
    world.edit(one.no, &Edit { enabled: Some(true), ..Edit::default() }).await.unwrap();
    assert_eq!(world.names(&agent), ["one"]);
    world.delete(one.no).await;
    assert!(world.names(&agent).is_empty());
}

#[tokio::test]
async fn packs_hold_their_queries() {
    let world = World::new().await;
    let agent = world.agent("a", "linux").await;
    for n in 0..50 {
        world
            .add(&NewSchedule { pack: format!("p{}", n % 5), ..query(&format!("q{n}")) })
            .await
            .unwrap();
    }
    let document = world.document(&agent);
    assert_eq!(document["packs"].as_object().unwrap().len(), 5);
    assert_eq!(document["packs"]["p3"]["queries"].as_object().unwrap().len(), 10);
    assert!(!world.schedules.config_for(&agent).is_too_long());
}
