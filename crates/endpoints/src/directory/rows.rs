//! From the catalog to a snapshot.
//!
//! Rows come as JSON arrays, many to a value: drivers spend microseconds on each row, and a fleet has
//! hundreds of thousands. The first load goes by ranges of numbers, several at a time.

use std::borrow::Cow;
use std::sync::Arc;

use muster_catalog::{Args, Catalog, Error, Row, Statement, args};
use muster_types::{AgentNo, EndpointNo, LabelNo, OrgId, Timestamp};
use roaring::RoaringBitmap;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::sql;
use crate::Snapshot;
use crate::model::{Agent, AgentFacts, Endpoint, Label};

/// Numbers in one statement of the first load. Larger pieces are hardly faster, and of what they take for a
/// moment more stays behind.
const RANGE: u32 = 1_024;
/// Statements at a time.
const AT_ONCE: usize = 4;

/// The snapshot with everything committed since `known`; `None` when nothing was.
pub(super) async fn changed(
    catalog: &Catalog,
    known: &Snapshot,
) -> Result<Option<Snapshot>, Error> {
    // Taken first: what is committed while the tables are read is read again the next time. Agents
    // before endpoints and members before labels, so that what a row refers to is read after it.
    let newest = newest(catalog).await?;
    if newest.directory == known.version {
        return Ok(None);
    }
    let after = known.version;
    let mut next = known.clone();
    next.version = newest.directory;
    let (mut agents, mut endpoints) = (Vec::new(), Vec::new());
    let mut take_agents = |json: &str| read_agents(json, &mut next, &mut agents);
    let mut take_endpoints = |json: &str| read_endpoints(json, &mut endpoints);
    if after == 0 {
        each(catalog, &sql::ALL_AGENTS, newest.agent, take_agents).await?;
        each(catalog, &sql::ALL_ENDPOINTS, newest.endpoint, take_endpoints).await?;
    } else {
        take_agents(&some(catalog, &sql::CHANGED_AGENTS, args![after]).await?)?;
        take_endpoints(&some(catalog, &sql::CHANGED_ENDPOINTS, args![after]).await?)?;
    }
    let members = catalog.fetch_all(&sql::MEMBERS, args![after]).await?;
    let labels = catalog.fetch_all(&sql::LABELS, args![after]).await?;
    for endpoint in endpoints {
        next.put_endpoint(endpoint);
    }
    for agent in agents {
        next.put_agent(agent);
    }
    for row in &labels {
        put_label(&mut next, row)?;
    }
    for row in &members {
        put_member(&mut next, row)?;
    }
    Ok(Some(next))
}

/// Where the feeds stand.
#[derive(Default)]
struct Newest {
    directory: i64,
    agent: u32,
    endpoint: u32,
}

async fn newest(catalog: &Catalog) -> Result<Newest, Error> {
    let mut newest = Newest::default();
    for row in catalog.fetch_all(&sql::NEWEST, args![]).await? {
        match row.get::<String>("topic")?.as_str() {
            "number/agent" => newest.agent = row.get("seq")?,
            "number/endpoint" => newest.endpoint = row.get("seq")?,
            _ => newest.directory = row.get("seq")?,
        }
    }
    Ok(newest)
}

/// A whole table up to the number `last`, in ranges; one is taken while the next are read.
async fn each(
    catalog: &Catalog,
    statement: &'static Statement,
    last: u32,
    mut take: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut running = JoinSet::new();
    // The last range is open: numbers may have been given out meanwhile.
    for from in (0..=last).step_by(RANGE as usize) {
        let to = if last - from < RANGE { u32::MAX } else { from + RANGE };
        let catalog = catalog.clone();
        running.spawn(async move { some(&catalog, statement, args![from, to]).await });
        if running.len() >= AT_ONCE
            && let Some(json) = joined(&mut running).await?
        {
            take(&json)?;
        }
    }
    while let Some(json) = joined(&mut running).await? {
        take(&json)?;
    }
    Ok(())
}

async fn joined(running: &mut JoinSet<Result<String, Error>>) -> Result<Option<String>, Error> {
    match running.join_next().await {
        Some(Ok(result)) => result.map(Some),
        Some(Err(error)) => Err(Error::Other(format!("loading the directory: {error}"))),
        None => Ok(None),
    }
}

async fn some(catalog: &Catalog, statement: &Statement, args: Args) -> Result<String, Error> {
    match catalog.fetch_optional(statement, args).await? {
        Some(mut row) => row.take("rows"),
        None => Ok("[]".to_owned()),
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<Vec<T>, Error> {
    serde_json::from_str(json).map_err(|error| Error::Other(format!("the directory: {error}")))
}

/// In the order of the statement.
#[derive(Deserialize)]
struct EndpointRow<'a> {
    no: EndpointNo,
    org: OrgId,
    #[serde(borrow)]
    name: Cow<'a, str>,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
}

impl From<EndpointRow<'_>> for Endpoint {
    fn from(row: EndpointRow<'_>) -> Self {
        Self {
            no: row.no,
            org: row.org,
            name: row.name.into(),
            created_at: row.created_at,
            deleted_at: row.deleted_at,
            agents: Box::default(),
        }
    }
}

/// In the order of the statement.
#[derive(Deserialize)]
struct AgentRow<'a> {
    no: AgentNo,
    org: OrgId,
    endpoint: EndpointNo,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    public_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(borrow)]
    platform: Cow<'a, str>,
    #[serde(borrow)]
    os_name: Cow<'a, str>,
    #[serde(borrow)]
    os_version: Cow<'a, str>,
    #[serde(borrow)]
    arch: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    capabilities: Cow<'a, str>,
    enrolled_at: Timestamp,
    key_issued_at: Timestamp,
    last_seen: Timestamp,
    #[serde(borrow)]
    last_address: Cow<'a, str>,
    clone_of: Option<AgentNo>,
}

fn read_endpoints(json: &str, endpoints: &mut Vec<Endpoint>) -> Result<(), Error> {
    endpoints.extend(parse::<EndpointRow>(json)?.into_iter().map(Endpoint::from));
    Ok(())
}

fn read_agents(json: &str, next: &mut Snapshot, agents: &mut Vec<Agent>) -> Result<(), Error> {
    for row in parse::<AgentRow>(json)? {
        agents.push(agent(next, row)?);
    }
    Ok(())
}

fn agent(next: &mut Snapshot, row: AgentRow<'_>) -> Result<Agent, Error> {
    let wrong = |what: String| Error::Other(format!("agent {}: {what}", row.no));
    let key = row.public_key.map(|key| hex::decode(&*key)).transpose();
    let facts = AgentFacts {
        platform: row.platform.into(),
        os_name: row.os_name.into(),
        os_version: row.os_version.into(),
        arch: row.arch.into(),
        version: row.version.into(),
        capabilities: row.capabilities.into(),
    };
    Ok(Agent {
        no: row.no,
        org: row.org,
        endpoint: row.endpoint,
        kind: row.kind.parse().map_err(|error| wrong(format!("{error}")))?,
        state: row.state.parse().map_err(wrong)?,
        hostname: row.hostname.into(),
        facts: next.intern(facts),
        public_key: key.map_err(|error| wrong(error.to_string()))?.map(Vec::into_boxed_slice),
        enrolled_at: row.enrolled_at,
        key_issued_at: row.key_issued_at,
        last_seen: row.last_seen,
        last_address: row.last_address.into(),
        clone_of: row.clone_of,
    })
}

fn put_label(next: &mut Snapshot, row: &Row) -> Result<(), Error> {
    let no: LabelNo = row.get("no")?;
    let members = next.labels.get(&no).map_or_else(RoaringBitmap::new, |l| l.members.clone());
    let label = Label {
        no,
        org: row.get("org")?,
        name: row.get::<String>("name")?.into(),
        description: row.get::<String>("description")?.into(),
        created_at: row.get("created_at")?,
        created_by: row.get::<String>("created_by")?.into(),
        deleted: row.get::<Option<Timestamp>>("deleted_at")?.is_some(),
        members,
    };
    next.labels.insert(no, Arc::new(label));
    Ok(())
}

fn put_member(next: &mut Snapshot, row: &Row) -> Result<(), Error> {
    let endpoint: EndpointNo = row.get("endpoint_no")?;
    let Some(label) = next.labels.get_mut(&row.get("label_no")?) else { return Ok(()) };
    let members = &mut Arc::make_mut(label).members;
    if row.get::<Option<Timestamp>>("removed_at")?.is_some() {
        members.remove(endpoint.0);
    } else {
        members.insert(endpoint.0);
    }
    Ok(())
}
