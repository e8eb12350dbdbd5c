//! What is done to the text's syntax before it is planned: names of artifacts become names of
//! tables, and `*` leaves out hidden columns that the text names elsewhere.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, VisitMut, VisitorMut,
    WildcardAdditionalOptions,
};
use muster_results::SYSTEM_COLUMNS;

use crate::schema::{CATALOG, SCHEMA, folded};

/// The hidden columns whose names stand in the text, be it in a string.
pub(super) fn named(sql: &str) -> Vec<&'static str> {
    let words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: BTreeSet<String> = words.map(str::to_lowercase).collect();
    let hidden = SYSTEM_COLUMNS.iter().filter(|column| column.hidden);
    hidden.map(|column| column.name).filter(|name| words.contains(*name)).collect()
}

/// Rewrites the statement; `is_result` knows the tables that have `hidden` columns.
pub(super) fn prepare(
    statement: &mut Statement,
    hidden: &[&str],
    is_result: &dyn Fn(&str) -> bool,
) {
    let mut rewrite = Rewrite { hidden, is_result };
    match statement {
        Statement::Statement(statement) => {
            let _ = VisitMut::visit(statement.as_mut(), &mut rewrite);
        }
        Statement::Explain(explain) => prepare(&mut explain.statement, hidden, is_result),
        _ => {}
    }
}

struct Rewrite<'a> {
    hidden: &'a [&'a str],
    is_result: &'a dyn Fn(&str) -> bool,
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        if let [first, ..] = name.0.as_slice()
            && name.0.len() > 1
            && first.as_ident().is_some_and(|first| {
                ![CATALOG, SCHEMA, "information_schema"].contains(&first.value.as_str())
            })
        {
            let table = folded(&name.to_string().replace('"', ""));
            if (self.is_result)(&table) {
                *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', table))]);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if !self.hidden.is_empty() {
            self.narrow(select);
        }
        ControlFlow::Continue(())
    }
}

impl Rewrite<'_> {
    fn narrow(&self, select: &mut Select) {
        let factors = select.from.iter().flat_map(|from| {
            std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
        });
        let relations: Vec<(ObjectName, bool)> =
            factors.filter_map(|factor| self.relation(factor)).collect();
        let alone =
            relations.len() == 1 && select.from.len() == 1 && select.from[0].joins.is_empty();
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) if alone && relations[0].1 => self.exclude(options),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(of),
                    options,
                ) if relations.iter().any(|(name, result)| *result && name == of) => {
                    self.exclude(options);
                }
                _ => {}
            }
        }
    }

    /// The name a relation goes by, and whether it is a result table.
    fn relation(&self, factor: &TableFactor) -> Option<(ObjectName, bool)> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
        let table = name.0.last()?.as_ident()?.value.clone();
        let plain = folded(&name.to_string().replace('"', ""));
        let result = (self.is_result)(&folded(&table)) || (self.is_result)(&plain);
        let by = match alias {
            Some(TableAlias { name, .. }) => {
                ObjectName(vec![ObjectNamePart::Identifier(name.clone())])
            }
            None => name.clone(),
        };
        Some((by, result))
    }

    fn exclude(&self, options: &mut WildcardAdditionalOptions) {
        // Whoever lists what to leave out has taken the choice over.
        if options.opt_exclude.is_none() && options.opt_except.is_none() {
            let name = |name: &&str| {
                ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', *name))])
            };
            let names = self.hidden.iter().map(name).collect();
            options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
        }
    }
}
