//! `/hunts`, `/queries`, `/collections`, `/history`: what is asked of endpoints.

pub mod act;
pub mod ask;
pub mod coverage;
pub mod list;
pub mod results;
pub mod view;

use std::sync::Arc;

use muster_hunts::{HuntDef, HuntError};
use muster_types::HuntNo;

use crate::authorise::Target;
use crate::caller::Caller;
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;

/// The statements of this module.
pub(crate) fn statements() -> Vec<&'static muster_catalog::Statement> {
    list::STATEMENTS.to_vec()
}

/// A hunt of the caller's organisation.
pub(crate) async fn find(state: &ApiState, caller: &Caller, no: u64) -> Result<Arc<HuntDef>> {
    let hunt = state.hunts.get(HuntNo(no)).await?;
    hunt.filter(|hunt| hunt.org == caller.principal.org)
        .ok_or_else(|| Problem::not_found(format_args!("hunt {no}")))
}

/// A hunt that the caller may change: their own, or anybody's for who holds the role on everything.
pub(crate) async fn find_to_change(
    state: &ApiState,
    caller: &Caller,
    no: u64,
) -> Result<Arc<HuntDef>> {
    let hunt = find(state, caller, no).await?;
    let own = hunt.requested_by == caller.principal.name;
    let target = if own { Target::Own } else { Target::OfAnother };
    let detail = format!(
        "hunt {no} was asked by {}; changing it needs the role on everything",
        hunt.requested_by
    );
    caller.insist(target, &detail)?;
    Ok(hunt)
}

pub(crate) fn refused(error: HuntError) -> Problem {
    match error {
        HuntError::Catalog(error) => error.into(),
        HuntError::Unknown(no) => Problem::not_found(format_args!("hunt {no}")),
        HuntError::State { .. } => Problem::new(Code::Conflict, error.to_string()),
        HuntError::Limits(ref limits) => {
            Problem::invalid(format!("/limits/{}", limits.name), error.to_string())
        }
        HuntError::Scope(_) => Problem::invalid("/scope", error.to_string()),
        HuntError::Invalid(_) => Problem::invalid("", error.to_string()),
    }
}
