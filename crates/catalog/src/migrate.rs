//! Migrations: paired files, applied once, forward only; and the row that says what made a store.

use std::time::Duration;

use muster_types::SHARDS;
use sha2::{Digest, Sha256};

use crate::tx::Inner;
use crate::{Args, Catalog, Database, Error, Priority, Row, Tx, args};

/// Raised when a store of an older layout cannot be carried over.
const LAYOUT: i64 = 1;

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_spine";
    2 "0002_schedules";
    3 "0003_inventory";
    4 "0004_sinks";
    5 "0005_uploads";
    6 "0006_node_keys";
};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS schema_migration (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    applied_at BIGINT NOT NULL
)";

/// How long all migrations together may take; also in the text below.
const TIME_MAX: Duration = Duration::from_secs(600);

/// One migrates, the others wait for it; let go at the end of the transaction.
const ONE_AT_A_TIME: &str = "SET LOCAL statement_timeout = '10min';
    SET LOCAL idle_in_transaction_session_timeout = '10min';
    SELECT pg_advisory_xact_lock(7814271938210457)";

crate::statements! {
    small EXISTS = {
        sqlite: "SELECT count(*) AS n FROM sqlite_master WHERE name = 'schema_migration'",
        postgres: "SELECT count(*) AS n FROM pg_tables
            WHERE tablename = 'schema_migration' AND schemaname = ANY (current_schemas(false))"
    };
    small APPLIED = "SELECT version, name, hash FROM schema_migration ORDER BY version";
    RECORD = "INSERT INTO schema_migration (version, name, hash, applied_at) VALUES ($1, $2, $3, $4)";
    small INSTALL = "SELECT shards, layout FROM install WHERE id = 1";
    CREATE_INSTALL = "INSERT INTO install (id, cluster, shards, layout, created_at)
        VALUES (1, $1, $2, $3, $4)
        ON CONFLICT (id) DO NOTHING";
}

/// Refuses a store this program must not touch; a fresh or older one is fine.
pub(crate) async fn verify(catalog: &Catalog) -> Result<(), Error> {
    let exists = catalog.fetch_optional(&EXISTS, Args::new()).await?;
    let exists = exists.map_or(Ok(0), |row| row.get::<i64>("n"))? > 0;
    if !exists {
        return Ok(());
    }
    let applied = catalog.fetch_all(&APPLIED, Args::new()).await?;
    check_applied(&applied, catalog.database())?;
    if applied.is_empty() {
        return Ok(());
    }
    check_install(catalog.fetch_optional(&INSTALL, Args::new()).await?.as_ref())
}

pub(crate) async fn run(catalog: &Catalog) -> Result<(), Error> {
    let database = catalog.database();
    let mut tx = catalog.begin_for(Priority::Api, Some(TIME_MAX)).await?;
    if database == Database::Postgres {
        script(&mut tx, ONE_AT_A_TIME).await?;
    }
    script(&mut tx, CREATE).await?;
    let applied = tx.fetch_all(&APPLIED, Args::new()).await?;
    check_applied(&applied, database)?;
    let now = tx.now().await?;
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        tracing::info!(migration = migration.name, "migrating the catalog");
        script(&mut tx, text(migration, database)).await?;
        let hash = hash(text(migration, database));
        tx.execute(&RECORD, args![migration.version, migration.name, hash, now]).await?;
    }
    let cluster = uuid::Uuid::new_v4();
    tx.execute(&CREATE_INSTALL, args![cluster, i64::from(SHARDS), LAYOUT, now]).await?;
    check_install(tx.fetch_optional(&INSTALL, Args::new()).await?.as_ref())?;
    tx.commit().await
}

/// What is applied must be the beginning of what this program knows.
fn check_applied(applied: &[Row], database: Database) -> Result<(), Error> {
    for (at, row) in applied.iter().enumerate() {
        let (version, name) = (row.get::<i64>("version")?, row.get::<String>("name")?);
        let Some(known) = MIGRATIONS.get(at).filter(|known| known.version == version) else {
            return Err(Error::Refused(format!(
                "the catalog has migration {name}, which this version of muster does not know; \
                 start the version that wrote it, or a newer one"
            )));
        };
        if row.get::<String>("hash")? != hash(text(known, database)) {
            return Err(Error::Refused(format!(
                "the catalog was made from another text of migration {name}, so its tables may \
                 differ; start the build that made it, or give this one an empty catalog"
            )));
        }
    }
    Ok(())
}

fn check_install(row: Option<&Row>) -> Result<(), Error> {
    let Some(row) = row else {
        return Err(Error::Refused(
            "the catalog has lost its install row; restore it from a backup".to_owned(),
        ));
    };
    let (shards, layout) = (row.get::<i64>("shards")?, row.get::<i64>("layout")?);
    if (shards, layout) == (i64::from(SHARDS), LAYOUT) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the catalog was made with {shards} shards and layout {layout}, this program works with \
         {SHARDS} and {LAYOUT}; start the version that made it"
    )))
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
