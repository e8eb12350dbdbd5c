//! Migrations: paired files, applied once, forward only; and what they ask of the programs that use a store.
//!
//! A migration either expands or contracts. One that expands adds what a newer program needs and breaks
//! no statement of the release before: it runs at every start, and older programs go on beside it. One
//! that contracts takes away what only older programs need. It runs by command, and only when none of
//! them lives; from then on the store refuses them.

mod contract;
mod run;
mod status;
mod verify;

use sha2::{Digest, Sha256};

pub use status::{Applied, Older, Status};

pub(crate) use contract::contract;
pub(crate) use run::run;
pub(crate) use status::status;
pub(crate) use verify::verify;

use crate::{Database, Error, Statement, Tx, tx::Inner};

/// The newest layout that this version works with. It is raised by a release that brings a migration which
/// contracts. What is read of stored forms is told one by one (`muster_types::Format`).
pub const LEVEL: u32 = 1;

/// When a migration may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationKind {
    /// Any time, also beside programs of the release before.
    Expand,
    /// When every program that lives is of the migration's level.
    Contract,
}

impl MigrationKind {
    /// `expand` or `contract`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        }
    }
}

/// One step of the layout.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number; they are applied in ascending order.
    pub version: i64,
    /// Its file, without the ending.
    pub name: &'static str,
    /// When it may run.
    pub kind: MigrationKind,
    /// The lowest level of a program that works with the store afterwards. 0 for one that expands.
    pub reader_level: u32,
    /// Its text for SQLite.
    pub sqlite: &'static str,
    /// Its text for PostgreSQL.
    pub postgres: &'static str,
}

/// What a program knows of the layout. There is one, but for tests, which play older and newer ones.
#[derive(Clone, Debug)]
pub struct Program {
    /// See [`LEVEL`].
    pub level: u32,
    /// All it knows, in ascending order.
    pub migrations: Vec<Migration>,
}

impl Default for Program {
    fn default() -> Self {
        Self { level: LEVEL, migrations: MIGRATIONS.to_vec() }
    }
}

impl Program {
    fn knows(&self, version: i64) -> Option<&Migration> {
        self.migrations.iter().find(|migration| migration.version == version)
    }
}

macro_rules! migrations {
    ($($version:literal $name:literal $(contract $level:literal)?;)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            kind: migrations!(@kind $($level)?),
            reader_level: migrations!(@level $($level)?),
            sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
        }),*]
    };
    (@kind) => { MigrationKind::Expand };
    (@kind $level:literal) => { MigrationKind::Contract };
    (@level) => { 0 };
    (@level $level:literal) => { $level };
}

/// All expand but those marked `contract LEVEL`.
const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_spine";
    2 "0002_schedules";
    3 "0003_inventory";
    4 "0004_sinks";
    5 "0005_uploads";
    6 "0006_node_keys";
    7 "0007_levels";
    8 "0008_cluster";
    9 "0009_stores";
    10 "0010_seeing";
    13 "0013_yara";
    14 "0014_formats";
    15 "0015_uploads_continued";
};

/// Since which migration the store says what each of them asks of programs.
const SAYS_LEVELS: i64 = 7;

/// The statements of this module.
pub(crate) fn statements() -> Vec<&'static Statement> {
    [verify::STATEMENTS, run::STATEMENTS, status::STATEMENTS].concat()
}

fn text(migration: &Migration, database: Database) -> &'static str {
    match database {
        Database::Sqlite => migration.sqlite,
        Database::Postgres => migration.postgres,
    }
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

async fn script(tx: &mut Tx, text: &'static str) -> Result<(), Error> {
    match &mut tx.inner {
        Inner::Sqlite(tx) => tx.script(text).await,
        Inner::Postgres(tx) => tx.script(text).await,
    }
}
