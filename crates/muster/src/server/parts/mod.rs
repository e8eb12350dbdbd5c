//! The parts of a server, one file each: how it is built, and how it runs.
//!
//! [`Base`] and [`Ground`] come first and every instance has them; the rest belongs to a role. A part
//! is built whole before anything runs ([`super::build`]), and runs its tasks in the groups that are
//! stopped in order ([`super::group`]).

mod api;
mod base;
mod frontend;
mod ground;
mod place;
mod scheduler;
mod seeing;
mod worker;

pub use api::Api;
pub use base::Base;
pub use frontend::Frontend;
pub use ground::Ground;
pub use place::Place;
pub use scheduler::Scheduler;
pub use seeing::{Seeing, diagnose, shown, volumes};
pub use worker::Workers;
