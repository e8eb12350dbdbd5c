//! Whether a condition holds for one endpoint.

use std::cmp::Ordering;

use muster_types::Timestamp;

use super::ast::{Column, Expr, Moment, Op};

/// One endpoint's values.
pub(crate) trait Fields {
    fn now(&self) -> Timestamp;
    fn online(&self) -> bool;
    fn endpoint(&self) -> u32;
    fn time(&self, column: Column) -> Option<Timestamp>;
    /// Calls `test` with each of the values until one passes: `None` when there is no value, else
    /// whether one passed.
    fn any_text(&self, column: Column, test: &mut dyn FnMut(&str) -> bool) -> Option<bool>;
}

/// True, false or NULL. Depth is bounded by the parser.
pub(super) fn eval(expr: &Expr, fields: &dyn Fields) -> Option<bool> {
    match expr {
        Expr::And(parts) => all(parts, fields, false),
        Expr::Or(parts) => all(parts, fields, true),
        Expr::Not(inner) => eval(inner, fields).map(|held| !held),
        Expr::Literal(value) => Some(*value),
        Expr::Online => Some(fields.online()),
        Expr::IsNull(column) => Some(is_null(*column, fields)),
        Expr::Int(op, wanted) => Some(compare(*op, i64::from(fields.endpoint()).cmp(wanted))),
        Expr::Time(column, op, moment) => {
            let wanted = match moment {
                Moment::At(at) => *at,
                Moment::FromNow(by) => fields.now().0.saturating_add(*by),
            };
            fields.time(*column).map(|at| compare(*op, at.0.cmp(&wanted)))
        }
        Expr::Text(column, Op::Ne, wanted) => {
            fields.any_text(*column, &mut |text| text == wanted).map(|found| !found)
        }
        Expr::Text(column, op, wanted) => {
            fields.any_text(*column, &mut |text| compare(*op, text.cmp(wanted.as_str())))
        }
        Expr::TextIn(column, wanted) => {
            fields.any_text(*column, &mut |text| wanted.iter().any(|one| one == text))
        }
        Expr::Like(column, pattern) => fields.any_text(*column, &mut |text| pattern.matches(text)),
    }
}

/// AND (`deciding` false) or OR (`deciding` true): one part with the deciding value decides, else one
/// NULL makes NULL.
fn all(parts: &[Expr], fields: &dyn Fields, deciding: bool) -> Option<bool> {
    let mut unknown = false;
    for part in parts {
        match eval(part, fields) {
            Some(value) if value == deciding => return Some(deciding),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(!deciding)
}

fn is_null(column: Column, fields: &dyn Fields) -> bool {
    match column {
        Column::Endpoint | Column::Online => false,
        Column::EnrolledAt | Column::LastSeen => fields.time(column).is_none(),
        _ => fields.any_text(column, &mut |_| true).is_none(),
    }
}

fn compare(op: Op, order: Ordering) -> bool {
    match op {
        Op::Eq => order.is_eq(),
        Op::Ne => order.is_ne(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
    }
}
