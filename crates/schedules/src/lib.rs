//! What agents run by themselves, and the configuration they are given.
//!
//! A [`Schedule`] is an artifact that osquery agents run at an interval; a [`Fragment`] is a part of
//! their configuration (options, decorators, file paths …) for everyone, a label or a platform.
//! [`Schedules`] follows both in memory and answers two questions without the catalog: which document
//! an agent is given ([`Schedules::config_for`]), and which table the rows of a name belong to
//! ([`Schedules::scheduled`]). The rules by which fragments are merged stand at [`merge`].

mod cache;
mod change;
mod check;
mod fragment;
pub mod import;
pub mod merge;
mod model;
mod own_artifact;
mod render;
mod rows;
mod schedules;
mod state;
mod yara;

pub use change::{
    change_schedule_in, create_schedule_in, delete_fragment_in, delete_schedule_in, put_fragment_in,
};
pub use check::{SECTIONS, ScheduleError};
pub use fragment::{Fragment, NewFragment};
pub use model::{Edit, Mode, NewSchedule, Platforms, Schedule, What, reported_name};
pub use render::{DOCUMENT_BYTES_MAX, Rendered};
pub use rows::{fragments, schedule, schedules};
pub use schedules::{BuiltIn, Schedules};
pub use yara::{YaraRules, yara_delete_in, yara_get, yara_list, yara_put_in};

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [change::STATEMENTS, rows::STATEMENTS, yara::STATEMENTS].concat()
}
