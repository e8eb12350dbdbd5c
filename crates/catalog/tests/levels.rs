//! Older and newer programs on one catalog.

use std::process::Command;

use muster_catalog::{
    Catalog, Error, Migration, MigrationKind, Options, Priority, Program, args, statements,
};
use muster_testkit::{Postgres, TempCatalog};

statements! {
    REGISTER = "INSERT INTO instance (id, incarnation, name, roles, version, level, addresses, load,
            started_at, heartbeat_at, expires_at)
        VALUES ($1, 1, $2, 'all', '0.1.0', $3, '[]', '{}', $4, $4, $5)";
    STOP = "UPDATE instance SET expires_at = 0 WHERE name = $1";
    small APPLIED = "SELECT version FROM schema_migration ORDER BY version";
    OLD = "INSERT INTO label (no, org, name, description, created_at, created_by, change)
        VALUES ($1, 1, $2, '', 1, 'test', 1)";
}

const URL: &str = "MUSTER_TEST_MIGRATE_URL";

fn migration(version: i64, name: &'static str, text: &'static str) -> Migration {
    let kind = MigrationKind::Expand;
    Migration { version, name, kind, reader_level: 0, sqlite: text, postgres: text }
}

/// The release after this one: a level more, one migration of each kind more.
fn newer() -> Options {
    let mut program = Program { level: 2, ..Program::default() };
    program.migrations.push(migration(9001, "9001_more", "ALTER TABLE label ADD COLUMN more TEXT"));
    program.migrations.push(Migration {
        kind: MigrationKind::Contract,
        reader_level: 2,
        ..migration(9002, "9002_less", "ALTER TABLE label DROP COLUMN description")
    });
    Options { program, ..Options::default() }
}

async fn beside(temp: &TempCatalog, options: Options) -> Catalog {
    // SQLite has one writing process: there the newer one is started after the older.
    if temp.url.starts_with("sqlite") {
        temp.catalog.close().await;
    }
    Catalog::open(&temp.url, options).await.unwrap()
}

fn states(status: &muster_catalog::Status) -> Vec<(&str, bool, bool)> {
    let test = status.migrations.iter().filter(|m| m.name.starts_with('9'));
    test.map(|m| (m.name.as_str(), m.applied_at.is_some(), m.known)).collect()
}

#[tokio::test]
async fn an_older_program_goes_on_until_the_store_is_contracted() {
    for temp in TempCatalog::both().await.unwrap() {
        let newer = beside(&temp, newer()).await;
        newer.migrate().await.unwrap();
        let status = newer.migrations().await.unwrap();
        assert_eq!(states(&status), [("9001_more", true, true), ("9002_less", false, true)]);
        assert_eq!((status.level, status.lowest_level), (2, 0));
        if temp.url.starts_with("sqlite") {
            newer.close().await;
        }
        // The older one: running, and started anew.
        let older = Catalog::open(&temp.url, Options::default()).await.unwrap();
        older.migrate().await.unwrap();
        older.execute(Priority::Api, &OLD, args![1, "one"]).await.unwrap();
        let status = older.migrations().await.unwrap();
        assert_eq!(states(&status), [("9001_more", true, false)]);

        // It is alive, by its row.
        let now = older.now().await.unwrap();
        let id = uuid::Uuid::from_u128(7);
        let soon = now.plus(std::time::Duration::from_secs(60));
        older.execute(Priority::Api, &REGISTER, args![id, "old-1", 1, now, soon]).await.unwrap();
        if temp.url.starts_with("sqlite") {
            older.close().await;
        }
        let newer = Catalog::open(&temp.url, self::newer()).await.unwrap();
        let status = newer.migrations().await.unwrap();
        assert_eq!(status.older[0].to_string(), "old-1 (version 0.1.0, level 1)");
        let refused = newer.contract().await.unwrap_err();
        assert!(
            refused.to_string().contains("level 2, and these are older: old-1 (version 0.1.0"),
            "{refused}"
        );
        newer.execute(Priority::Api, &STOP, args!["old-1"]).await.unwrap();
        assert_eq!(newer.contract().await.unwrap(), ["9002_less"]);
        assert_eq!(newer.contract().await.unwrap(), Vec::<&str>::new());
        assert_eq!(newer.migrations().await.unwrap().lowest_level, 2);
        newer.migrate().await.unwrap();
        if temp.url.starts_with("postgres") {
            // One that was stopped meanwhile asks when it wakes.
            assert!(matches!(older.verify().await, Err(Error::Refused(_))));
        }
        newer.close().await;
        let refused = Catalog::open(&temp.url, Options::default()).await.unwrap_err();
        assert!(
            refused.to_string().contains("asks for programs of level 2 since migration 9002_less"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_empty_store_gets_all_at_once() {
    let url = Postgres::start().unwrap().database().unwrap();
    let newer = Catalog::open(&url, newer()).await.unwrap();
    assert!(newer.contract().await.unwrap_err().to_string().contains("empty"));
    assert_eq!(states(&newer.migrations().await.unwrap()).len(), 2);
    newer.migrate().await.unwrap();
    assert_eq!(newer.migrations().await.unwrap().lowest_level, 2);
}

#[tokio::test]
async fn contracting_comes_after_expanding() {
    let temp = TempCatalog::postgres().await.unwrap();
    let newer = Catalog::open(&temp.url, newer()).await.unwrap();
    let refused = newer.contract().await.unwrap_err();
    assert!(refused.to_string().contains("migration 9001_more is not applied yet"), "{refused}");
}

/// Not a test by itself: what the test below starts eight times.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let catalog = Catalog::open(&url, newer()).await.unwrap();
    catalog.migrate().await.unwrap();
}

#[tokio::test]
async fn eight_processes_migrate_once() {
    let url = Postgres::start().unwrap().database().unwrap();
    // From nothing, then from the release before.
    for round in 0..2 {
        if round == 1 {
            Catalog::open(&url, Options::default()).await.unwrap().migrate().await.unwrap();
        }
        let url =
            if round == 0 { Postgres::start().unwrap().database().unwrap() } else { url.clone() };
        let start = |_| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "child"]).env(URL, &url).stdout(std::process::Stdio::null());
            child.spawn().unwrap()
        };
        let children: Vec<_> = (0..8).map(start).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let catalog = Catalog::open(&url, newer()).await.unwrap();
        let applied = catalog.fetch_all(&APPLIED, args![]).await.unwrap();
        let expected = if round == 0 { 9002 } else { 9001 };
        assert_eq!(applied.last().unwrap().get::<i64>("version").unwrap(), expected);
        assert_eq!(applied.len(), newer().program.migrations.len() - round);
    }
}
