//! `/instances`: the server processes and the leases they hold.

use axum::extract::State;
use muster_catalog::{args, statements};
use muster_types::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::page::Page;
use crate::problem::Result;
use crate::state::ApiState;
use crate::time::Time;

statements! {
    small LIST = "
        SELECT id, name, roles, version, level, addresses, started_at, heartbeat_at, expires_at
        FROM instance
        ORDER BY name, id
        LIMIT 1000";
    small LEASES = "
        SELECT job, holder, COUNT(*) AS n
        FROM partition_lease
        WHERE holder IS NOT NULL
        GROUP BY job, holder
        ORDER BY job";
}

/// One server process.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id, for as long as its data folder lives.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it does, as it registered it.
    pub roles: String,
    /// The program's version.
    pub version: String,
    /// Where it listens: for operators, then for agents.
    pub addresses: Vec<String>,
    /// The newest format it reads.
    pub level: i64,
    /// When it started.
    pub started_at: Time,
    /// When it last said that it lives.
    pub heartbeat_at: Time,
    /// Whether its leases hold, by the database's clock.
    pub alive: bool,
    /// Partitions it holds, by job.
    pub leases: Vec<LeaseCount>,
}

/// Partitions of one job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LeaseCount {
    /// The job.
    pub job: String,
    /// How many of its partitions.
    pub partitions: i64,
}

/// Server processes, by name.
#[utoipa::path(get, path = "/instances", operation_id = "instances.list", tag = "system",
    responses((status = OK, body = Page<Instance>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<axum::Json<Page<Instance>>> {
    let now = state.catalog.now().await?;
    let leases = state.catalog.fetch_all(&LEASES, args![]).await?;
    let rows = state.catalog.fetch_all(&LIST, args![]).await?;
    let mut instances = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: InstanceId = row.get("id")?;
        let mut held = Vec::new();
        for lease in &leases {
            if lease.get::<InstanceId>("holder")? == id {
                held.push(LeaseCount { job: lease.get("job")?, partitions: lease.get("n")? });
            }
        }
        instances.push(Instance {
            id: id.0,
            name: row.get("name")?,
            roles: row.get("roles")?,
            version: row.get("version")?,
            // Written by us; an instance of a newer version may write more.
            addresses: serde_json::from_str(&row.get::<String>("addresses")?).unwrap_or_default(),
            level: row.get("level")?,
            started_at: row.get::<Timestamp>("started_at")?.into(),
            heartbeat_at: row.get::<Timestamp>("heartbeat_at")?.into(),
            alive: row.get::<Timestamp>("expires_at")? > now,
            leases: held,
        });
    }
    Ok(axum::Json(Page::whole(instances)))
}
