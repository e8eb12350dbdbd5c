//! What the inventory asks: its SQL over states as the fold writes them.

use std::sync::Arc;

use muster_endpoints::{AgentReport, Enrol, add_members, create_label, enrol};
use muster_inventory::policy::{self, NewPolicy, Policy, PolicyNo, PolicyState};
use muster_inventory::{Platform, sql};
use muster_results::{
    Action, Origin, RowClass, RowFormat, RowMeta, SegmentBuilder, Step, TableSpec,
};
use muster_types::{Access, AgentKind, EndpointNo, HuntNo, Timestamp};

use crate::kit::{NOW, ORG, World, meta};

/// Three machines with osquery (Linux, Windows, Linux) and one without.
async fn fleet() -> World {
    let world = World::empty().await;
    let kinds = [
        ("lin-one", AgentKind::Osquery, "linux"),
        ("win-two", AgentKind::Osquery, "windows"),
        ("lin-three", AgentKind::Osquery, "linux"),
        ("native-four", AgentKind::Native, "linux"),
    ];
    for (name, kind, platform) in kinds {
        let new = Enrol {
            org: ORG,
            kind,
            external_id: name.to_owned(),
            public_key: None,
            machine: None,
            report: AgentReport {
                hostname: name.to_owned(),
                platform: platform.to_owned(),
                ..AgentReport::default()
            },
            secret: None,
        };
        enrol(&world.temp.catalog, &new, NOW).await.unwrap();
    }
    let catalog = &world.temp.catalog;
    create_label(catalog, ORG, "one", "", "ana", NOW).await.unwrap();
    add_members(catalog, ORG, "one", &[EndpointNo(1)], "ana", NOW).await.unwrap();
    world
}

fn at(agent: u32, second: i64) -> RowMeta {
    RowMeta {
        agent_kind: AgentKind::Osquery,
        hunt: HuntNo(0),
        attempt: 0,
        ..meta(agent, 0, second)
    }
}

/// One state of one source: its rows, and the mark that it was seen.
fn state(to: &mut SegmentBuilder, table: &Arc<TableSpec>, source: &str, at: &RowMeta, json: &str) {
    let generation = u32::try_from(at.received_at.seconds()).unwrap();
    let origin = |step| Origin::Current { source, generation, step };
    let current = current(table);
    to.append_from(&current, at, origin(Step::Add), RowFormat::Array, json.as_bytes()).unwrap();
    to.append_row_from(&current, at, origin(Step::Mark), &[]);
    let scheduled = Origin::Scheduled { source, action: Some(Action::Snapshot) };
    to.append_from(table, at, scheduled, RowFormat::Array, json.as_bytes()).unwrap();
}

/// Where its state is.
fn current(table: &TableSpec) -> Arc<TableSpec> {
    let name = format!("{}_current", table.name);
    Arc::new(TableSpec { name, class: RowClass::Current, ..table.clone() })
}

fn table(name: &str) -> Arc<TableSpec> {
    muster_inventory::tables().into_iter().find(|spec| spec.name == name).unwrap()
}

fn policy(no: u32, text: NewPolicy, asked_since: Timestamp) -> Arc<Policy> {
    Arc::new(Policy {
        no: PolicyNo(no),
        org: ORG,
        sql: text.query.as_str().into(),
        text,
        created_at: NOW,
        created_by: "ana".into(),
        updated_at: NOW,
        updated_by: "ana".into(),
        asked_since,
        deleted: false,
    })
}

/// Rows of a printed table, the first columns of each, without frame and spaces.
fn first(columns: usize, table: &str) -> Vec<String> {
    let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.take(columns).collect::<Vec<_>>().join(" ")
    };
    rows.map(cells).collect()
}

fn lines(table: &str) -> Vec<String> {
    first(usize::MAX, table)
}

fn answers(segment: &mut SegmentBuilder, told: &[(u32, u32, i64, &str)]) {
    for (no, agent, second, state_word) in told {
        let json = format!(r#"[{{"state":"{state_word}","message":"m{agent}"}}]"#);
        let source = policy::source(PolicyNo(*no));
        state(segment, &table(policy::TABLE), &source, &at(*agent, *second), &json);
    }
}

#[tokio::test]
async fn policies_are_counted_where_they_apply() {
    let world = fleet().await;
    let mut segment = SegmentBuilder::new();
    let told = [(1, 1, 5, "fail"), (1, 2, 5, "pass"), (2, 2, 5, "unknown"), (2, 1, 5, "pass")];
    answers(&mut segment, &told);
    answers(&mut segment, &[(3, 1, 5, "pass"), (4, 1, 5, "fail"), (4, 3, 5, "fail")]);
    world.publish(segment).await;
    let windows = NewPolicy { platforms: vec![Platform::Windows], ..NewPolicy::default() };
    let label = vec!["one".to_owned()];
    let without = NewPolicy { exclude_labels: label.clone(), ..NewPolicy::default() };
    let policies = [
        policy(1, NewPolicy::default(), NOW),
        policy(2, windows, NOW),
        policy(3, NewPolicy::default(), Timestamp(NOW.0 + 60_000_000)),
        policy(4, without, NOW),
    ];
    let counted = lines(&world.all(&policy::sql::counts(&policies)).await);
    let expected = ["1 1 1 0 1", "2 0 0 1 0", "3 0 0 0 3", "4 0 1 0 1"];
    assert_eq!(counted, expected, "policy, pass, fail, unknown, pending");
    let only = NewPolicy { labels: label, ..NewPolicy::default() };
    let labelled = [policy(1, only, NOW)];
    assert_eq!(lines(&world.all(&policy::sql::counts(&labelled)).await), ["1 0 1 0 0"]);
    assert!(lines(&world.all(&policy::sql::counts(&[])).await).is_empty());

    let scoped = world.labelled("one").await;
    let seen = world.ask(&scoped, &policy::sql::counts(&policies[..1])).await.unwrap();
    assert_eq!(lines(&seen), ["1 0 1 0 0"], "what the asker sees");
}

#[tokio::test]
async fn who_fails_and_what_one_endpoint_says() {
    let world = fleet().await;
    let mut segment = SegmentBuilder::new();
    // The first was failing before, for a while: that does not count.
    answers(&mut segment, &[(1, 1, 1, "fail"), (1, 1, 3, "pass")]);
    answers(&mut segment, &[(1, 1, 5, "fail"), (1, 2, 6, "pass"), (1, 3, 4, "fail")]);
    world.publish(segment).await;
    let named = NewPolicy { name: "it's on".into(), critical: true, ..NewPolicy::default() };
    let (one, two) = (policy(1, named, NOW), policy(2, NewPolicy::default(), NOW));
    let failing = policy::sql::endpoints(&one, Some(PolicyState::Fail));
    assert_eq!(first(4, &world.all(&failing).await), ["3 lin-three fail m3", "1 lin-one fail m1"]);
    let since = |policy| {
        let text = policy::sql::endpoints(policy, Some(PolicyState::Fail));
        format!("SELECT date_part('second', min(since)) FROM ({text})")
    };
    assert_eq!(world.one(&since(&one)).await, "4");
    // One says the same of another question: it fails that one since it was asked.
    let mut segment = SegmentBuilder::new();
    let generation = u32::try_from(NOW.seconds() + 4).unwrap();
    let source = policy::source(PolicyNo(1));
    let mark = Origin::Current { source: &source, generation, step: Step::Mark };
    segment.append_row_from(&current(&table(policy::TABLE)), &at(3, 9), mark, &[]);
    world.publish(segment).await;
    let anew = policy(1, NewPolicy::default(), Timestamp(NOW.0 + 7_000_000));
    assert_eq!(world.one(&since(&anew)).await, "7");
    let all = format!("SELECT count(*) FROM ({})", policy::sql::endpoints(&one, None));
    assert_eq!(world.one(&all).await, "3");

    let of = policy::sql::of_endpoint(&[one, two], 1);
    assert_eq!(first(4, &world.all(&of).await), ["1 it's on true fail", "2  false pending"]);
    assert!(lines(&world.all(&policy::sql::of_endpoint(&[], 1)).await).is_empty());
}

#[tokio::test]
async fn flips_are_changes_between_pass_and_fail() {
    let world = fleet().await;
    let mut segment = SegmentBuilder::new();
    let told = ["pass", "fail", "unknown", "fail", "pass", "unknown", "pass"];
    for (second, word) in (1..).zip(told) {
        answers(&mut segment, &[(1, 1, second, word)]);
    }
    answers(&mut segment, &[(1, 2, 1, "pass"), (1, 3, 1, "fail"), (1, 3, 2, "pass")]);
    world.publish(segment).await;
    let flips = policy::sql::flips(&policy(1, NewPolicy::default(), NOW));
    assert_eq!(first(3, &world.all(&flips).await), ["1 lin-one 2", "3 lin-three 1"]);
    let since = Timestamp(NOW.0 + 3_500_000);
    let later = policy::sql::flips(&policy(1, NewPolicy::default(), since));
    assert_eq!(
        first(3, &world.all(&later).await),
        ["1 lin-one 1"],
        "since the question is what it is"
    );
}

#[tokio::test]
async fn vitals_users_and_software_are_there_before_the_first_row_and_after() {
    let world = fleet().await;
    for question in [sql::vitals(1), sql::users(1), sql::software(1)] {
        world.all(&question).await;
    }
    assert_eq!(world.one("SELECT count(*) FROM inventory_os").await, "0");
    let mut segment = SegmentBuilder::new();
    let system = r#"[{"hostname":"lin-one","cpu_logical_cores":"8"}]"#;
    state(&mut segment, &table("inventory_system"), "inventory.system", &at(1, 5), system);
    let disks = r#"[{"path":"/","encrypted":"1"},{"path":"/home","encrypted":"0"}]"#;
    state(&mut segment, &table("inventory_disk"), "inventory.disk", &at(1, 5), disks);
    let software = table("inventory_software");
    for (part, rows) in [
        ("deb", r#"[{"name":"openssl","version":"3.0.11-1","source":"deb"}]"#),
        ("npm", r#"[{"name":"left-pad","version":"1.3.0","source":"npm"}]"#),
    ] {
        state(&mut segment, &software, &format!("inventory.software.{part}"), &at(1, 5), rows);
    }
    world.publish(segment).await;
    let vitals = world.all(&sql::vitals(1)).await;
    assert!(
        vitals.contains("hostname: lin-one") && vitals.contains("cpu_logical_cores: 8"),
        "{vitals}"
    );
    assert_eq!(vitals.matches("encrypted: ").count(), 2, "{vitals}");
    let shown = sql::software(1);
    assert_eq!(first(2, &world.all(&shown).await), ["left-pad 1.3.0", "openssl 3.0.11-1"]);
    let scoped = Access { org: ORG, agents: Some(muster_types::AgentSet::default()) };
    let unseen = world.ask(&scoped, &sql::software(1)).await.unwrap();
    assert!(lines(&unseen).is_empty());
}

#[tokio::test]
async fn a_rule_may_be_any_select() {
    let world = fleet().await;
    let rule = "SELECT endpoint FROM endpoints WHERE platform = 'linux' -- all of them";
    let together = muster_inventory::rule::together(&[rule, "SELECT 2 AS endpoint"]);
    let mut answer = lines(&world.all(&together).await);
    answer.sort();
    assert_eq!(answer, ["0 1", "0 3", "0 4", "1 2"]);
}
