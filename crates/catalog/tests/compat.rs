//! What released programs ask still works on the newest layout.

use std::path::Path;

use muster_catalog::compat::Release;
use muster_catalog::{Catalog, Migration, MigrationKind, Options, Program};
use muster_testkit::Postgres;

/// A store of each database, migrated by a program.
async fn stores(dir: &Path, name: &str, program: &Program) -> [Catalog; 2] {
    let urls = [
        format!("sqlite://{}", dir.join(format!("{name}.db")).display()),
        Postgres::start().unwrap().database().unwrap(),
    ];
    let mut stores = Vec::new();
    for url in urls {
        let options = Options { program: program.clone(), ..Options::default() };
        let catalog = Catalog::open(&url, options).await.unwrap();
        catalog.migrate().await.unwrap();
        stores.push(catalog);
    }
    stores.try_into().unwrap()
}

/// Everything that expands: what contracts runs when no program of an older level lives.
fn expanded(release: &Release) -> Program {
    let mut program = Program::default();
    program.migrations.retain(|migration| migration.reader_level <= release.level);
    program
}

fn releases() -> Vec<(String, Release)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/compat");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, Release::parse(&std::fs::read_to_string(&path).unwrap()).unwrap())
    };
    files.map(read).collect()
}

#[tokio::test]
async fn no_migration_breaks_a_released_statement() {
    let releases = releases();
    assert!(!releases.is_empty(), "compat holds no release");
    let dir = tempfile::tempdir().unwrap();
    for (name, release) in releases {
        let old = stores(dir.path(), &format!("{name}-old"), &release.program()).await;
        let new = stores(dir.path(), &format!("{name}-new"), &expanded(&release)).await;
        for (old, new) in old.iter().zip(&new) {
            let broken = release.broken(old, new).await.unwrap();
            assert_eq!(broken, Vec::<String>::new(), "{name} on {}", new.database().name());
        }
    }
}

#[tokio::test]
async fn a_migration_that_breaks_one_is_found() {
    let [(_, release), ..] = &releases()[..] else { panic!("compat holds no release") };
    let dir = tempfile::tempdir().unwrap();
    let old = stores(dir.path(), "old", &release.program()).await;
    let cases = [
        ("ALTER TABLE label RENAME COLUMN description TO words", "LABEL"),
        ("ALTER TABLE label DROP COLUMN created_by", "created_by"),
        ("DROP TABLE feed", "BUMP"),
        ("CREATE UNIQUE INDEX label_words ON label (description)", "new unique index"),
    ];
    for (n, (text, says)) in cases.into_iter().enumerate() {
        let mut program = expanded(release);
        program.migrations.push(Migration {
            version: 9001,
            name: "9001_wrong",
            kind: MigrationKind::Expand,
            reader_level: 0,
            sqlite: text,
            postgres: text,
        });
        let new = stores(dir.path(), &format!("new-{n}"), &program).await;
        for (old, new) in old.iter().zip(&new) {
            let broken = release.broken(old, new).await.unwrap();
            let found = broken.iter().any(|one| one.contains(says));
            assert!(found, "{text} on {}: {broken:?}", new.database().name());
        }
    }
}

#[tokio::test]
async fn a_column_that_must_be_given_is_found() {
    let [(_, release), ..] = &releases()[..] else { panic!("compat holds no release") };
    let dir = tempfile::tempdir().unwrap();
    let old = stores(dir.path(), "old", &release.program()).await;
    let mut program = expanded(release);
    // SQLite adds no such column to a table; it is made anew, as long migrations do.
    program.migrations.push(Migration {
        version: 9001,
        name: "9001_wrong",
        kind: MigrationKind::Expand,
        reader_level: 0,
        sqlite: "DROP TABLE enrol_secret; CREATE TABLE enrol_secret (no INTEGER PRIMARY KEY, more INTEGER NOT NULL)",
        postgres: "ALTER TABLE enrol_secret ADD COLUMN more BIGINT NOT NULL",
    });
    let new = stores(dir.path(), "new", &program).await;
    for (old, new) in old.iter().zip(&new) {
        let broken = release.broken(old, new).await.unwrap();
        let found = broken.iter().any(|one| one.starts_with("enrol_secret.more is new"));
        assert!(found, "{}: {broken:?}", new.database().name());
    }
}
