//! `/version`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::state::ApiState;
use crate::time::Time;

/// What answers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The program's version.
    pub version: String,
    /// The instance that answered.
    pub instance: Uuid,
    /// Its clock.
    pub now: Time,
}

/// Version and clock of the instance that answers.
#[utoipa::path(get, path = "/version", operation_id = "version", tag = "system",
    responses((status = OK, body = Version)))]
pub(crate) async fn get(State(state): State<ApiState>) -> axum::Json<Version> {
    axum::Json(Version {
        version: state.version.clone(),
        instance: state.instance.0,
        now: state.clock.now().into(),
    })
}
