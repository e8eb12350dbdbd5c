//! `/node-keys`: the keys that sign what osquery agents show with every request.

use axum::extract::State;
use http::StatusCode;
use muster_endpoints::node_key::{self, KeyInfo};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

/// A key, never itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeKey {
    /// Its number, part of every node key it signed.
    pub no: u8,
    /// When it was made. It signs from a minute later on.
    pub created_at: Time,
    /// When it was retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Time>,
}

/// The number of a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RotatedNodeKey {
    /// Its number.
    pub no: u8,
}

/// The keys, by number.
#[utoipa::path(get, path = "/node-keys", operation_id = "node_keys.list", tag = "enrolment",
    params(PageQuery), responses((status = OK, body = Page<NodeKey>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<NodeKey>>> {
    let keys = node_key::list_keys(&state.catalog, &state.secret_key).await.map_err(failed)?;
    let view = |key: KeyInfo| NodeKey {
        no: key.id,
        created_at: key.created_at.into(),
        retired_at: key.retired_at.map(Time::from),
    };
    Ok(axum::Json(query.of_numbered(keys, |key| key.id.into())?.map(view)))
}

/// Adds a key, which signs from now on. Agents keep the node keys they have.
#[utoipa::path(post, path = "/node-keys", operation_id = "node_keys.rotate", tag = "enrolment",
    responses((status = CREATED, body = RotatedNodeKey)))]
pub(crate) async fn rotate(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<(StatusCode, axum::Json<RotatedNodeKey>)> {
    let mut tx = state.begin().await?;
    let rotated = node_key::rotate_keys_in(&mut tx, &state.secret_key, caller.now());
    let no = rotated.await.map_err(failed)?;
    caller.record(&mut tx, format!("node_key/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(RotatedNodeKey { no })))
}

/// Retires a key: within an hour every osquery agent whose node key it signed enrols again. One that
/// signs stays.
#[utoipa::path(delete, path = "/node-keys/{no}", operation_id = "node_keys.retire",
    tag = "enrolment", params(("no" = u8, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn retire(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u8>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    let retired = node_key::retire_key_in(&mut tx, &state.secret_key, no, caller.now());
    if !retired.await.map_err(failed)? {
        return Err(Problem::not_found(format_args!("node key {no} beside one that stays")));
    }
    caller.record(&mut tx, format!("node_key/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn failed(error: muster_cluster::Error) -> Problem {
    match error {
        muster_cluster::Error::Catalog(error) => error.into(),
        other => Problem::internal(other),
    }
}
