//! The statements of releases, kept so that no migration breaks those of the release before.
//!
//! `compat/VERSION.json` holds what a release asks the database, word for word, with its level and its
//! last migration. A program of that release goes on beside a newer one, so everything in it must still
//! prepare and still do what it did on the newest layout, but for what a migration that contracts took
//! away: that waits until no such program lives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::store::Store;
use crate::{Args, Catalog, Error, LEVEL, Program, Statement};

crate::statements! {
    /// Columns that a row must be given a value for.
    small DEMANDED = {
        sqlite: "SELECT m.name AS table_name, c.name AS column_name
            FROM sqlite_master AS m
            JOIN pragma_table_info(m.name) AS c
            WHERE m.type = 'table' AND c.\"notnull\" = 1 AND c.dflt_value IS NULL AND c.pk = 0",
        postgres: "SELECT CAST(table_name AS TEXT) AS table_name, CAST(column_name AS TEXT) AS column_name
            FROM information_schema.columns
            WHERE table_schema = current_schema() AND is_nullable = 'NO' AND column_default IS NULL"
    };
    small TABLES = {
        sqlite: "SELECT name FROM sqlite_master WHERE type = 'table'",
        postgres: "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables
            WHERE schemaname = ANY (current_schemas(false))"
    };
    /// What a row may not have twice, by table and columns.
    small UNIQUE = {
        sqlite: "SELECT m.name AS table_name, group_concat(c.name) AS columns
            FROM sqlite_master AS m
            JOIN pragma_index_list(m.name) AS i ON i.\"unique\" = 1
            JOIN pragma_index_info(i.name) AS c
            WHERE m.type = 'table'
            GROUP BY m.name, i.name",
        postgres: "SELECT CAST(t.relname AS TEXT) AS table_name,
                CAST(pg_get_indexdef(i.indexrelid) AS TEXT) AS columns
            FROM pg_index AS i
            JOIN pg_class AS t ON t.oid = i.indrelid
            JOIN pg_namespace AS n ON n.oid = t.relnamespace AND n.nspname = current_schema()
            WHERE i.indisunique"
    };
}

/// What a release asks the database.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its level.
    pub level: u32,
    /// Its last migration.
    pub migration: i64,
    statements: Vec<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    name: String,
    sqlite: String,
    postgres: String,
}

impl Release {
    /// What this program asks, given all its statements.
    #[must_use]
    pub fn this(statements: &[&Statement]) -> Self {
        let kept = |s: &&Statement| Kept {
            name: s.name.to_owned(),
            sqlite: s.sqlite.to_owned(),
            postgres: s.postgres.to_owned(),
        };
        let migration = Program::default().migrations.last().map_or(0, |last| last.version);
        Self { level: LEVEL, migration, statements: statements.iter().map(kept).collect() }
    }

    /// As it is kept: one statement a line, so that a difference can be read.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines: BTreeSet<String> = self
            .statements
            .iter()
            .map(|s| match s.sqlite == s.postgres {
                true => json!({"name": s.name, "both": s.sqlite}),
                false => json!({"name": s.name, "sqlite": s.sqlite, "postgres": s.postgres}),
            })
            .map(|line| format!("    {line}"))
            .collect();
        let lines: Vec<_> = lines.into_iter().collect();
        let (level, migration) = (self.level, self.migration);
        format!(
            "{{\n  \"level\": {level},\n  \"migration\": {migration},\n  \"statements\": [\n{}\n  ]\n}}\n",
            lines.join(",\n")
        )
    }

    /// Reads what [`Release::to_text`] wrote.
    ///
    /// # Errors
    /// [`Error::Other`] when it is something else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let torn = || Error::Other("this is no list of a release's statements".to_owned());
        let json: Json = serde_json::from_str(text).map_err(|_| torn())?;
        let kept = |one: &Json| {
            let text = |key: &str| Some(one[key].as_str()?.to_owned());
            let both = text("both");
            Some(Kept {
                name: text("name")?,
                sqlite: both.clone().or_else(|| text("sqlite"))?,
                postgres: both.or_else(|| text("postgres"))?,
            })
        };
        let statements = json["statements"].as_array().ok_or_else(torn)?.iter();
        Ok(Self {
            level: json["level"].as_u64().and_then(|n| n.try_into().ok()).ok_or_else(torn)?,
            migration: json["migration"].as_i64().ok_or_else(torn)?,
            statements: statements.map(kept).collect::<Option<_>>().ok_or_else(torn)?,
        })
    }

    /// The layout as this release made it.
    #[must_use]
    pub fn program(&self) -> Program {
        let mut program = Program { level: self.level, ..Program::default() };
        program.migrations.retain(|migration| migration.version <= self.migration);
        program
    }

    /// What of this release breaks on a newer layout; nothing when all is well. `old` is a store that this
    /// release has made, see [`Release::program`]; `new` one of the newest layout.
    ///
    /// # Errors
    /// Any [`Error`] of the two databases.
    pub async fn broken(&self, old: &Catalog, new: &Catalog) -> Result<Vec<String>, Error> {
        let mut broken = Vec::new();
        for s in &self.statements {
            if let Err(why) = prepare(new, s).await? {
                broken.push(format!("{}: {why}", s.name));
            }
        }
        let tables = tables(old).await?;
        let before = pairs(old, &DEMANDED, "column_name").await?;
        for (table, column) in pairs(new, &DEMANDED, "column_name").await?.difference(&before) {
            if tables.contains(table) {
                broken.push(format!(
                    "{table}.{column} is new and must be given, which no old INSERT does"
                ));
            }
        }
        let before = pairs(old, &UNIQUE, "columns").await?;
        for (table, columns) in pairs(new, &UNIQUE, "columns").await?.difference(&before) {
            if tables.contains(table) {
                broken.push(format!(
                    "{table} has a new unique index, which old rows may break: {columns}"
                ));
            }
        }
        Ok(broken)
    }
}

async fn prepare(catalog: &Catalog, s: &Kept) -> Result<Result<(), String>, Error> {
    let prepared = match catalog.store() {
        Store::Sqlite(store) => {
            let mut reader = store.readers.acquire().await.map_err(|e| Error::of("acquire", &e))?;
            reader.prepare(AssertSqlSafe(s.sqlite.clone()).into_sql_str()).await.map(drop)
        }
        Store::Postgres(store) => {
            let pool = store.pool().await?;
            let mut connection = pool.acquire().await.map_err(|e| Error::of("acquire", &e))?;
            connection.prepare(AssertSqlSafe(s.postgres.clone()).into_sql_str()).await.map(drop)
        }
    };
    Ok(prepared.map_err(|error| error.to_string()))
}

async fn tables(catalog: &Catalog) -> Result<BTreeSet<String>, Error> {
    let rows = catalog.fetch_all(&TABLES, Args::new()).await?;
    rows.iter().map(|row| row.get("name")).collect()
}

async fn pairs(
    catalog: &Catalog,
    s: &Statement,
    column: &str,
) -> Result<BTreeSet<(String, String)>, Error> {
    let rows = catalog.fetch_all(s, Args::new()).await?;
    let mut found: BTreeMap<(String, String), ()> = BTreeMap::new();
    for row in &rows {
        found.insert((row.get("table_name")?, row.get(column)?), ());
    }
    Ok(found.into_keys().collect())
}
