//! Parts keep the column types they were written with; the table's may be wider by now.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use muster_results::{column_types, conform_column};
use muster_types::{ColumnDecl, ColumnType};
use parquet::file::metadata::KeyValue;

/// Values become text as everywhere in Muster, not as the engine would write them.
#[derive(Debug)]
pub(super) struct Widening {
    /// The table's own columns.
    pub columns: Vec<ColumnDecl>,
}

impl PhysicalExprAdapterFactory for Widening {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let metadata = file.metadata().iter();
        let metadata = metadata.map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
        let mut odd = Vec::new();
        for have in column_types(&file, Some(&metadata)) {
            let want = self.columns.iter().find(|column| column.name == have.name);
            let want = want.filter(|want| want.kind == ColumnType::Text && have.kind != want.kind);
            let Some(want) = want else { continue };
            let kind = table.field_with_name(&have.name)?.data_type().clone();
            odd.push(Odd { name: have.name, from: have.kind, to: want.kind, kind });
        }
        // The engine's own adapter sees these columns with the type they have, and leaves them.
        let as_stored = |field: &Arc<Field>| match file.field_with_name(field.name()) {
            Ok(stored) if odd.iter().any(|odd| odd.name == *field.name()) => {
                Arc::new(field.as_ref().clone().with_data_type(stored.data_type().clone()))
            }
            _ => Arc::clone(field),
        };
        let table = Arc::new(Schema::new(table.fields().iter().map(as_stored).collect::<Vec<_>>()));
        let inner = DefaultPhysicalExprAdapterFactory.create(table, file)?;
        Ok(Arc::new(Adapter { inner, odd }))
    }
}

#[derive(Debug)]
struct Adapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    odd: Vec<Odd>,
}

/// A column that is stored in another type than the table has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Odd {
    name: String,
    from: ColumnType,
    to: ColumnType,
    kind: DataType,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = self.inner.rewrite(expr)?;
        if self.odd.is_empty() {
            return Ok(expr);
        }
        expr.transform_up(|expr| {
            let name = expr.downcast_ref::<Column>().map(Column::name);
            let odd = name.and_then(|name| self.odd.iter().find(|odd| odd.name == name));
            Ok(match odd {
                Some(odd) => {
                    Transformed::yes(Arc::new(Widened { column: expr, odd: odd.clone() }) as _)
                }
                None => Transformed::no(expr),
            })
        })
        .data()
    }
}

/// A column as another type.
#[derive(Clone, Debug, Eq)]
struct Widened {
    column: Arc<dyn PhysicalExpr>,
    odd: Odd,
}

impl PartialEq for Widened {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.odd == other.odd
    }
}

impl Hash for Widened {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
    }
}

impl fmt::Display for Widened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text({})", self.column)
    }
}

impl PhysicalExpr for Widened {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.odd.kind.clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let stored = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let text = conform_column(&stored, self.odd.from, self.odd.to)?;
        Ok(ColumnarValue::Array(arrow::compute::cast(&text, &self.odd.kind)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { column: children.swap_remove(0), odd: self.odd.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
