//! `/cas`: the CAs that agents and people trust to vouch for the servers, and how one follows another.

use axum::extract::State;
use http::StatusCode;
use muster_authority::{Authorities, Known, add_in, retire_in, sign_in};
use muster_endpoints::{AgentState, Snapshot};
use muster_types::{Access, AgentKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

/// A CA, without its key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ca {
    /// Its number.
    pub no: u32,
    /// SHA-256 of its certificate: hexadecimal pairs with colons.
    pub fingerprint: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Whether it signs the servers' certificates. One does.
    pub signs: bool,
    /// When it was added; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<Time>,
    /// How many native agents, of those the caller may see, were not linked since they would surely have
    /// been told to trust it. Of the one that signs it is not counted: 0.
    pub untold_agents: u64,
}

/// The CAs, by number. Agents and people trust all of them.
#[utoipa::path(get, path = "/cas", operation_id = "cas.list", tag = "enrolment",
    params(PageQuery), responses((status = OK, body = Page<Ca>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Ca>>> {
    let cas = open(&state).await?;
    let (snapshot, access) = (state.directory.snapshot(), caller.access());
    let mut all: Vec<&Known> = cas.all().iter().collect();
    all.sort_by_key(|ca| ca.no);
    let page = query.of_numbered(all, |ca| i64::from(ca.no))?;
    let view = |ca: &Known| -> Result<Ca> {
        Ok(Ca {
            no: ca.no,
            fingerprint: ca.authority.fingerprint().map_err(failed)?,
            certificate: ca.authority.certificate_pem.clone(),
            signs: ca.no == cas.signing().no,
            added_at: (ca.added_at > Timestamp(0)).then(|| ca.added_at.into()),
            untold_agents: match ca.no == cas.signing().no {
                // Whoever is linked has seen its certificate.
                true => 0,
                false => untold(&state, &snapshot, &access, ca),
            },
        })
    };
    let items = page.items.into_iter().map(view).collect::<Result<Vec<_>>>()?;
    Ok(axum::Json(Page { items, next: page.next }))
}

/// The number of a CA.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AddedCa {
    /// Its number.
    pub no: u32,
}

/// Adds a CA. Agents are told to trust it beside the others; it does not sign yet.
#[utoipa::path(post, path = "/cas", operation_id = "cas.add", tag = "enrolment",
    responses((status = CREATED, body = AddedCa)))]
pub(crate) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<(StatusCode, axum::Json<AddedCa>)> {
    // There is always one, from the first start of a server.
    open(&state).await?;
    let mut tx = state.begin().await?;
    let no = add_in(&mut tx, &state.secret_key, &*state.clock).await.map_err(failed)?;
    caller.record(&mut tx, format!("ca/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(AddedCa { no })))
}

/// Whether to go on where agents are left behind.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// Also when agents have not been told of it; they will not believe the servers any more.
    #[serde(default)]
    leave_behind: bool,
}

/// Lets a CA sign the servers' certificates: within ten seconds every instance shows one of it.
/// Refused while there are agents that have not been told to trust it.
#[utoipa::path(post, path = "/cas/{no}/sign", operation_id = "cas.sign", tag = "enrolment",
    params(("no" = u32, Path)), request_body = Sign, responses((status = NO_CONTENT)))]
pub(crate) async fn sign(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    Json(body): Json<Sign>,
) -> Result<StatusCode> {
    let cas = open(&state).await?;
    let ca = cas.all().iter().find(|ca| ca.no == no);
    let ca = ca.ok_or_else(|| failed(muster_authority::Error::Unknown(no)))?;
    let untold = untold(&state, &state.directory.snapshot(), &caller.access(), ca);
    if untold > 0 && !body.leave_behind {
        return Err(Problem::new(
            Code::Conflict,
            format!(
                "{untold} agents may not have been told of CA {no} yet and would not believe the servers \
                 any more; of those that are linked it is certain {} s after it was added; \
                 set leave_behind to go on without the others",
                state.options.told_after.as_secs()
            ),
        ));
    }
    let mut tx = state.begin().await?;
    sign_in(&mut tx, &state.secret_key, no).await.map_err(failed)?;
    let details = json!({"untold_agents": untold});
    caller.record(&mut tx, format!("ca/{no}"), details).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Retires a CA: its key is forgotten, agents are told to trust it no more. One that signs stays.
#[utoipa::path(delete, path = "/cas/{no}", operation_id = "cas.retire", tag = "enrolment",
    params(("no" = u32, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn retire(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    retire_in(&mut tx, &state.secret_key, no).await.map_err(failed)?;
    caller.record(&mut tx, format!("ca/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn open(state: &ApiState) -> Result<Authorities> {
    let cas = Authorities::open(&state.catalog, &state.secret_key, &*state.clock).await;
    cas.map_err(failed)
}

/// Native agents that were not linked since they would have been told. Those that are blocked count: they
/// may come back. Agents of other kinds trust what somebody put on their disks; nobody can tell them.
fn untold(state: &ApiState, snapshot: &Snapshot, access: &Access, ca: &Known) -> u64 {
    let told = ca.added_at.plus(state.options.told_after);
    let agents = snapshot.agents(access.org).filter(|agent| {
        agent.kind == AgentKind::Native
            && agent.state != AgentState::Retired
            && access.allows(access.org, agent.no)
    });
    let was_told = |agent: &muster_endpoints::Agent| {
        // Enrolling counts as being seen, and tells nothing of CAs: the first link does.
        let seen = state.presence.last_seen(agent.no).max(Some(agent.last_seen));
        seen.is_some_and(|seen| seen > told && seen > agent.enrolled_at)
    };
    agents.filter(|agent| !was_told(agent)).count() as u64
}

fn failed(error: muster_authority::Error) -> Problem {
    use muster_authority::Error;
    match error {
        Error::Secret(muster_cluster::Error::Catalog(error)) => error.into(),
        Error::Unknown(_) => Problem::new(Code::NotFound, error.to_string()),
        Error::Signs(_) | Error::Full(_) => Problem::new(Code::Conflict, error.to_string()),
        other => Problem::internal(other),
    }
}
