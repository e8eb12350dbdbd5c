//! What can go wrong with a hunt.

use muster_endpoints::ScopeError;
use muster_types::HuntNo;

use crate::{HuntState, LimitsError};

/// Why a hunt is not as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HuntError {
    /// A limit cannot be.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The scope cannot be read.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// Something else about it cannot be.
    #[error("the hunt cannot be: {0}")]
    Invalid(String),
    /// No such hunt in the organisation.
    #[error("no hunt {0}")]
    Unknown(HuntNo),
    /// Its state does not allow this.
    #[error("hunt {no} is {state}; {problem}")]
    State {
        /// Which hunt.
        no: HuntNo,
        /// Where it stands.
        state: HuntState,
        /// What would have been needed.
        problem: String,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] muster_catalog::Error),
}
