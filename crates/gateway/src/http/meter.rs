//! A body's bytes in the budget, taken as they arrive: a length that is only claimed holds nothing.

use super::{Answer, Head, Room, Server, Service};
use crate::{Budget, Permit};

/// Counts one body.
pub(super) struct Meter {
    budget: Option<Budget>,
    permit: Option<Permit>,
}

/// There is no room for more of a body.
#[derive(Debug)]
pub(super) struct Full;

impl Meter {
    /// For a body of which nothing is read.
    pub(super) fn new(room: Room, budget: &Budget) -> Self {
        let budget = match room {
            Room::Uncounted => None,
            Room::Budget => Some(budget.clone()),
            Room::Strangers => Some(budget.strangers()),
        };
        Self { budget, permit: None }
    }

    /// Has room for so many bytes of the body from now on.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        let Some(budget) = &self.budget else { return Ok(()) };
        budget.try_grow(&mut self.permit, bytes).then_some(()).ok_or(Full)
    }

    /// What was taken.
    pub(super) fn into_permit(self) -> Option<Permit> {
        self.permit
    }
}

impl<S: Service> Server<S> {
    /// The answer when there is no room for a body; the connection ends with it.
    pub(super) fn full(&self, head: &Head<'_>) -> Answer {
        Answer { close: true, ..self.service.full(head) }
    }
}
