//! Parts as a scan of the engine's.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use muster_types::ColumnDecl;

use super::part::{PartFile, PartReaders};
use super::widen::Widening;

/// What is read of some parts, and how.
pub(crate) struct Files<'a> {
    pub state: &'a dyn Session,
    /// What parts have, as the table has it.
    pub schema: &'a SchemaRef,
    /// Its own columns among them.
    pub columns: &'a [ColumnDecl],
    /// Columns of the schema, in the order they are given.
    pub read: Vec<usize>,
    /// Whether places of pages are of use: only for leaving some out.
    pub index: bool,
    /// Whether to read other columns only for rows that pass.
    pub pushdown: bool,
    /// What rows must pass, besides what comes from above.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    pub limit: Option<usize>,
}

impl Files<'_> {
    pub(crate) fn exec(self, parts: &[Arc<PartFile>]) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema;
        let options = TableParquetOptions {
            global: self.state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let mut source = ParquetSource::new(Arc::clone(schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(PartReaders { index: self.index }))
            .with_pushdown_filters(self.pushdown);
        if let Some(predicate) = self.predicate {
            source = source.with_predicate(predicate);
        }
        let rows = parts.iter().map(|file| file.part.info.row_count as usize).sum();
        let bytes = parts.iter().map(|file| file.part.info.byte_count as usize).sum();
        let statistics = Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Inexact(bytes),
            column_statistics: Statistics::unknown_column(schema),
        };
        let files = parts.iter().enumerate().map(|(n, file)| {
            let mut partitioned =
                PartitionedFile::new(format!("part-{n}"), file.part.info.byte_count)
                    .with_extension(Arc::clone(file));
            let rows = Precision::Exact(file.part.info.row_count as usize);
            partitioned.statistics =
                Some(Arc::new(Statistics { num_rows: rows, ..Statistics::new_unknown(schema) }));
            partitioned
        });
        let groups = FileGroup::new(files.collect())
            .split_files(self.state.config_options().execution.target_partitions);
        let store = ObjectStoreUrl::parse("archive://")?;
        let config = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(self.read))?
            .with_expr_adapter(Some(Arc::new(Widening { columns: self.columns.to_vec() })))
            .with_limit(self.limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
