//! A copied agent whose two links are on two instances.
//!
//! Within an instance a newcomer finds the older link (`link::auth`). Between instances each tells the
//! others which links were opened. Who holds an older link of the same agent asks it for a sign of
//! life, and when that comes, says so: then two machines have one key, and the newer of the two is told
//! to enrol. The answer names the very link it is about, so that an old one means nothing to a later.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_bus::{Bus, Hint, Topic};
use muster_gateway::{CloseReason, Session};
use muster_types::{AgentKind, AgentNo, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::NativeState;

/// Links that open within this time are told together.
const GATHER: Duration = Duration::from_millis(20);
/// Links of one hint.
const LINKS_MAX: usize = 2_048;
/// Links that may wait to be told; what does not fit is told with those that are told again.
const UNTOLD_MAX: usize = 65_536;
/// How often links are told again whose agents are said to be on another instance too: a hint may have
/// been lost.
const AGAIN_EVERY: Duration = Duration::from_secs(15);
/// Links that are asked for a sign of life at the same time.
const PROBES_MAX: usize = 256;
/// One process has one link. Before two of it are taken for two machines, the older has to answer
/// again after this time: what it had sent before it left is read by then.
const ONCE_MORE: Duration = Duration::from_millis(500);
const VERSION: u8 = 1;

/// What this instance has to tell the others.
#[derive(Debug)]
pub(crate) struct Copies {
    /// Random per process: whose links are meant.
    run: [u8; 16],
    untold: Mutex<Vec<Arc<Session>>>,
    opened: Notify,
}

/// A link, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    agent: AgentNo,
    number: u64,
    opened_at: Timestamp,
    process: [u8; 16],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// These links are open at the instance that says so.
    Open(Vec<Link>),
    /// At the instance that is named these links are the newer of two that live.
    Copies(Vec<Link>),
}

impl Copies {
    pub(crate) fn new() -> Self {
        Self { run: rand::random(), untold: Mutex::default(), opened: Notify::new() }
    }

    /// A link was opened here.
    pub(crate) fn opened(&self, session: &Arc<Session>) {
        let mut untold = self.untold.lock();
        if untold.len() < UNTOLD_MAX {
            untold.push(Arc::clone(session));
            drop(untold);
            self.opened.notify_one();
        }
    }
}

/// Finds copies together with the other instances, until `shutdown`.
pub async fn follow_copies(
    state: Arc<NativeState>,
    bus: Arc<dyn Bus>,
    shutdown: CancellationToken,
) {
    let mut hints = bus.subscribe(&[Topic::Links]);
    let mut probes = JoinSet::new();
    let mut again = interval(AGAIN_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = probes.join_next() => {}
            () = state.copies.opened.notified() => {
                tokio::time::sleep(GATHER).await;
                let opened = std::mem::take(&mut *state.copies.untold.lock());
                tell_open(&state, &*bus, &opened);
            }
            hint = hints.next() => match hint {
                Some(Hint::Message(_, content)) => hear(&state, &bus, content, &mut probes),
                Some(Hint::Gap) => tell_open(&state, &*bus, &suspects(&state)),
                None => return,
            },
            _ = again.tick() => tell_open(&state, &*bus, &suspects(&state)),
        }
    }
}

/// Links here whose agents are said to be elsewhere.
fn suspects(state: &NativeState) -> Vec<Arc<Session>> {
    let mut links = state.sessions.all();
    links.retain(|link| {
        link.agent.kind == AgentKind::Native && state.presence.is_elsewhere(link.agent.no)
    });
    links
}

fn tell_open(state: &NativeState, bus: &dyn Bus, links: &[Arc<Session>]) {
    for part in links.chunks(LINKS_MAX) {
        let links = part.iter().map(|link| link_of(state, link)).collect();
        bus.publish(Topic::Links, Told::Open(links).encode(&state.copies.run));
    }
}

fn link_of(state: &NativeState, session: &Session) -> Link {
    Link {
        agent: session.agent.no,
        number: session.number,
        opened_at: state.clock.now().minus(session.opened_at.elapsed()),
        process: session.process,
    }
}

fn hear(state: &Arc<NativeState>, bus: &Arc<dyn Bus>, content: Bytes, probes: &mut JoinSet<()>) {
    let Some((run, told)) = Told::decode(content) else { return };
    match told {
        Told::Open(_) if run == state.copies.run => {}
        Told::Open(links) => {
            let mut newer = Vec::new();
            for theirs in links {
                let Some(ours) = state.sessions.get(theirs.agent) else { continue };
                let link = link_of(state, &ours);
                if (link.opened_at, state.copies.run) > (theirs.opened_at, run) {
                    // Theirs may be gone by now. If not, they find out.
                    newer.push(ours);
                } else if probes.len() < PROBES_MAX {
                    let (state, bus) = (Arc::clone(state), Arc::clone(bus));
                    probes.spawn(async move {
                        if lives(&state, &ours, theirs.process).await {
                            bus.publish(Topic::Links, Told::Copies(vec![theirs]).encode(&run));
                        }
                    });
                }
            }
            tell_open(state, &**bus, &newer);
        }
        Told::Copies(_) if run != state.copies.run => {}
        Told::Copies(links) => {
            for link in links {
                let ours = state.sessions.get(link.agent);
                if let Some(ours) = ours.filter(|ours| ours.number == link.number) {
                    ours.close(CloseReason::Copied);
                }
            }
        }
    }
}

/// Whether the older link still has an agent at its end.
async fn lives(state: &NativeState, older: &Arc<Session>, newer: [u8; 16]) -> bool {
    let time = state.options.clone_probe;
    if !older.answers_within(time).await {
        return false;
    }
    if older.process == newer {
        tokio::time::sleep(ONCE_MORE).await;
        return state.sessions.is_current(older) && older.answers_within(time).await;
    }
    true
}

impl Told {
    fn encode(&self, run: &[u8; 16]) -> Bytes {
        let (tag, links) = match self {
            Self::Open(links) => (b'o', links),
            Self::Copies(links) => (b'c', links),
        };
        let mut out = BytesMut::with_capacity(18 + links.len() * Link::BYTES);
        out.put_u8(VERSION);
        out.put_u8(tag);
        out.put_slice(run);
        for link in links {
            out.put_u32_le(link.agent.0);
            out.put_u64_le(link.number);
            out.put_i64_le(link.opened_at.0);
            out.put_slice(&link.process);
        }
        out.freeze()
    }

    /// `None` for nothing, and for what another version wrote: a hint may be ignored.
    fn decode(mut content: Bytes) -> Option<([u8; 16], Self)> {
        if content.try_get_u8().ok()? != VERSION {
            return None;
        }
        let tag = content.try_get_u8().ok()?;
        let mut run = [0; 16];
        content.try_copy_to_slice(&mut run).ok()?;
        let mut links = Vec::with_capacity(content.remaining() / Link::BYTES);
        while content.has_remaining() {
            links.push(Link::read(&mut content)?);
        }
        match tag {
            b'o' => Some((run, Self::Open(links))),
            b'c' => Some((run, Self::Copies(links))),
            _ => None,
        }
    }
}

impl Link {
    const BYTES: usize = 4 + 8 + 8 + 16;

    fn read(content: &mut Bytes) -> Option<Self> {
        let agent = AgentNo(content.try_get_u32_le().ok()?);
        let number = content.try_get_u64_le().ok()?;
        let opened_at = Timestamp(content.try_get_i64_le().ok()?);
        let mut process = [0; 16];
        content.try_copy_to_slice(&mut process).ok()?;
        Some(Self { agent, number, opened_at, process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_back_or_is_ignored() {
        let link = |agent| Link {
            agent: AgentNo(agent),
            number: 7,
            opened_at: Timestamp(9),
            process: [3; 16],
        };
        for told in [Told::Open(vec![link(1), link(2)]), Told::Copies(vec![link(4)])] {
            let bytes = told.encode(&[5; 16]);
            assert_eq!(Told::decode(bytes.clone()), Some(([5; 16], told)));
            assert_eq!(Told::decode(bytes.slice(..bytes.len() - 1)), None);
            let mut newer = bytes.to_vec();
            newer[0] += 1;
            assert_eq!(Told::decode(newer.into()), None);
        }
        assert_eq!(Told::decode(Bytes::new()), None);
    }
}
