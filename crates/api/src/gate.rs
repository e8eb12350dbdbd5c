//! What every request passes: its id, the caller's identity and rights, replay, and the audit log.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, header};
use muster_catalog::Priority;
use muster_telemetry::trace;
use serde_json::json;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::audit;
use crate::auth::principal::Principal;
use crate::auth::{store, token};
use crate::authorise::{Audit, Decision, Needs, Operation, Target};
use crate::caller::Caller;
use crate::idempotency;
use crate::problem::{Code, Problem, Result};
use crate::router::Operations;
use crate::state::ApiState;

const REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";
/// Bytes of a request's address in the audit log.
const LOOK_BYTES_MAX: usize = 1024;

/// The address of the client. The listener puts it into the request, which alone knows which proxies
/// are believed; without it the socket's counts.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Whose connection a request came on. The listener puts it into the request.
#[derive(Clone, Copy, Debug)]
pub struct Through {
    /// The other end, behind PROXY protocol.
    pub peer: SocketAddr,
    /// Whether that is a proxy whose word is believed.
    pub trusted: bool,
}

/// Outermost: gives each request an id, and each refusal its final form.
pub(crate) async fn identify(
    State((state, operations)): State<(ApiState, Operations)>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id: Arc<str> = Uuid::now_v7().simple().to_string().into();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let operation = operation_of(&operations, &request).map(|operation| operation.id);
    let span = span(&request, operation, &id);
    let open = state.stats().open.during();
    let mut response = next.run(request).instrument(span.clone()).await;
    drop(open);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code().status().is_server_error() {
            let (code, cause) = (problem.code().as_str(), problem.cause());
            tracing::warn!(request_id = %id, code, cause, "request failed");
        }
        response = problem.respond(&id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    state.stats().seen(operation, response.status(), begun.elapsed());
    span.record("http.response.status_code", response.status().as_u16());
    if let Some(value) = trace::traceparent(&span).and_then(|text| text.parse().ok()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    response
}

/// The span of a request: never its query, which may hold anything. The trace of a trusted proxy goes on.
fn span(request: &Request, operation: Option<&'static str>, id: &str) -> Span {
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: "muster::span",
        "request",
        otel.name = operation.unwrap_or("other"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        request_id = id,
    );
    let is_trusted = request.extensions().get::<Through>().is_some_and(|through| through.trusted);
    let shown = request.headers().get(TRACEPARENT).filter(|_| is_trusted);
    if let Some(Ok(shown)) = shown.map(HeaderValue::to_str) {
        trace::adopt(&span, shown);
    }
    span
}

/// The operation a request is for.
fn operation_of(operations: &Operations, request: &Request) -> Option<&'static Operation> {
    // The router answers HEAD with the handler of GET, so it needs the same rights.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let path = request.extensions().get::<MatchedPath>();
    path.and_then(|path| operations.get(method, path.as_str()))
}

/// Time for a whole request of somebody who has not signed in.
const ANONYMOUS: std::time::Duration = std::time::Duration::from_secs(30);

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Clone)]
struct RequestId(Arc<str>);

/// Before each operation: who is it, may they, did they ask this already; after it: the audit log.
pub(crate) async fn gate(
    State((state, operations)): State<(ApiState, Operations)>,
    request: Request,
    next: Next,
) -> Response {
    match pass(&state, &operations, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn pass(
    state: &ApiState,
    operations: &Operations,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    if request.uri().to_string().contains("%00") {
        return Err(Problem::new(Code::Malformed, "the address holds a NUL character"));
    }
    let operation = operation_of(operations, &request);
    // Without an operation the router answers by itself: no such path, or no such method on it.
    let Some(operation) = operation else { return Ok(next.run(request).await) };
    let address: Arc<str> = address(&request).into();
    let id = request.extensions().get::<RequestId>().map_or_else(|| "".into(), |id| id.0.clone());
    if operation.needs == Needs::Nobody {
        request.extensions_mut().insert(Anonymous { address });
        // Nobody knows who this is, so it may not sit here with half a request.
        let answer = tokio::time::timeout(ANONYMOUS, next.run(request)).await;
        let late = |_| Problem::new(Code::Malformed, "the request did not arrive in time");
        return answer.map_err(late);
    }
    let principal = Arc::new(authenticate(state, request.headers()).await?);
    state.requests.take(principal.user_no.unsigned_abs(), &*state.clock).await?;
    let caller = Caller::new(principal, operation, address, id, state.clone());
    let subject = subject_of(&request);
    if let Err(problem) = may(&caller) {
        deny(state, &caller, &subject, &problem).await?;
        return Err(problem);
    }
    let look = look_of(&request);
    request.extensions_mut().insert(caller.clone());
    let response = match operation.is_change() {
        true => idempotency::run(state, &caller, request, next).await?,
        false => next.run(request).await,
    };
    match response.extensions().get::<Problem>() {
        Some(problem) if problem.is_denied() => deny(state, &caller, &subject, problem).await?,
        None if operation.audit == Audit::Look => looked(state, &caller, subject, look).await?,
        _ => {}
    }
    Ok(response)
}

async fn authenticate(state: &ApiState, headers: &HeaderMap) -> Result<Principal> {
    let needed = |detail: &str| Problem::new(Code::SignInRequired, detail);
    let shown = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        needed("send a token as `Authorization: Bearer mst_…`; `muster login` gets one")
    })?;
    let hash = shown
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, text)| token::presented(text.trim()))
        .ok_or_else(|| needed("the Authorization header does not hold a bearer token of ours"))?;
    store::authenticate(&state.catalog, hash, state.clock.now()).await?.ok_or_else(|| {
        needed("this token is unknown, has ended or was revoked; `muster login` gets a new one")
    })
}

fn may(caller: &Caller) -> Result<()> {
    let own = caller.operation.needs == Needs::SignIn;
    if caller.principal.must_change && !own {
        return Err(Problem::new(
            Code::PasswordChangeRequired,
            "this password was for one sign-in; set your own with POST /v1/password",
        ));
    }
    match caller.decide(Target::Any) {
        Decision::Allowed => Ok(()),
        _ => Err(Problem::new(Code::Forbidden, wanted(caller.operation))),
    }
}

fn wanted(operation: &Operation) -> String {
    let id = operation.id;
    match operation.needs {
        Needs::Everything(role) => {
            format!("{id} needs the role {role} on everything; ask an administrator")
        }
        Needs::Some(role) => format!("{id} needs the role {role}; ask an administrator"),
        Needs::Nobody | Needs::SignIn => format!("{id} is not open to you"),
    }
}

/// The path behind `/v1/`, which names what the request is about.
fn subject_of(request: &Request) -> String {
    let path = request.uri().path();
    path.strip_prefix("/v1/").unwrap_or(path).chars().take(200).collect()
}

/// What was asked, for the audit log, which keeps it for good: so not all of an address that is very long.
fn look_of(request: &Request) -> String {
    let mut look = format!("{} {}", request.method(), request.uri());
    if look.len() > LOOK_BYTES_MAX {
        look.truncate(look.floor_char_boundary(LOOK_BYTES_MAX));
        look.push('…');
    }
    look
}

async fn deny(state: &ApiState, caller: &Caller, subject: &str, why: &Problem) -> Result<()> {
    let details = json!({"code": why.code().as_str(), "request": &*caller.request_id});
    write(state, caller.entry(subject.to_owned(), "denied", &details)).await
}

async fn looked(state: &ApiState, caller: &Caller, subject: String, look: String) -> Result<()> {
    let mut details = caller.notes();
    details.insert("request".into(), look.into());
    write(state, caller.entry(subject, "ok", &details.into())).await
}

async fn write(state: &ApiState, entry: audit::Entry) -> Result<()> {
    let mut tx = state.catalog.begin(Priority::Api).await?;
    audit::append(&mut tx, state.instance, entry).await?;
    tx.commit().await?;
    Ok(())
}

/// What is known of somebody who is not signed in.
#[derive(Clone, Debug)]
pub(crate) struct Anonymous {
    pub(crate) address: Arc<str>,
}

/// The client's address.
fn address(request: &Request) -> String {
    let extensions = request.extensions();
    let address = extensions
        .get::<ClientAddress>()
        .map(|client| client.0)
        .or_else(|| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()));
    address.map_or_else(String::new, |address| address.to_canonical().to_string())
}
