//! Hunts: what is asked of which endpoints, and what became of it.
//!
//! A hunt is a row of the catalog, changed by compare-and-set. A question's first wave is committed with
//! it; after that the dispatcher alone writes who is recruited (waves), the fold alone what became of them
//! ([`ShardProgress`]). [`Hunts`] follows both in memory: it answers which agent has work, and gives
//! every endpoint in a hunt's scope exactly one
//! outcome, so that outcomes sum to the scope.

mod batch;
mod change;
mod choose;
mod create;
mod def;
mod dispatcher;
mod entry;
mod error;
mod first_wave;
mod follow;
mod hunts;
mod index;
mod limits;
mod news;
mod pause;
mod progress;
mod rows;
mod scopes;
mod standing;
mod stored;

pub use change::{approve, delete, extend, pause, resume, set_hold, stop};
pub use create::{Created, LIFE_MAX, NewHunt, create};
pub use def::{Deadline, Definition, HuntDef, HuntKind, HuntState, UnknownWord};
pub use dispatcher::Dispatcher;
pub use error::HuntError;
pub use hunts::{HuntEvent, Hunts};
pub use limits::{Limits, LimitsError};
pub use news::News;
pub use pause::PauseRule;
pub use progress::{ProgressError, ShardProgress};
pub use standing::{Coverage, EndpointOutcome};
pub use stored::{Counter, Stored};

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [
        change::STATEMENTS,
        create::STATEMENTS,
        dispatcher::FINISH_STATEMENTS,
        dispatcher::WAVE_STATEMENTS,
        rows::STATEMENTS,
    ]
    .concat()
}
