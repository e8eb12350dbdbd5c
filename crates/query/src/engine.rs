//! The DataFusion session of one question, and the way from its text to rows.

mod depth;
mod hidden;

use std::sync::Arc;

use datafusion::catalog::CatalogProviderList;
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::object_store::DefaultObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::object_store::memory::InMemory;
use datafusion::prelude::{DataFrame, SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use muster_types::SqlRequest;

use crate::Error;
use crate::question::Question;
use crate::schema::{CATALOG, OneSchema, SCHEMA, Tables};

/// Of the memory limit, what the engine's large buffers may take: scans and code need the rest.
const POOL_SHARE: f64 = 0.6;

/// The engine counts rows in signed numbers.
const ROWS_MAX: u64 = 1 << 40;

/// One question's engine.
pub struct Engine {
    context: SessionContext,
    tables: Arc<Tables>,
    rows_max: usize,
    scoped: bool,
    sql: String,
}

/// Rows as they come.
pub type Answer = SendableRecordBatchStream;

impl Engine {
    /// Opens catalog and archive.
    ///
    /// # Errors
    /// When one of them does not open.
    pub async fn open(request: &SqlRequest) -> Result<Self, Error> {
        let question = Question::open(request).await?;
        let hidden = hidden::named(&request.sql);
        let tables = Arc::new(Tables::new(question, hidden).await?);
        let context = context(request, &tables)?;
        Ok(Self {
            context,
            tables,
            rows_max: usize::try_from(request.limits.rows.min(ROWS_MAX)).unwrap_or(usize::MAX),
            scoped: request.access.agents.is_some(),
            sql: request.sql.clone(),
        })
    }

    /// Plans the text and begins to run it.
    ///
    /// # Errors
    /// [`Error::Asker`] for a text that cannot be answered.
    pub async fn run(&self) -> Result<Answer, Error> {
        let statement = self.statement()?;
        let state = self.context.state();
        for table in state.resolve_table_references(&statement)? {
            if !state.table_functions().contains_key(table.table()) {
                self.known(&table)?;
            }
        }
        let plan = Box::pin(state.statement_to_plan(statement)).await?;
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| refused())?;
        let shows_itself = matches!(
            plan,
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)
        );
        self.may_explain(&plan)?;
        let frame = DataFrame::new(state, plan);
        let frame = if shows_itself { frame } else { frame.limit(0, Some(self.rows_max))? };
        Ok(Box::pin(frame.execute_stream()).await?)
    }

    fn statement(&self) -> Result<Statement, Error> {
        depth::check(&self.sql)?;
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(&self.sql, &dialect)?;
        let is_result = |name: &str| self.tables.is_result(name);
        hidden::prepare(&mut statement, self.tables.hidden(), &is_result);
        Ok(statement)
    }

    fn known(&self, table: &TableReference) -> Result<(), Error> {
        use datafusion::catalog::SchemaProvider;
        let ours = table.catalog().is_none_or(|name| name == CATALOG);
        if ours && table.schema() == Some("information_schema") {
            return Ok(());
        }
        let ours = ours && table.schema().is_none_or(|name| name == SCHEMA);
        if ours && self.tables.table_exist(table.table()) {
            return Ok(());
        }
        Err(self.tables.unknown(&table.to_string()))
    }

    /// Counts of what is read, before it is cut to the asker's scope, are not for everybody.
    fn may_explain(&self, plan: &LogicalPlan) -> Result<(), Error> {
        let counts = match plan {
            LogicalPlan::Analyze(_) => true,
            LogicalPlan::Explain(explain) => explain.verbose,
            _ => false,
        };
        if counts && self.scoped {
            let text = "EXPLAIN ANALYZE and VERBOSE count rows of all endpoints; they need access to all of them";
            return Err(Error::Asker(text.to_owned()));
        }
        Ok(())
    }
}

fn refused() -> Error {
    Error::Asker("only SELECT, WITH, EXPLAIN, DESCRIBE and SHOW TABLES are answered".to_owned())
}

fn context(request: &SqlRequest, tables: &Arc<Tables>) -> Result<SessionContext, DataFusionError> {
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(OneSchema(Arc::clone(tables))));
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(request.threads.max(1));
    // Plans name what is read for everybody; a scoped asker sees what was asked only.
    config.options_mut().explain.logical_plan_only = request.access.agents.is_some();
    config.options_mut().execution.time_zone = Some("UTC".to_owned());
    let pool = (request.limits.memory_bytes as f64 * POOL_SHARE) as usize;
    let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(pool));
    let stores = DefaultObjectStoreRegistry::default();
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_object_store_registry(Arc::new(stores))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()?;
    // Nothing is read through it: parts come by their own reader.
    let store = datafusion::execution::object_store::ObjectStoreUrl::parse("archive://")?;
    runtime.register_object_store(store.as_ref(), Arc::new(InMemory::new()));
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(Arc::new(catalogs))
        .build();
    let context = SessionContext::new_with_state(state);
    crate::version::functions().into_iter().for_each(|function| context.register_udf(function));
    Ok(context)
}
