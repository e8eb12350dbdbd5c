//! Right answers.

use muster_results::{RowFormat, SegmentBuilder};
use muster_types::ColumnType;

use crate::kit::{World, meta, spec};

#[tokio::test]
async fn tables_views_and_columns() {
    let world = World::new().await;
    let one = async |sql: &str| world.one(sql).await;
    assert_eq!(one("SELECT count(*) FROM linux_processes").await, "30");
    assert_eq!(one("SELECT count(*) FROM \"linux.processes\"").await, "30");
    assert_eq!(one("SELECT count(*) FROM hunt_1").await, "30");
    assert_eq!(one("SELECT count(*) FROM hunt_2").await, "3");
    assert_eq!(one("SELECT endpoint_name FROM hunt_2 WHERE n = 2").await, "dev-two");
    assert_eq!(
        one("SELECT host FROM hunt_2 WHERE endpoint_name LIKE 'board%'").await,
        "board-three"
    );
    let columns = "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 'linux_processes'";
    assert_eq!(
        one(columns).await,
        "endpoint_name endpoint agent agent_kind hunt attempt late received_time endpoint_time pid name cmdline"
    );
    assert_eq!(one("SELECT count(*) FROM linux.processes p JOIN endpoints e USING (endpoint) WHERE e.labels = 'dev'").await, "20");
}

#[tokio::test]
async fn hidden_columns_are_there_by_name_only() {
    let world = World::new().await;
    let head = async |sql: &str| world.all(sql).await.lines().nth(1).unwrap().replace(' ', "");
    let shown = "|endpoint_name|endpoint|agent|agent_kind|hunt|attempt|late|received_time|endpoint_time|host|n|";
    assert_eq!(head("SELECT * FROM hunt_2").await, shown);
    let places = format!("{shown}_shard|_pos|_row|");
    assert_eq!(
        head("SELECT *, _shard, _pos, _row FROM hunt_2 WHERE _shard > 1 OR (_shard = 1 AND (_pos > 3 OR (_pos = 3 AND _row > 0))) ORDER BY _shard, _pos, _row LIMIT 5").await,
        places
    );
    assert_eq!(head("SELECT * FROM hunt_2 ORDER BY _pos").await, shown);
    assert_eq!(head("SELECT h.* FROM hunt_2 h JOIN hunt_1 g ON h._pos = g._pos").await, shown);
    assert_eq!(head("SELECT _org, _raw, _extra FROM linux.processes").await, "|_org|_raw|_extra|");
    assert_eq!(head("SELECT * FROM (SELECT pid, _row FROM hunt_1)").await, "|pid|_row|");
}

#[tokio::test]
async fn stored_types_widen_and_missing_columns_are_null() {
    let world = World::empty().await;
    for (n, kind, json) in [
        (0, ColumnType::Int, r#"[{"v":7}]"#),
        (1, ColumnType::Bytes, r#"[{"v":"/wD+"}]"#),
        (2, ColumnType::Json, r#"[{"v":{"a":1}},{"v":"plain"}]"#),
        (3, ColumnType::Time, r#"[{"v":"2026-01-02T03:04:05Z"}]"#),
        (4, ColumnType::Float, r#"[{"v":1.0}]"#),
        (5, ColumnType::Bool, r#"[{"v":true}]"#),
    ] {
        let mut segment = SegmentBuilder::new();
        let table = spec("things", &[("v", kind), (&format!("only_{n}"), ColumnType::Int)]);
        let json = json.replace("}]", &format!(r#","only_{n}":{n}}}]"#));
        segment.append_json(&table, &meta(1, 0, n), RowFormat::Array, json.as_bytes()).unwrap();
        world.publish(segment).await;
    }
    let all = "SELECT string_agg(v, ' ' ORDER BY received_time, _row) FROM things";
    assert_eq!(world.one(all).await, r#"7 /wD+ {"a":1} plain 2026-01-02T03:04:05Z 1 true"#);
    assert_eq!(world.one("SELECT count(only_3) FROM things").await, "1");
    assert_eq!(world.one("SELECT count(*) FROM things WHERE v LIKE '/wD%'").await, "1");
    assert_eq!(
        world
            .one("SELECT only_3 FROM (SELECT * FROM things WHERE v = '2026-01-02T03:04:05Z')")
            .await,
        "3"
    );
}
