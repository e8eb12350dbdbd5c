//! Who cannot live beside whom.

use muster_types::InstanceId;

use crate::instance::{Instance, InstanceInfo};

/// Another live instance that this one cannot be beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The other one.
    pub id: InstanceId,
    /// Its name and where it listens.
    pub who: String,
    /// Why, and what to do.
    pub why: String,
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "instance {} is alive, and {}", self.who, self.why)
    }
}

impl std::error::Error for Clash {}

/// The first of the live instances that cannot be beside `me`.
pub(crate) fn find(me: &InstanceInfo, all: &[Instance]) -> Option<Clash> {
    let others = all.iter().filter(|other| other.live && other.info.id != me.id);
    others.into_iter().find_map(|other| {
        let why = why(me, &other.info)?;
        Some(Clash { id: other.info.id, who: who(&other.info), why })
    })
}

fn who(other: &InstanceInfo) -> String {
    let at = other.addresses.first().map(|at| format!(", {at}")).unwrap_or_default();
    format!("{} ({}{at})", other.name, other.id)
}

fn why(me: &InstanceInfo, other: &InstanceInfo) -> Option<String> {
    if let Some(alone) = &me.facts.alone {
        return Some(format!(
            "{alone}; stop it, or move this installation to stores that instances can share"
        ));
    }
    if let Some(alone) = &other.facts.alone {
        return Some(format!("there {alone}; give all instances the same shared stores"));
    }
    me.facts.pins.iter().filter(|(job, _)| me.roles.has(job.role())).find_map(|(job, mine)| {
        let theirs = other.facts.pins.get(job).filter(|_| other.roles.has(job.role()))?;
        let name = job.name();
        if theirs.parts() != mine.parts() {
            return Some(format!(
                "pins.{name} is {theirs} there and {mine} here: cut it into the same number of parts everywhere"
            ));
        }
        (theirs == mine)
            .then(|| format!("pins.{name} is {mine} there and here: pin one of them to another part"))
    })
}
