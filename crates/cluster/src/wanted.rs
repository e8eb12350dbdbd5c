//! Who should hold what of a job: pins first, and the rest evenly.

use std::collections::BTreeMap;

use muster_types::InstanceId;

use crate::Job;
use crate::instance::Instance;
use crate::share::shares;

/// The wanted holder of each partition of a job, among these live instances.
///
/// An instance that is pinned has its part and nothing else. What no live instance is pinned to is
/// shared by those that are not pinned; where all are pinned it waits for its own, since that is what
/// somebody has said.
pub(crate) fn wanted<'a>(
    job: Job,
    live: impl Iterator<Item = &'a Instance>,
) -> BTreeMap<u16, InstanceId> {
    let able = live.filter(|instance| instance.info.roles.has(job.role()));
    let (mut pinned, mut free) = (Vec::new(), Vec::new());
    for instance in able {
        match instance.info.facts.pins.get(job) {
            Some(pin) => pinned.push((pin, instance.info.id)),
            None => free.push(instance.info.id),
        }
    }
    // Clashes are refused at registration; should two versions disagree on that, the lowest has it.
    pinned.sort_unstable();
    let mut wanted = BTreeMap::new();
    let mut rest = Vec::new();
    for partition in 0..job.partitions() {
        match pinned.iter().find(|(pin, _)| pin.holds(partition)) {
            Some((_, id)) => drop(wanted.insert(partition, *id)),
            None => rest.push(partition),
        }
    }
    wanted.extend(rest.iter().copied().zip(shares(job.name(), &rest, &free)));
    wanted
}
