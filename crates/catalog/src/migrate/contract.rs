//! Taking away what only older programs need.

use super::run::{apply, begin, mark, versions};
use super::status::{OLDER, Older, older};
use super::verify::{APPLIED, ASKS, check_level, check_texts, exists};
use super::{MigrationKind, script};
use crate::{Args, Catalog, Database, Error, Tx};

/// Whoever registers meanwhile waits, and then finds what has become of the store.
const NOBODY_REGISTERS: &str = "LOCK TABLE instance IN SHARE MODE";

/// Applies all that contract, and names them. Refused while a program lives that they would break.
pub(crate) async fn contract(catalog: &Catalog) -> Result<Vec<&'static str>, Error> {
    let (database, program) = (catalog.database(), catalog.program());
    if !exists(catalog).await? {
        return Err(Error::Refused("the catalog is empty; start a server first".to_owned()));
    }
    let mut tx = begin(catalog).await?;
    if database == Database::Postgres {
        script(&mut tx, NOBODY_REGISTERS).await?;
    }
    let applied = tx.fetch_all(&APPLIED, Args::new()).await?;
    check_texts(&applied, program, database)?;
    let known = versions(&applied)?;
    let missing: Vec<_> =
        program.migrations.iter().filter(|m| !known.contains(&m.version)).collect();
    if let Some(expand) = missing.iter().find(|m| m.kind == MigrationKind::Expand) {
        let name = expand.name;
        return Err(Error::Refused(format!(
            "migration {name} is not applied yet; run `muster migrate expand`, or start a server"
        )));
    }
    check_level(tx.fetch_optional(&ASKS, Args::new()).await?.as_ref(), program)?;
    if let Some(most) = missing.iter().map(|migration| migration.reader_level).max() {
        nobody_below(&mut tx, most).await?;
    }
    let now = tx.now().await?;
    for migration in &missing {
        tracing::info!(migration = migration.name, "contracting the catalog");
        apply(&mut tx, migration, database, now).await?;
    }
    mark(&mut tx, &missing).await?;
    tx.commit().await?;
    Ok(missing.iter().map(|migration| migration.name).collect())
}

async fn nobody_below(tx: &mut Tx, level: u32) -> Result<(), Error> {
    let now = tx.now().await?;
    let rows = tx.fetch_all(&OLDER, crate::args![now, i64::from(level)]).await?;
    let alive: Vec<_> = older(&rows)?.iter().map(Older::to_string).collect();
    if alive.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "contracting needs every server to be of level {level}, and these are older: {}; upgrade or \
         stop them first",
        alive.join(", ")
    )))
}
