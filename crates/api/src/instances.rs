//! `/instances`: the server processes and the leases they hold.

use axum::extract::State;
use muster_catalog::{args, statements};
use muster_types::InstanceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::page::Page;
use crate::problem::Result;
use crate::state::ApiState;
use crate::time::Time;

statements! {
    small LEASES = "
        SELECT job, n, holder
        FROM partition_lease
        WHERE holder IS NOT NULL
        ORDER BY job, n";
}

/// One server process.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id, for as long as its data folder lives.
    pub id: Uuid,
    /// How often it has started.
    pub incarnation: u64,
    /// Its name.
    pub name: String,
    /// What it does, as it registered it.
    pub roles: String,
    /// The program's version.
    pub version: String,
    /// Where it is found: for operators, then for agents.
    pub addresses: Vec<String>,
    /// The same by listener.
    pub listeners: Listeners,
    /// The newest layout of the catalog that it works with.
    pub level: u32,
    /// When it started.
    pub started_at: Time,
    /// When it last said that it lives.
    pub heartbeat_at: Time,
    /// Whether its leases hold, by the database's clock.
    pub alive: bool,
    /// `alive`, `draining`, `left` (stopped by somebody) or `gone` (vanished).
    pub state: String,
    /// The parts of jobs it is pinned to, as `shards 2/3`.
    pub pins: Vec<String>,
    /// Partitions it holds, by job.
    pub leases: Vec<Lease>,
    /// How busy it was at its last heartbeat.
    pub load: Load,
}

/// Addresses with ports.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = InstanceListeners)]
pub struct Listeners {
    /// For people and programs; empty without the role.
    pub operators: Vec<String>,
    /// For agents; empty without the role.
    pub agents: Vec<String>,
    /// Health and metrics.
    pub metrics: Vec<String>,
}

/// What an instance holds of one job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LeaseCount)]
pub struct Lease {
    /// The job. `enrolments` and `requests` are no work but shares of limits.
    pub job: String,
    /// How many of its partitions.
    pub partitions: u64,
    /// Which ones, as `0-15,40`.
    pub ranges: String,
}

/// How busy an instance is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = InstanceLoad)]
pub struct Load {
    /// Agents' connections that are open.
    pub connections: u64,
    /// Agents that are linked.
    pub sessions: u64,
    /// Bytes of agents' messages in memory.
    pub bytes_in_flight: u64,
    /// Bytes in the stream that are not committed yet.
    pub backlog_bytes: u64,
    /// Bytes the stream may hold.
    pub backlog_max_bytes: u64,
    /// CPU, in percent of one core, since the heartbeat before.
    pub cpu_percent: u32,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// Server processes, by name; also those that stopped in the last 30 days.
#[utoipa::path(get, path = "/instances", operation_id = "instances.list", tag = "system",
    responses((status = OK, body = Page<Instance>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<axum::Json<Page<Instance>>> {
    let leases = state.catalog.fetch_all(&LEASES, args![]).await?;
    let mut held = Vec::with_capacity(leases.len());
    for row in &leases {
        let partition: u16 = row.get("n")?;
        held.push((row.get::<InstanceId>("holder")?, row.get::<String>("job")?, partition));
    }
    let mut instances: Vec<Instance> = muster_cluster::instances(&state.catalog)
        .await?
        .into_iter()
        .map(|instance| told(instance, &held))
        .collect();
    instances.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    Ok(axum::Json(Page::whole(instances)))
}

fn told(instance: muster_cluster::Instance, held: &[(InstanceId, String, u16)]) -> Instance {
    let muster_cluster::Instance { info, incarnation, started_at, heartbeat_at, live, left, load } =
        instance;
    let mine = held.iter().filter(|(holder, ..)| *holder == info.id);
    let mut leases: Vec<(String, Vec<u16>)> = Vec::new();
    for (_, job, partition) in mine {
        match leases.last_mut().filter(|(last, _)| last == job) {
            Some((_, partitions)) => partitions.push(*partition),
            None => leases.push((job.clone(), vec![*partition])),
        }
    }
    let lease = |(job, partitions): (String, Vec<u16>)| Lease {
        job,
        partitions: partitions.len() as u64,
        ranges: ranges(&partitions),
    };
    let state = match (live, left) {
        (true, _) if load.draining => "draining",
        (true, _) => "alive",
        (false, true) => "left",
        (false, false) => "gone",
    };
    let listeners = info.facts.listeners;
    Instance {
        id: info.id.0,
        incarnation: incarnation.0,
        name: info.name,
        roles: info.roles.to_string(),
        version: info.version,
        addresses: info.addresses,
        listeners: Listeners {
            operators: listeners.operators,
            agents: listeners.agents,
            metrics: listeners.metrics,
        },
        level: info.level,
        started_at: started_at.into(),
        heartbeat_at: heartbeat_at.into(),
        alive: live,
        state: state.to_owned(),
        pins: info.facts.pins.iter().map(|(job, pin)| format!("{} {pin}", job.name())).collect(),
        leases: leases.into_iter().map(lease).collect(),
        load: Load {
            connections: load.connections,
            sessions: load.sessions,
            bytes_in_flight: load.bytes_in_flight,
            backlog_bytes: load.backlog_bytes,
            backlog_max_bytes: load.backlog_max_bytes,
            cpu_percent: load.cpu_percent,
            memory_bytes: load.memory_bytes,
        },
    }
}

/// Numbers in rising order, as `0-15,40`.
fn ranges(numbers: &[u16]) -> String {
    let mut parts: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let part = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_become_ranges() {
        for (numbers, text) in [(&[][..], ""), (&[7], "7"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8")] {
            assert_eq!(super::ranges(numbers), text);
        }
    }
}
