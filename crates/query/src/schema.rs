//! Which tables there are, found when a text names them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use muster_archive::manifest;
use muster_types::{ColumnDecl, HuntNo};
use tokio::sync::Mutex;

use crate::Error;
use crate::current::{self, CurrentTable};
use crate::error::nearest;
use crate::question::Question;
use crate::results::ResultTable;
use crate::tables::{Listed, SOFTWARE, SYSTEM_TABLES, Sheet};

/// The one catalog.
pub(crate) const CATALOG: &str = "muster";
/// The one schema.
pub(crate) const SCHEMA: &str = "public";

/// How often a table is read anew because its columns grew meanwhile; then it has those of the last reading,
/// and values of columns that came later are not seen by this query.
const READS_MAX: usize = 8;

/// All tables of one question.
#[derive(Debug)]
pub(crate) struct Tables {
    question: Arc<Question>,
    /// Every name that can be asked for, and what it stands for.
    names: BTreeMap<String, Name>,
    /// Hidden columns that the text names.
    hidden: Vec<&'static str>,
    /// Tables are made once, so that each is one snapshot for the whole query.
    made: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
}

#[derive(Clone, Debug)]
enum Name {
    Sheet(Sheet),
    /// A table of the manifest.
    Result,
    /// What one hunt put into a table.
    Hunt(HuntNo, String),
    /// The present state of scheduled sources.
    Current(String),
}

impl Tables {
    pub(crate) async fn new(
        question: Arc<Question>,
        hidden: Vec<&'static str>,
    ) -> Result<Self, Error> {
        let mut names = BTreeMap::new();
        let hunts = question.hunts().await?;
        for table in question.result_tables().await?.iter() {
            // The table of an ad-hoc query goes with its hunt.
            if hunt_number(table).is_none() {
                let name = match table.ends_with(current::SUFFIX) {
                    true => Name::Current(table.clone()),
                    false => Name::Result,
                };
                names.insert(table.clone(), name);
            }
        }
        for (no, hunt) in hunts.iter().filter(|(_, hunt)| !hunt.deleted) {
            names.insert(format!("hunt_{no}"), Name::Hunt(*no, hunt.table.clone()));
        }
        for (name, _) in SYSTEM_TABLES {
            names.insert(name.to_owned(), Name::Result);
        }
        for spec in muster_inventory::tables() {
            let current = format!("{}{}", spec.name, current::SUFFIX);
            names.insert(current.clone(), Name::Current(current));
            names.insert(spec.name.clone(), Name::Result);
        }
        names.insert(SOFTWARE.0.to_owned(), Name::Current(SOFTWARE.1.to_owned()));
        for sheet in Sheet::ALL {
            names.insert(sheet.name().to_owned(), Name::Sheet(sheet));
        }
        Ok(Self { question, names, hidden, made: Mutex::default() })
    }

    /// What to say about a table that is not there.
    pub(crate) fn unknown(&self, name: &str) -> Error {
        let shown: BTreeSet<&str> = self.names.keys().map(String::as_str).collect();
        let hint = nearest(&folded(name), shown.into_iter());
        let hint = match hint {
            Some(near) => format!("did you mean {near:?}?"),
            None => "SHOW TABLES lists them".to_owned(),
        };
        Error::Asker(format!("there is no table {name:?}; {hint}"))
    }

    /// Hidden columns that the text names; result tables have them.
    pub(crate) fn hidden(&self) -> &[&'static str] {
        &self.hidden
    }

    /// Whether this is the name of a table of results.
    pub(crate) fn is_result(&self, name: &str) -> bool {
        matches!(self.names.get(name), Some(Name::Result | Name::Hunt(..) | Name::Current(_)))
    }

    async fn make(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, Error> {
        let Some(kind) = self.names.get(name) else { return Ok(None) };
        let (table, hunt) = match kind {
            Name::Sheet(sheet) => {
                return Ok(Some(Arc::new(Listed::new(Arc::clone(&self.question), *sheet))));
            }
            Name::Result => (name, None),
            Name::Hunt(no, table) => (table.as_str(), Some(*no)),
            Name::Current(table) => return self.current(table).await.map(Some),
        };
        // Columns are read before the parts are pinned, and a commit in between may bring both rows and
        // columns. They only grow: when they are still the same afterwards, they are those of the parts.
        let mut columns = self.columns(table).await?;
        let mut reads = 0;
        loop {
            reads += 1;
            let bytes = self.question.bytes_columns(table).await?;
            let question = Arc::clone(&self.question);
            let made =
                ResultTable::new(question, table, hunt, columns.clone(), &bytes, &self.hidden);
            made.rows().await?;
            let now = self.columns(table).await?;
            if now == columns || reads == READS_MAX {
                return Ok(Some(Arc::new(made)));
            }
            columns = now;
        }
    }

    /// As [`Tables::make`] does it.
    async fn current(&self, table: &str) -> Result<Arc<dyn TableProvider>, Error> {
        let mut columns = self.columns(table).await?;
        let mut reads = 0;
        loop {
            reads += 1;
            let bytes = self.question.bytes_columns(table).await?;
            let question = Arc::clone(&self.question);
            let made = CurrentTable::new(question, table, columns.clone(), &bytes, &self.hidden);
            made.parts().await?;
            let now = self.columns(table).await?;
            if now == columns || reads == READS_MAX {
                return Ok(Arc::new(made));
            }
            columns = now;
        }
    }

    async fn columns(&self, table: &str) -> Result<Vec<ColumnDecl>, Error> {
        let question = &self.question;
        let mut columns = manifest::columns(&question.catalog, question.access.org, table).await?;
        for declared in declared(table) {
            if !columns.iter().any(|column| column.name == declared.name) {
                columns.push(declared);
            }
        }
        Ok(columns)
    }
}

/// Columns that a table has before its first row.
fn declared(table: &str) -> Vec<ColumnDecl> {
    if let Some((_, columns)) = SYSTEM_TABLES.iter().find(|(known, _)| *known == table) {
        let decl = |(name, kind): &(&str, _)| ColumnDecl { name: (*name).to_owned(), kind: *kind };
        return columns.iter().map(decl).collect();
    }
    let table = table.strip_suffix(current::SUFFIX).unwrap_or(table);
    let known = muster_inventory::tables().into_iter().find(|spec| spec.name == table);
    known.map(|spec| spec.columns.clone()).unwrap_or_default()
}

/// An artifact's name, `linux.processes`, stands for its table.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase().replace('.', "_")
}

fn hunt_number(table: &str) -> Option<u64> {
    table.strip_prefix("hunt_")?.parse().ok()
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = folded(name);
        let mut made = self.made.lock().await;
        if let Some(table) = made.get(&name) {
            return Ok(Some(Arc::clone(table)));
        }
        let table = self.make(&name).await?;
        if let Some(table) = &table {
            made.insert(name, Arc::clone(table));
        }
        Ok(table)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.contains_key(&folded(name))
    }
}

/// The catalog that holds [`Tables`].
#[derive(Debug)]
pub(crate) struct OneSchema(pub Arc<Tables>);

impl CatalogProvider for OneSchema {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as Arc<dyn SchemaProvider>)
    }
}
