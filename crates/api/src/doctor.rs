//! `/doctor`: what is wrong with the installation, as far as its stores and instances tell.

use axum::Extension;
use axum::extract::State;
use http::HeaderMap;
use muster_telemetry::doctor::Doctor;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::gate::Through;
use crate::problem::Result;
use crate::state::ApiState;

/// What was found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// What is wrong; empty when nothing is.
    pub findings: Vec<Finding>,
    /// How this very request came here.
    pub came: Came,
}

/// Something that is wrong.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Which kind; never changes its meaning.
    pub id: String,
    /// The instance it is about, by name; missing: about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// How a request reached the server: for whoever wants to know whether a proxy does what it should.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Came {
    /// Whose connection it came on, with the port; missing where the server does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Whether that is a trusted proxy.
    pub trusted: bool,
    /// Whether the request said for whom it is (`X-Forwarded-For`).
    pub forwarded: bool,
    /// The address the server takes for the client's.
    pub client: String,
}

/// Looks at the stores, and at what every instance reports of itself. Writes and removes one small
/// object in the archive.
#[utoipa::path(get, path = "/doctor", operation_id = "doctor", tag = "system",
    responses((status = OK, body = Diagnosis)))]
pub(crate) async fn look(
    State(state): State<ApiState>,
    caller: Caller,
    through: Option<Extension<Through>>,
    headers: HeaderMap,
) -> Result<axum::Json<Diagnosis>> {
    let doctor = Doctor::new(state.catalog.clone(), state.archive.clone(), state.clock.clone());
    let mut found = doctor.look().await;
    found.extend((state.diagnose)().await);
    let findings = found.into_iter().map(|finding| Finding {
        id: finding.id,
        instance: finding.instance,
        problem: finding.problem,
        remedy: finding.remedy,
    });
    let findings: Vec<_> = findings.collect();
    caller.note("findings", findings.len());
    let came = Came {
        connection: through.as_ref().map(|through| through.peer.to_string()),
        trusted: through.as_ref().is_some_and(|through| through.trusted),
        forwarded: headers.contains_key("x-forwarded-for"),
        client: caller.address.to_string(),
    };
    Ok(axum::Json(Diagnosis { findings, came }))
}
