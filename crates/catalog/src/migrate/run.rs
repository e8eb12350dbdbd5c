//! Applying migrations.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_types::{SHARDS, Timestamp};

use super::verify::{APPLIED, ASKS, INSTALL, LAYOUT, check_install, check_level, check_texts};
use super::{Migration, MigrationKind, SAYS_LEVELS, hash, script, text};
use crate::{Args, Catalog, Database, Error, Priority, Row, Tx, args};

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
    SET LOCAL lock_timeout = 0;
    SELECT pg_advisory_xact_lock(7814271938210457)";

crate::statements! {
    RECORD = "INSERT INTO schema_migration (version, name, hash, applied_at) VALUES ($1, $2, $3, $4)";
    MARK = "UPDATE schema_migration SET kind = $2, reader_level = $3 WHERE version = $1";
    CREATE_INSTALL = "INSERT INTO install (id, cluster, shards, layout, created_at)
        VALUES (1, $1, $2, $3, $4)
        ON CONFLICT (id) DO NOTHING";
}

/// Applies all that expand; in an empty store, which nobody uses yet, all there are. Whether it was empty.
pub(crate) async fn run(catalog: &Catalog) -> Result<bool, Error> {
    let (database, program) = (catalog.database(), catalog.program());
    let mut tx = begin(catalog).await?;
    script(&mut tx, CREATE).await?;
    let applied = tx.fetch_all(&APPLIED, Args::new()).await?;
    check_texts(&applied, program, database)?;
    let known = versions(&applied)?;
    if known.contains(&SAYS_LEVELS) {
        check_level(tx.fetch_optional(&ASKS, Args::new()).await?.as_ref(), program)?;
    }
    let now = tx.now().await?;
    let wanted = |migration: &&Migration| {
        let expands = migration.kind == MigrationKind::Expand || known.is_empty();
        expands && !known.contains(&migration.version)
    };
    let wanted: Vec<_> = program.migrations.iter().filter(wanted).collect();
    for migration in &wanted {
        tracing::info!(migration = migration.name, "migrating the catalog");
        apply(&mut tx, migration, database, now).await?;
    }
    if known.contains(&SAYS_LEVELS) || wanted.iter().any(|m| m.version == SAYS_LEVELS) {
        mark(&mut tx, &wanted).await?;
    }
    let cluster = uuid::Uuid::new_v4();
    tx.execute(&CREATE_INSTALL, args![cluster, i64::from(SHARDS), LAYOUT, now]).await?;
    check_install(tx.fetch_optional(&INSTALL, Args::new()).await?.as_ref())?;
    tx.commit().await?;
    Ok(known.is_empty())
}

/// A transaction that no other migration runs beside.
pub(super) async fn begin(catalog: &Catalog) -> Result<Tx, Error> {
    let mut tx = catalog.begin_for(Priority::Api, Some(TIME_MAX)).await?;
    if catalog.database() == Database::Postgres {
        script(&mut tx, ONE_AT_A_TIME).await?;
    }
    Ok(tx)
}

pub(super) fn versions(applied: &[Row]) -> Result<BTreeSet<i64>, Error> {
    applied.iter().map(|row| row.get("version")).collect()
}

pub(super) async fn apply(
    tx: &mut Tx,
    migration: &Migration,
    database: Database,
    now: Timestamp,
) -> Result<(), Error> {
    let text = text(migration, database);
    script(tx, text).await?;
    tx.execute(&RECORD, args![migration.version, migration.name, hash(text), now]).await?;
    Ok(())
}

/// Notes what they ask of programs: afterwards, since one of the first adds the columns for it.
pub(super) async fn mark(tx: &mut Tx, migrations: &[&Migration]) -> Result<(), Error> {
    for migration in migrations {
        let (kind, level) = (migration.kind.name(), i64::from(migration.reader_level));
        tx.execute(&MARK, args![migration.version, kind, level]).await?;
    }
    Ok(())
}
