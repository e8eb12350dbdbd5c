//! Whole servers, agents and fleets as users have them: each test its own folder and ports.

mod support;

mod first_hour;
mod hunts;
mod join;
