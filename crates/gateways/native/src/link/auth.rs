//! The first half minute of a link: challenge, hello, welcome, and what to do about copies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use muster_codec_native::{AgentFrame, Challenge, Hello, Rekey, Welcome, hello_message};
use muster_endpoints::{Agent, AgentState};
use muster_gateway::{AgentRef, CloseReason, Permit, Registered};
use muster_types::{AgentKind, AgentNo};
use rand::RngCore as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::End;
use super::trust::Trust;
use super::wire::Wire;
use crate::NativeState;
use crate::ws::{Event, Gate, Out, Trouble};

/// What comes of it.
pub(super) enum Verdict {
    /// The link is up.
    Welcome(Registered, Trust),
    /// The peer got its answer and the link is closed.
    Done,
}

/// Before an agent has proved who it is, its frames are small and need no budget.
struct Free;

impl Gate for Free {
    async fn admit(&self, _bytes: usize) -> Result<Option<Permit>, Trouble> {
        Ok(None)
    }
}

pub(super) async fn authenticate<Io>(
    wire: &mut Wire<Io>,
    peer: SocketAddr,
    state: &Arc<NativeState>,
) -> Result<Verdict, End>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut nonce = [0; 32];
    rand::rng().fill_bytes(&mut nonce);
    wire.send(Challenge { nonce }.into(), state).await?;
    let hello = tokio::time::timeout(state.options.handshake_timeout, hello(wire, state));
    let hello = hello.await.map_err(|_| End::Trouble(Trouble::Stalled))??;
    let agent = verify(&hello, &nonce, state).await?;
    let whose = AgentRef { org: agent.org, no: agent.no, kind: agent.kind };

    if is_copy(&hello, state).await {
        return turn_away(wire, &hello, peer, state).await;
    }
    wire.trust(state.options.frame_bytes_max);
    let trust = Trust::new(&hello, state);
    let welcome = Welcome {
        server_version: state.version.clone(),
        agent_no: agent.no,
        limits: state.options.link_limits(),
        server_cas: trust.told.pem.clone(),
        time: state.clock.now(),
    };
    wire.send(welcome.into(), state).await?;
    // Registered after the welcome is written, so that no task is pushed before it.
    let registered = state.sessions.open(whose, hello.process_nonce);
    state.copies.opened(registered.session());
    crate::facts::note(state, &agent, &hello, peer.ip()).await;
    // Blocked or removed while it was not in the registry yet.
    let snapshot = state.directory.snapshot();
    if snapshot.agent(agent.no).is_some_and(|agent| agent.state != AgentState::Active) {
        registered.session().close(CloseReason::Revoked);
    }
    Ok(Verdict::Welcome(registered, trust))
}

async fn hello<Io>(wire: &mut Wire<Io>, state: &NativeState) -> Result<Hello, End>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match wire.next(&Free).await? {
            Event::Message(bytes, _) => match AgentFrame::decode(bytes)? {
                Some(AgentFrame::Hello(hello)) => return Ok(*hello),
                Some(_) => return Err(End::Unauthenticated("the first frame must be a hello")),
                None => {}
            },
            Event::Ping(content) => {
                let mut out = Out::default();
                out.pong(&content);
                wire.write(&out, state).await?;
            }
            Event::Pong => {}
            Event::Close => return Err(End::Left),
        }
    }
}

/// The same words for an unknown agent and a wrong proof: numbers cannot be probed.
const UNPROVED: End = End::Unauthenticated(
    "unknown agent or wrong key; enrol again, with the data folder of this agent removed",
);

async fn verify(hello: &Hello, nonce: &[u8; 32], state: &NativeState) -> Result<Arc<Agent>, End> {
    let agent = state.agent(hello.agent_no).await.map_err(|error| {
        tracing::warn!(error = %error, "agent could not be looked up");
        End::Closed("the catalog cannot be reached")
    })?;
    let agent = agent.filter(|agent| agent.kind == AgentKind::Native).ok_or(UNPROVED)?;
    let key = agent.public_key.as_deref().ok_or(UNPROVED)?;
    let message = hello_message(nonce, hello.agent_no.0, &hello.process_nonce);
    UnparsedPublicKey::new(&ED25519, key).verify(&message, &hello.proof).map_err(|_| UNPROVED)?;
    match agent.state {
        AgentState::Active => Ok(agent),
        AgentState::Blocked => Err(End::Unauthenticated("blocked by an administrator")),
        AgentState::Retired => Err(End::Unauthenticated(
            "removed by an administrator; enrol again to come back as a new agent",
        )),
    }
}

/// Two processes with one key, both alive and connected here: the machine was copied. That the other is
/// connected elsewhere is found a moment later (`crate::copies`). A new process whose predecessor is
/// dead is no copy, nor is the same process on a new link; but when its older link is young and still
/// answers, this is a machine that was copied while it ran, and the two push each other out in turn.
async fn is_copy(hello: &Hello, state: &NativeState) -> bool {
    let Some(older) = state.sessions.get(hello.agent_no) else { return false };
    let suspect = older.process != hello.process_nonce || older.opened_at.elapsed() < YOUNG;
    suspect && older.answers_within(state.options.clone_probe).await
}

/// A process does not lose its link and come back with the old one still alive within this time.
const YOUNG: Duration = Duration::from_secs(60);

/// A copy gets a ticket for an identity of its own, and the first link stays.
async fn turn_away<Io>(
    wire: &mut Wire<Io>,
    hello: &Hello,
    peer: SocketAddr,
    state: &NativeState,
) -> Result<Verdict, End>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let hostname = &hello.host.hostname;
    tracing::warn!(
        agent = %hello.agent_no, %peer, %hostname,
        "a copy of an agent connected beside it; it is told to enrol as a new one"
    );
    rekey(wire, hello.agent_no, &Free, state).await?;
    Ok(Verdict::Done)
}

/// Hands out a ticket for another identity.
pub(super) async fn rekey<Io, G>(
    wire: &mut Wire<Io>,
    copied: AgentNo,
    gate: &G,
    state: &NativeState,
) -> Result<(), End>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    G: Gate,
{
    state.metrics.clones.inc();
    let ticket = state.tickets.issue(copied, state.clock.now());
    wire.send(Rekey { ticket }.into(), state).await?;
    // The agent closes when it has it; it is not waited for long. What else it sends is not kept.
    let rest = async { while wire.next(gate).await.is_ok_and(|e| !matches!(e, Event::Close)) {} };
    let _ = tokio::time::timeout(state.options.handshake_timeout, rest).await;
    Ok(())
}
