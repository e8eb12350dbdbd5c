//! `/schedules`: what osquery agents run by themselves.

mod body;
pub(crate) mod resource;

pub(crate) use body::word;
pub use body::{Schedule, ScheduleBody};
pub(crate) use resource::STATEMENTS;

use muster_schedules::ScheduleError;

use crate::problem::{Code, Problem};

pub(crate) fn refused(error: ScheduleError) -> Problem {
    match error {
        ScheduleError::Invalid { field, problem } => {
            Problem::invalid(format!("/{field}"), format!("{field}: {problem}"))
        }
        ScheduleError::Parameters(error) => Problem::invalid("/parameters", error.to_string()),
        ScheduleError::Exists(_) | ScheduleError::TooMany(_) => {
            Problem::new(Code::Conflict, error.to_string())
        }
        ScheduleError::Unknown(what) => Problem::not_found(what),
        ScheduleError::Catalog(error) => error.into(),
    }
}
