//! Enrolment over HTTPS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest as _, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use muster_codec_native::{
    Credential, ENROL_PATH, EnrolAnswer, EnrolRefusal, EnrolRequest, RefusalReason, enrol_message,
};
use muster_endpoints::{Enrol, EnrolError, Enrolled};
use muster_gateway::Refusal;
use muster_types::{AgentKind, OrgId, Timestamp};

use crate::NativeState;
use crate::facts::report;

/// The routes of the native gateway that are ordinary HTTP: enrolment. The link is
/// [`protocol`](crate::protocol)'s, which keeps it out of the HTTP stack.
pub fn router(state: Arc<NativeState>) -> Router {
    Router::new()
        .route(ENROL_PATH, post(enrol))
        .layer(DefaultBodyLimit::max(64 << 10))
        .with_state(state)
}

/// A refusal: why, and what to do.
struct Refused {
    reason: RefusalReason,
    hint: String,
    retry_after: Duration,
}

impl Refused {
    fn new(reason: RefusalReason, hint: impl Into<String>) -> Self {
        Self { reason, hint: hint.into(), retry_after: Duration::ZERO }
    }

    fn status(&self) -> StatusCode {
        match self.reason {
            RefusalReason::WrongSecret | RefusalReason::WrongTicket => StatusCode::UNAUTHORIZED,
            RefusalReason::Blocked => StatusCode::FORBIDDEN,
            RefusalReason::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

async fn enrol(
    State(state): State<Arc<NativeState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let lines = request.headers().get_all("x-forwarded-for").iter().rev();
    let lines = lines.map(|line| line.to_str().unwrap_or_default());
    let peer = state.proxies.client(peer.ip(), lines);
    let admitted = match knock(&state, peer) {
        // Only now: who knocks too often is not read.
        Ok(()) => match Bytes::from_request(request, &()).await {
            Ok(body) => admit(&state, peer, &body).await,
            Err(rejection) => return rejection.into_response(),
        },
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok(enrolled) => {
            state.metrics.enrolled.inc();
            let (agent, endpoint) = (enrolled.agent, enrolled.endpoint);
            tracing::info!(%agent, %endpoint, %peer, new = enrolled.is_new, "agent enrolled");
            let server_cas = state.server_cas.load().pem.clone();
            Json(EnrolAnswer { agent_no: agent, server_cas }).into_response()
        }
        Err(refused) => {
            state.metrics.refused_by(muster_types::AgentKind::Native, Refusal::Enrolment);
            let (reason, hint) = (refused.reason, &refused.hint);
            tracing::warn!(%peer, ?reason, hint, "enrolment refused");
            let retry_after_ms = u64::try_from(refused.retry_after.as_millis()).unwrap_or(u64::MAX);
            let status = refused.status();
            let body = EnrolRefusal { reason, hint: refused.hint, retry_after_ms };
            (status, Json(body)).into_response()
        }
    }
}

/// Whether this address may try.
fn knock(state: &NativeState, peer: IpAddr) -> Result<(), Refused> {
    let hint = "many machines enrol from this address at this moment; try again later";
    state.enrolments.knock(peer, state.clock.now()).map_err(|wait| busy(state, wait, hint))
}

async fn admit(state: &NativeState, peer: IpAddr, body: &[u8]) -> Result<Enrolled, Refused> {
    let now = state.clock.now();
    let request = EnrolRequest::from_json(body)
        .map_err(|error| Refused::new(RefusalReason::Malformed, error.to_string()))?;
    check_clock(&request, now, state)?;
    check_proof(&request)?;
    let mut enrolment = Enrol {
        org: OrgId::DEFAULT,
        kind: AgentKind::Native,
        external_id: hex(digest(&SHA256, &request.public_key).as_ref()),
        public_key: Some(request.public_key.to_vec()),
        machine: Some(request.machine_id.clone()).filter(|machine| !machine.is_empty()),
        report: report(&request.host, peer),
        secret: None,
    };
    let enrolled = match request.credential {
        Credential::Secret(secret) => {
            enrolment.secret = Some(secret);
            let granted = muster_endpoints::granted(&state.catalog, &enrolment, now).await;
            let granted = granted.map_err(refusal)?;
            enter(state, now)?;
            state.enrolling.enrol(&enrolment, granted, now).await
        }
        Credential::Ticket(ticket) => {
            let wrong = || {
                Refused::new(
                    RefusalReason::WrongTicket,
                    "this ticket is not valid any more; connect again to get another",
                )
            };
            let (copied, id) = state.tickets.check(&ticket, now).ok_or_else(wrong)?;
            enter(state, now)?;
            // Before its turn, so that of many who come with one only the first gets one.
            if !state.tickets.spend(id, now) {
                return Err(wrong());
            }
            let enrolled = state.enrolling.enrol_clone(copied, &enrolment, now).await;
            // Asking again with the same key gives the same number, so only a new one uses it up.
            if !enrolled.as_ref().is_ok_and(|e| e.is_new) {
                state.tickets.give_back(id);
            }
            enrolled
        }
    };
    let enrolled = enrolled.map_err(refusal)?;
    if enrolled.is_new
        && let Err(error) = state.directory.announce().await
    {
        // Its hello reads through, and the directory follows the catalog anyway.
        tracing::debug!(%error, "directory not refreshed after an enrolment");
    }
    Ok(enrolled)
}

/// A place among the enrolments of all, for one whose secret or ticket is good.
fn enter(state: &NativeState, now: Timestamp) -> Result<(), Refused> {
    let hint = "many machines enrol at this moment; try again later";
    state.enrolments.enter(now).map_err(|wait| busy(state, wait, hint))
}

fn busy(state: &NativeState, wait: Duration, hint: &str) -> Refused {
    let retry_after = wait + state.jitter(Duration::from_secs(10));
    Refused { retry_after, ..Refused::new(RefusalReason::Busy, hint) }
}

fn check_clock(request: &EnrolRequest, now: Timestamp, state: &NativeState) -> Result<(), Refused> {
    let off = now.since(request.time).max(request.time.since(now));
    if off <= state.options.clock_skew_max {
        return Ok(());
    }
    let hint = format!(
        "the clock of this machine is {} hours {} the server's; set it and try again",
        off.as_secs() / 3600,
        if request.time < now { "behind" } else { "ahead of" },
    );
    Err(Refused::new(RefusalReason::Clock, hint))
}

fn check_proof(request: &EnrolRequest) -> Result<(), Refused> {
    let message = enrol_message(
        &request.public_key,
        request.credential.text(),
        &request.machine_id,
        request.time.0,
    );
    let key = UnparsedPublicKey::new(&ED25519, &request.public_key);
    key.verify(&message, &request.proof).map_err(|_| {
        Refused::new(RefusalReason::Malformed, "the signature does not fit the public key")
    })
}

fn refusal(error: EnrolError) -> Refused {
    match error {
        EnrolError::Secret | EnrolError::Certificate => Refused::new(
            RefusalReason::WrongSecret,
            "this enrolment secret is unknown, expired or revoked; get a current one from the server",
        ),
        EnrolError::Blocked(agent) => Refused::new(
            RefusalReason::Blocked,
            format!("an administrator blocked this machine (agent {agent})"),
        ),
        EnrolError::NoOriginal(_) => Refused::new(
            RefusalReason::WrongTicket,
            "the agent this machine was copied from was removed; enrol with a secret",
        ),
        EnrolError::Invalid(what) => Refused::new(
            RefusalReason::Malformed,
            format!("the agent's {what} is missing or too long"),
        ),
        EnrolError::Crowded => Refused {
            retry_after: Duration::from_secs(10),
            ..Refused::new(RefusalReason::Busy, error.to_string())
        },
        EnrolError::Catalog(error) => {
            tracing::error!(%error, "an enrolment could not be stored");
            Refused {
                retry_after: Duration::from_secs(10),
                ..Refused::new(
                    RefusalReason::Busy,
                    "the server cannot store this now; try again later",
                )
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
