//! The one gate for rights: every operation with what it needs, and the decision.

use muster_types::{Access, Role};

use crate::auth::principal::Principal;

/// Who may call an operation at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Anybody.
    Nobody,
    /// Whoever is signed in, even with a one-time password: matters of their own account.
    SignIn,
    /// The role on something; the operation then sees and touches only that.
    Some(Role),
    /// The role on everything.
    Everything(Role),
}

/// What the audit log keeps of a success. Refusals for want of rights are always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Nothing: no data of the organisation is seen or changed.
    Nothing,
    /// One record per request, written before the answer leaves.
    Look,
    /// One record in the transaction of the change, written by the operation.
    Change,
    /// One record written by the operation when its stream ends.
    Stream,
}

/// What is special about an operation's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Plain,
    /// It holds a secret, shown once: never kept for replay.
    Secret,
}

/// One operation of the API.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its id in the OpenAPI document and in the audit log.
    pub id: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// What is kept of it.
    pub audit: Audit,
    /// What is special about its answer.
    pub answer: Answer,
}

impl Operation {
    /// Whether it changes something, so that `Idempotency-Key` applies.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.audit == Audit::Change
    }
}

const fn op(id: &'static str, needs: Needs, audit: Audit) -> Operation {
    Operation { id, needs, audit, answer: Answer::Plain }
}

const fn secret(id: &'static str, needs: Needs) -> Operation {
    Operation { id, needs, audit: Audit::Change, answer: Answer::Secret }
}

use Audit::{Change, Look, Nothing, Stream};
use Needs::{Everything, Nobody, SignIn, Some as On};
use Role::{Administrator, Analyst, Responder, Viewer};

/// All operations. A path whose operation is not here is refused at start and in the tests.
pub const OPERATIONS: &[Operation] = &[
    secret("login", Nobody),
    op("logout", SignIn, Change),
    op("whoami", SignIn, Nothing),
    op("password.change", SignIn, Change),
    op("version", SignIn, Nothing),
    op("users.list", Everything(Administrator), Look),
    secret("users.create", Everything(Administrator)),
    op("users.get", Everything(Administrator), Look),
    op("users.disable", Everything(Administrator), Change),
    op("users.enable", Everything(Administrator), Change),
    op("users.roles", Everything(Administrator), Change),
    secret("users.reset", Everything(Administrator)),
    op("tokens.list", On(Viewer), Look),
    secret("tokens.create", On(Viewer)),
    op("tokens.revoke", On(Viewer), Change),
    op("audit.list", Everything(Administrator), Look),
    op("audit.verify", Everything(Administrator), Look),
    op("approvals.list", On(Analyst), Look),
    op("approvals.approve", On(Responder), Change),
    op("approvals.deny", On(Responder), Change),
    op("endpoints.list", On(Viewer), Look),
    op("endpoints.get", On(Viewer), Look),
    op("endpoints.delete", On(Administrator), Change),
    op("agents.list", On(Viewer), Look),
    op("uploads.list", On(Viewer), Look),
    op("uploads.get", On(Viewer), Look),
    op("uploads.content", On(Analyst), Look),
    op("endpoints.vitals", On(Viewer), Stream),
    op("endpoints.users", On(Viewer), Stream),
    op("endpoints.software", On(Viewer), Stream),
    op("endpoints.policies", On(Viewer), Stream),
    op("endpoints.refetch", On(Analyst), Change),
    op("policies.list", On(Viewer), Look),
    op("policies.get", On(Viewer), Look),
    op("policies.create", Everything(Responder), Change),
    op("policies.change", Everything(Responder), Change),
    op("policies.delete", Everything(Responder), Change),
    op("policies.counts", On(Viewer), Stream),
    op("policies.endpoints", On(Viewer), Stream),
    op("policies.flips", On(Viewer), Stream),
    op("labels.list", On(Viewer), Look),
    op("labels.create", Everything(Responder), Change),
    op("labels.delete", Everything(Responder), Change),
    op("labels.members", On(Viewer), Look),
    op("labels.change", Everything(Responder), Change),
    op("labels.rule", Everything(Viewer), Look),
    op("labels.rule.set", Everything(Responder), Change),
    op("labels.rule.remove", Everything(Responder), Change),
    op("labels.rule.preview", Everything(Responder), Look),
    op("labels.rule.history", Everything(Viewer), Look),
    op("enrol_secrets.list", Everything(Administrator), Look),
    secret("enrol_secrets.create", Everything(Administrator)),
    op("enrol_secrets.revoke", Everything(Administrator), Change),
    op("node_keys.list", Everything(Administrator), Look),
    op("node_keys.rotate", Everything(Administrator), Change),
    op("node_keys.retire", Everything(Administrator), Change),
    op("cas.list", On(Viewer), Nothing),
    op("cas.add", Everything(Administrator), Change),
    op("cas.sign", Everything(Administrator), Change),
    op("cas.retire", Everything(Administrator), Change),
    op("artifacts.list", On(Viewer), Look),
    op("artifacts.get", On(Viewer), Look),
    op("artifacts.create", Everything(Analyst), Change),
    op("artifacts.delete", Everything(Analyst), Change),
    op("schedules.list", On(Viewer), Look),
    op("schedules.get", On(Viewer), Look),
    op("schedules.create", Everything(Responder), Change),
    op("schedules.change", Everything(Responder), Change),
    op("schedules.delete", Everything(Responder), Change),
    op("osquery_config.list", Everything(Viewer), Look),
    op("osquery_config.get", Everything(Viewer), Look),
    op("osquery_config.put", Everything(Administrator), Change),
    op("osquery_config.delete", Everything(Administrator), Change),
    op("osquery_config.document", On(Viewer), Look),
    op("osquery_yara.list", Everything(Viewer), Look),
    op("osquery_yara.get", Everything(Viewer), Look),
    op("osquery_yara.put", Everything(Administrator), Change),
    op("osquery_yara.delete", Everything(Administrator), Change),
    op("hunts.list", On(Viewer), Look),
    op("hunts.create", On(Analyst), Change),
    op("hunts.get", On(Viewer), Look),
    op("hunts.pause", On(Analyst), Change),
    op("hunts.resume", On(Analyst), Change),
    op("hunts.stop", On(Analyst), Change),
    op("hunts.extend", On(Analyst), Change),
    op("hunts.hold", Everything(Responder), Change),
    op("hunts.approve", On(Responder), Change),
    op("hunts.delete", Everything(Administrator), Change),
    op("hunts.coverage", On(Viewer), Look),
    op("hunts.outcomes", On(Viewer), Look),
    op("hunts.results", On(Viewer), Stream),
    op("hunts.live", On(Viewer), Stream),
    op("queries.create", On(Analyst), Change),
    op("collections.create", On(Analyst), Change),
    op("history.list", On(Viewer), Look),
    op("sql", On(Viewer), Stream),
    op("sinks.list", Everything(Administrator), Look),
    op("sinks.get", Everything(Administrator), Look),
    op("sinks.create", Everything(Administrator), Change),
    op("sinks.pause", Everything(Administrator), Change),
    op("sinks.resume", Everything(Administrator), Change),
    op("sinks.delete", Everything(Administrator), Change),
    op("sinks.test", Everything(Administrator), Change),
    op("sinks.refused", Everything(Administrator), Look),
    op("storage", Everything(Viewer), Look),
    op("instances.list", Everything(Viewer), Look),
    op("shards.list", Everything(Viewer), Look),
    op("debug_archives.create", Everything(Administrator), Change),
    op("debug_archives.get", Everything(Administrator), Look),
    op("debug_archives.content", Everything(Administrator), Look),
    op("doctor", Everything(Administrator), Look),
    op("updates", On(Viewer), Nothing),
];

/// The operation of an id.
#[must_use]
pub fn operation(id: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.id == id)
}

/// What an operation is about to touch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Nothing in particular yet: may it be called at all?
    Any,
    /// These endpoints' agents, within what the caller may see.
    Agents {
        /// What the caller's roles for this operation reach.
        reach: &'a Access,
        /// How many endpoints.
        endpoint_count: u64,
    },
    /// Something another person started.
    OfAnother,
    /// Something the caller started.
    Own,
}

/// From when a second person is needed.
#[derive(Clone, Debug, Default)]
pub struct Approvals {
    /// Hunts over more endpoints than this wait for a second person; `None`: none do.
    pub hunt_above_endpoints: Option<u64>,
}

/// The gate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// Record the request and wait for a second person.
    NeedsApproval,
    /// Refuse.
    Denied,
}

/// Decides whether this caller may do this to that.
#[must_use]
pub fn authorise(
    principal: &Principal,
    operation: &Operation,
    target: Target<'_>,
    approvals: &Approvals,
) -> Decision {
    let held = match operation.needs {
        Nobody | SignIn => true,
        On(role) => principal.holds(role),
        Everything(role) => principal.holds_everywhere(role),
    };
    if !held {
        return Decision::Denied;
    }
    match (target, operation.needs) {
        (Target::Any | Target::Own, _) => Decision::Allowed,
        (Target::OfAnother, On(role) | Everything(role)) => {
            let allowed = principal.holds_everywhere(role);
            if allowed { Decision::Allowed } else { Decision::Denied }
        }
        (Target::OfAnother, _) => Decision::Denied,
        (Target::Agents { reach, endpoint_count }, _) => {
            let nobody = reach.agents.as_ref().is_some_and(muster_types::AgentSet::is_empty);
            let over = approvals.hunt_above_endpoints.is_some_and(|limit| endpoint_count > limit);
            match (nobody, over) {
                (true, _) => Decision::Denied,
                (false, true) => Decision::NeedsApproval,
                (false, false) => Decision::Allowed,
            }
        }
    }
}
