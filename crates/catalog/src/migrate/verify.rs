//! Whether this program may use a store.

use muster_types::SHARDS;

use super::{Program, SAYS_LEVELS, hash, text};
use crate::{Args, Catalog, Database, Error, Row};

/// Raised when a store of an older layout cannot be carried over.
pub(super) const LAYOUT: i64 = 1;

crate::statements! {
    small EXISTS = {
        sqlite: "SELECT count(*) AS n FROM sqlite_master WHERE name = 'schema_migration'",
        postgres: "SELECT count(*) AS n FROM pg_tables
            WHERE tablename = 'schema_migration' AND schemaname = ANY (current_schemas(false))"
    };
    pub(super) small APPLIED = "SELECT version, name, hash FROM schema_migration ORDER BY version";
    /// The lowest level the store asks for, and the last migration that asked.
    pub(super) small ASKS = "SELECT reader_level, name FROM schema_migration
        ORDER BY reader_level DESC, version
        LIMIT 1";
    pub(super) small INSTALL = "SELECT shards, layout FROM install WHERE id = 1";
}

/// Whether there is a layout at all.
pub(super) async fn exists(catalog: &Catalog) -> Result<bool, Error> {
    let found = catalog.fetch_optional(&EXISTS, Args::new()).await?;
    Ok(found.map_or(Ok(0), |row| row.get::<i64>("n"))? > 0)
}

/// Refuses a store this program must not touch; a fresh or older one is fine, and a newer one as long as
/// it asks for no higher level.
pub(crate) async fn verify(catalog: &Catalog) -> Result<(), Error> {
    if !exists(catalog).await? {
        return Ok(());
    }
    let program = catalog.program();
    let applied = catalog.fetch_all(&APPLIED, Args::new()).await?;
    if applied.is_empty() {
        return Ok(());
    }
    check_texts(&applied, program, catalog.database())?;
    if says_levels(&applied)? {
        check_level(catalog.fetch_optional(&ASKS, Args::new()).await?.as_ref(), program)?;
    }
    check_install(catalog.fetch_optional(&INSTALL, Args::new()).await?.as_ref())
}

pub(super) fn says_levels(applied: &[Row]) -> Result<bool, Error> {
    for row in applied {
        if row.get::<i64>("version")? == SAYS_LEVELS {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is applied and known must have been the same text.
pub(super) fn check_texts(
    applied: &[Row],
    program: &Program,
    database: Database,
) -> Result<(), Error> {
    for row in applied {
        let Some(known) = program.knows(row.get("version")?) else { continue };
        if row.get::<String>("hash")? != hash(text(known, database)) {
            let name = known.name;
            return Err(Error::Refused(format!(
                "the catalog was made from another text of migration {name}, so its tables may \
                 differ; start the build that made it, or give this one an empty catalog"
            )));
        }
    }
    Ok(())
}

/// What is applied and not known must not ask for more than this program is.
pub(super) fn check_level(asks: Option<&Row>, program: &Program) -> Result<(), Error> {
    let Some(row) = asks else { return Ok(()) };
    let (asked, name) = (row.get::<i64>("reader_level")?, row.get::<String>("name")?);
    let level = program.level;
    if asked <= i64::from(level) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the catalog asks for programs of level {asked} since migration {name}, and this version of \
         muster is of level {level}; start the version that wrote it, or a newer one"
    )))
}

pub(super) fn check_install(row: Option<&Row>) -> Result<(), Error> {
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
