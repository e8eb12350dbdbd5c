//! Checks of statements on a real database, for the tests of every crate that owns some.
//!
//! ```no_run
//! # async fn test(catalog: muster_catalog::Catalog) {
//! let problems = muster_catalog::check::problems(&catalog, &muster_catalog::statements()).await;
//! assert_eq!(problems.unwrap(), Vec::<String>::new());
//! # }
//! ```

use std::fmt::Write;

use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Executor, Row, SqlSafeStr, Statement as _};

use crate::store::Store;
use crate::{Catalog, Error, Statement};

/// How a database would run a statement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The statement.
    pub name: &'static str,
    /// The plan without costs, a step a line: fit for a snapshot.
    pub text: String,
    /// Steps that read a whole table or index although the statement is not `small`.
    pub full_scans: Vec<String>,
}

/// Prepares every statement on this database.
///
/// # Errors
/// [`Error::Other`] with the name and the database's words for the first that does not prepare.
pub async fn prepare_all(catalog: &Catalog, statements: &[&Statement]) -> Result<(), Error> {
    for s in statements {
        let prepared = match catalog.store() {
            Store::Sqlite(store) => {
                let mut reader =
                    store.readers.acquire().await.map_err(|e| Error::of("acquire", &e))?;
                reader.prepare(s.sqlite.into_sql_str()).await.map(drop)
            }
            Store::Postgres(store) => {
                let pool = store.pool().await?;
                let mut connection = pool.acquire().await.map_err(|e| Error::of("acquire", &e))?;
                connection.prepare(s.postgres.into_sql_str()).await.map(drop)
            }
        };
        prepared.map_err(|error| Error::of(s.name, &error))?;
    }
    Ok(())
}

/// The plan of every statement on this database.
///
/// # Errors
/// As [`prepare_all`].
pub async fn plans(catalog: &Catalog, statements: &[&Statement]) -> Result<Vec<Plan>, Error> {
    let mut plans = Vec::with_capacity(statements.len());
    for s in statements {
        let (text, scans) = match catalog.store() {
            Store::Sqlite(store) => sqlite_plan(&store.readers, s).await,
            Store::Postgres(store) => postgres_plan(&store.pool().await?, s).await,
        }
        .map_err(|error| Error::of(s.name, &error))?;
        let full_scans = if s.scans { Vec::new() } else { scans };
        plans.push(Plan { name: s.name, text, full_scans });
    }
    Ok(plans)
}

/// What is wrong with these statements on this database; empty when nothing is.
///
/// # Errors
/// As [`prepare_all`].
pub async fn problems(catalog: &Catalog, statements: &[&Statement]) -> Result<Vec<String>, Error> {
    prepare_all(catalog, statements).await?;
    let mut problems = Vec::new();
    for s in statements {
        let counts = [s.sqlite, s.postgres].map(crate::parameter_count);
        if counts[0] != counts[1] {
            problems.push(format!("{}: {} and {} parameters", s.name, counts[0], counts[1]));
        }
    }
    for plan in plans(catalog, statements).await? {
        problems.extend(plan.full_scans.iter().map(|scan| format!("{}: {scan}", plan.name)));
    }
    Ok(problems)
}

type Steps = (String, Vec<String>);

async fn sqlite_plan(pool: &sqlx::SqlitePool, s: &Statement) -> Result<Steps, sqlx::Error> {
    // Unbound parameters are NULL, which does not change the plan.
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", s.sqlite));
    let rows = sqlx::raw_sql(explain).fetch_all(pool).await?;
    let (mut text, mut scans) = (String::new(), Vec::new());
    for row in rows {
        let step: String = row.try_get("detail")?;
        // Table-valued functions, rows of VALUES and subqueries are as large as their input. Rows of VALUES that
        // a statement joins are called `given`.
        let bounded = [
            "VIRTUAL TABLE",
            "CONSTANT ROW",
            "ROW VALUES CLAUSE",
            "(subquery",
            "SCAN excluded",
            "SCAN given",
        ];
        if step.starts_with("SCAN ") && !bounded.iter().any(|b| step.contains(b)) {
            scans.push(step.clone());
        }
        text.push_str(&step);
        text.push('\n');
    }
    Ok((text, scans))
}

async fn postgres_plan(pool: &sqlx::PgPool, s: &Statement) -> Result<Steps, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // Every connection is set to plans by index, so tables may be empty here. The generic plan is the one that
    // does not know its parameters.
    let generic = "SET LOCAL plan_cache_mode = force_generic_plan";
    tx.execute(sqlx::raw_sql(generic)).await?;
    let parameters = tx.prepare(s.postgres.into_sql_str()).await?;
    let count = parameters.parameters().map_or(0, |p| p.either(|types| types.len(), |n| n));
    let nulls =
        if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) };
    let prepare = AssertSqlSafe(format!("PREPARE checked AS {}", s.postgres));
    tx.execute(sqlx::raw_sql(prepare)).await?;
    let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE checked{nulls}"));
    let row = sqlx::raw_sql(explain).fetch_one(&mut *tx).await?;
    let json: String = row.try_get_unchecked(0)?;
    tx.execute(sqlx::raw_sql("DEALLOCATE checked")).await?;
    tx.rollback().await?;
    let plan: Json = serde_json::from_str(&json).unwrap_or_default();
    let (mut text, mut scans) = (String::new(), Vec::new());
    walk(&plan[0]["Plan"], 0, &mut text, &mut scans);
    Ok((text, scans))
}

/// Writes a node and those below it; collects those that read all of a table or index.
fn walk(node: &Json, depth: usize, text: &mut String, scans: &mut Vec<String>) {
    let field = |name: &str| node[name].as_str().unwrap_or_default();
    let mut step = field("Node Type").to_owned();
    for (word, name) in [("on", "Relation Name"), ("using", "Index Name"), ("when", "Index Cond")] {
        if !field(name).is_empty() {
            let _ = write!(step, " {word} {}", field(name));
        }
    }
    let whole_table = field("Node Type") == "Seq Scan";
    let whole_index = field("Node Type").starts_with("Index") && field("Index Cond").is_empty();
    if whole_table || whole_index {
        scans.push(step.clone());
    }
    let _ = writeln!(text, "{:indent$}{step}", "", indent = depth * 2);
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, depth + 1, text, scans);
    }
}
