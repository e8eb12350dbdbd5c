//! What this program says it is, and how it opens its catalog.
//!
//! In debug builds, which are not shipped, the environment variable `MUSTER_TEST_PROGRAM` makes it play
//! the next release: `level=2` raises its level and changes its version, `expand` and `contract` give it a
//! migration of that kind more. It is still the same code: what a test shows with it is how instances of
//! two levels live side by side, not how two releases differ.

use std::time::Duration;

use muster_catalog::{Options, Program};

use crate::config::Config;

/// The version, as instances and answers tell it.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match played() {
        Some(played) => format!("{version}-test.{}", played.level),
        None => version.to_owned(),
    }
}

/// The formats and migrations this program knows.
pub fn program() -> Program {
    played().unwrap_or_default()
}

/// How a server opens the catalog of a configuration.
pub fn catalog_options(config: &Config) -> Options {
    Options {
        connections_max: config.catalog.connections,
        replicas: config.catalog.replicas.clone(),
        program: program(),
        ..Options::default()
    }
}

/// How commands beside the store open it: with few connections, and patient.
pub fn beside_options() -> Options {
    let acquire_timeout = Duration::from_secs(10);
    Options { connections_max: 2, acquire_timeout, program: program(), ..Options::default() }
}

#[cfg(not(debug_assertions))]
fn played() -> Option<Program> {
    None
}

#[cfg(debug_assertions)]
fn played() -> Option<Program> {
    use muster_catalog::{Migration, MigrationKind};

    let more = |version, name, kind, reader_level, text| Migration {
        version,
        name,
        kind,
        reader_level,
        sqlite: text,
        postgres: text,
    };
    let played = std::env::var("MUSTER_TEST_PROGRAM").ok()?;
    let mut program = Program::default();
    for word in played.split(',') {
        let migration = match word {
            "expand" => more(
                9001,
                "9001_test_expand",
                MigrationKind::Expand,
                0,
                "ALTER TABLE label ADD COLUMN test_newer TEXT",
            ),
            "contract" => more(
                9002,
                "9002_test_contract",
                MigrationKind::Contract,
                2,
                "ALTER TABLE label DROP COLUMN test_newer",
            ),
            word => {
                let level = word.strip_prefix("level=").and_then(|level| level.parse().ok());
                program.level = level.unwrap_or(program.level);
                continue;
            }
        };
        program.migrations.push(migration);
    }
    Some(program)
}
