//! Conditions over endpoints, as people write them: a small, safe part of SQL.
//!
//! `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`, `LIKE`, `ILIKE`, `IN`, `BETWEEN`, `IS NULL`, `AND`, `OR`, `NOT` and
//! parentheses, over the [`COLUMNS`]; on the left a column, on the right values. Times are RFC 3339
//! text, seconds since 1970, or `now() - interval '7 days'`. NULL is neither true nor false, as in
//! SQL. An endpoint has many labels and may have several agents: over `label`, `agent_kind` and
//! `agent_version` a comparison holds when it holds for one of them, and `NOT`, `!=` when for none.

mod ast;
mod eval;
mod lex;
mod like;
mod parse;

pub(crate) use ast::Column;
pub use ast::{COLUMNS, ColumnKind};
pub(crate) use eval::Fields;

use ast::Expr;

/// The longest condition, in bytes.
pub const MAX_BYTES: usize = 4_096;
/// The deepest nesting of parentheses and NOT.
pub const MAX_DEPTH: usize = 32;

/// A checked condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    expr: Expr,
}

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("condition, character {at}: {message}")]
pub struct ConditionError {
    /// The character, counted from 1.
    pub at: usize,
    /// What is wrong, and what may have been meant.
    pub message: String,
}

impl ConditionError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`ConditionError`] with a position and, for a misspelt column, the nearest one.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_BYTES {
            return Err(ConditionError::new(1, format!("longer than {MAX_BYTES} bytes")));
        }
        parse::parse(&lex::lex(text)?, text.chars().count() + 1).map(|expr| Self { expr })
    }

    /// Whether its value may change while the directory does not: it asks for presence or the time.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.expr.is_volatile()
    }

    /// Whether it holds; NULL does not.
    pub(crate) fn holds(&self, fields: &dyn Fields) -> bool {
        eval::eval(&self.expr, fields) == Some(true)
    }
}

#[cfg(test)]
mod tests;
