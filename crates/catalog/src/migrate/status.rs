//! How far a store is, for people.

use std::fmt;

use muster_types::Timestamp;

use super::MigrationKind;
use super::run::versions;
use super::verify::{APPLIED, ASKS, exists, says_levels};
use crate::{Args, Catalog, Error, Row, args};

crate::statements! {
    small DETAILS = "SELECT version, name, kind, reader_level, applied_at FROM schema_migration
        ORDER BY version";
    /// Programs below a level that live, as far as their heartbeat says.
    pub(super) small OLDER = "SELECT name, version, level FROM instance
        WHERE expires_at > $1 AND level < $2
        ORDER BY name, id";
}

/// How far a store is.
#[derive(Clone, Debug)]
pub struct Status {
    /// The level of this program.
    pub level: u32,
    /// The lowest level that the store works with.
    pub lowest_level: u32,
    /// All migrations that the store or this program knows, in ascending order.
    pub migrations: Vec<Applied>,
    /// Servers that live and are of a lower level than this program.
    pub older: Vec<Older>,
}

/// One migration.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// When it may run: `expand` or `contract`.
    pub kind: String,
    /// The lowest level of a program that works with the store afterwards; 0 for any.
    pub reader_level: u32,
    /// When it was applied; `None` when it is not.
    pub applied_at: Option<Timestamp>,
    /// Whether this program knows it. One it does not know is of a newer version.
    pub known: bool,
}

/// A server of a lower level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Older {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its level.
    pub level: u32,
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (version {}, level {})", self.name, self.version, self.level)
    }
}

pub(super) fn older(rows: &[Row]) -> Result<Vec<Older>, Error> {
    let read = |row: &Row| {
        Ok(Older { name: row.get("name")?, version: row.get("version")?, level: row.get("level")? })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn status(catalog: &Catalog) -> Result<Status, Error> {
    let program = catalog.program();
    let mut status =
        Status { level: program.level, lowest_level: 0, migrations: Vec::new(), older: Vec::new() };
    let mut known = std::collections::BTreeSet::new();
    if exists(catalog).await? {
        let applied = catalog.fetch_all(&APPLIED, Args::new()).await?;
        known = versions(&applied)?;
        if says_levels(&applied)? {
            let asks = catalog.fetch_optional(&ASKS, Args::new()).await?;
            status.lowest_level = asks.map_or(Ok(0), |row| row.get("reader_level"))?;
            for row in catalog.fetch_all(&DETAILS, Args::new()).await? {
                status.migrations.push(Applied {
                    name: row.get("name")?,
                    kind: row.get("kind")?,
                    reader_level: row.get("reader_level")?,
                    applied_at: Some(row.get("applied_at")?),
                    known: program.knows(row.get("version")?).is_some(),
                });
            }
        } else {
            // Older than this record: all of them expanded.
            for row in &applied {
                status.migrations.push(Applied {
                    name: row.get("name")?,
                    kind: MigrationKind::Expand.name().to_owned(),
                    reader_level: 0,
                    applied_at: Some(Timestamp(0)),
                    known: program.knows(row.get("version")?).is_some(),
                });
            }
        }
        let now = catalog.now().await?;
        let rows = catalog.fetch_all(&OLDER, args![now, i64::from(program.level)]).await?;
        status.older = older(&rows)?;
    }
    for migration in program.migrations.iter().filter(|m| !known.contains(&m.version)) {
        status.migrations.push(Applied {
            name: migration.name.to_owned(),
            kind: migration.kind.name().to_owned(),
            reader_level: migration.reader_level,
            applied_at: None,
            known: true,
        });
    }
    status.migrations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(status)
}
