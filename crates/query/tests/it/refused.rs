//! What is not answered, and how that is said.

use muster_types::Access;

use crate::kit::{ORG, World};

#[tokio::test]
async fn only_questions_are_answered() {
    let world = World::new().await;
    for sql in [
        "CREATE TABLE x (a INT)",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "DROP TABLE linux_processes",
        "INSERT INTO linux_processes VALUES (1)",
        "INSERT INTO linux_processes SELECT * FROM linux_processes",
        "UPDATE linux_processes SET pid = 1",
        "DELETE FROM linux_processes",
        "TRUNCATE TABLE linux_processes",
        "COPY linux_processes TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.parquet'",
        "SET datafusion.execution.target_partitions = 64",
        "SET datafusion.catalog.information_schema = false",
        "RESET datafusion.execution.batch_size",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "EXPLAIN CREATE TABLE x AS SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x.csv'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'file:///etc/passwd.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
    ] {
        let said = world.refusal(&Access::all(ORG), sql).await;
        assert!(!said.contains("DataFusion"), "{sql}: {said}");
        assert!(!said.contains("root:"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_name_gets_a_hint() {
    let world = World::new().await;
    let said = async |sql: &str| world.refusal(&Access::all(ORG), sql).await;
    assert_eq!(
        said("SELECT * FROM linux_proceses").await,
        "there is no table \"linux_proceses\"; did you mean \"linux_processes\"?"
    );
    assert_eq!(
        said("SELECT pdi FROM linux_processes").await,
        "there is no column \"pdi\"; did you mean \"pid\"?"
    );
    assert_eq!(
        said("SELECT * FROM hunt_3").await.split(';').next().unwrap(),
        "there is no table \"hunt_3\""
    );
    for sql in [
        "SELECT 1/0 FROM linux_processes",
        "SELECT CAST(name AS INT) FROM linux_processes",
        "SELECT nosuch(1)",
    ] {
        let said = said(sql).await;
        assert!(!said.is_empty());
    }
}
