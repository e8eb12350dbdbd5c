//! The `scheduler` role: recruiting for hunts, scheduled tasks.

use std::sync::Arc;

use muster_cluster::{Job, Role};
use muster_hunts::Dispatcher;
use muster_inventory::rule::Evaluator;

use super::{Api, Base, Ground, Place};
use crate::server::group::Groups;
use crate::server::runtimes::Runtimes;

/// What a scheduler runs.
pub struct Scheduler {
    dispatcher: Dispatcher,
    rules: Evaluator,
}

impl Scheduler {
    /// Builds it, on an instance with the role. Rules of labels ask through the API's SQL.
    pub fn build(base: &Base, ground: &Ground, place: &Place, api: &Api) -> Option<Self> {
        base.roles.has(Role::Scheduler).then(|| Self {
            dispatcher: Dispatcher::new(
                ground.hunts.clone(),
                base.planes.stream.clone(),
                place.cluster.leases(Job::Dispatch),
            ),
            rules: Evaluator::new(
                base.planes.catalog.clone(),
                base.planes.bus.clone(),
                ground.directory.clone(),
                base.clock.clone(),
                Arc::new(muster_api::inventory::RuleSql::new(api.state.clone())),
                place.cluster.leases(Job::Schedule),
            ),
        })
    }

    /// Works under this instance's leases.
    pub fn run(self, groups: &mut Groups, runtimes: &Runtimes) {
        let (work, on) = (&mut groups.work, runtimes.work.handle());
        work.run(on, self.dispatcher.run(work.token.clone()));
        work.run(on, self.rules.run(work.token.clone()));
    }
}
