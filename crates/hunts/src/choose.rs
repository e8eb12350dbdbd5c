//! Which endpoints take part next, each by which agent.

use muster_endpoints::{Agent, Snapshot};
use muster_types::{AgentKind, AgentNo, EndpointNo};
use roaring::RoaringBitmap;

/// One endpoint's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) agent: AgentNo,
    pub(crate) kind: AgentKind,
    /// Whether it can do it; if not, its outcome is unsupported at once.
    pub(crate) supported: bool,
}

/// Up to `most` online endpoints among `pending`, those that can do it first.
pub(crate) fn choose(
    supports: &dyn Fn(AgentKind) -> bool,
    snapshot: &Snapshot,
    pending: &RoaringBitmap,
    online: &dyn Fn(AgentNo) -> bool,
    most: usize,
) -> Vec<Choice> {
    let (mut chosen, mut unsupported) = (Vec::new(), Vec::new());
    for endpoint in pending {
        if chosen.len() >= most {
            break;
        }
        let Some(choice) = choice(supports, snapshot, EndpointNo(endpoint), online) else {
            continue;
        };
        if choice.supported {
            chosen.push(choice);
        } else if unsupported.len() < most {
            unsupported.push(choice);
        }
    }
    unsupported.truncate(most - chosen.len());
    chosen.extend(unsupported);
    chosen
}

/// The most capable agent that is online and can do it. An endpoint none of whose agents can do it
/// answers by any that is online; one that waits for a capable agent to return is left alone.
fn choice(
    supports: &dyn Fn(AgentKind) -> bool,
    snapshot: &Snapshot,
    endpoint: EndpointNo,
    online: &dyn Fn(AgentNo) -> bool,
) -> Option<Choice> {
    let made = |agent: &Agent, supported| Choice { agent: agent.no, kind: agent.kind, supported };
    let present = snapshot.agent_to_ask(endpoint, |agent| online(agent.no))?;
    if supports(present.kind) {
        return Some(made(present, true));
    }
    let able = snapshot.agent_to_ask(endpoint, |a| supports(a.kind) && online(a.no));
    if let Some(agent) = able {
        return Some(made(agent, true));
    }
    let will_be_able = snapshot.best_agent(endpoint, |agent| supports(agent.kind)).is_some();
    (!will_be_able).then(|| made(present, false))
}
