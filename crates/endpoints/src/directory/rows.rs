//! From rows of the catalog to a snapshot.

use std::sync::Arc;

use muster_catalog::{Catalog, Error, Row, args};
use muster_types::{AgentKind, EndpointNo, LabelNo, Timestamp};
use roaring::RoaringBitmap;

use crate::Snapshot;
use crate::model::{Agent, AgentFacts, AgentState, Endpoint, Label};

muster_catalog::statements! {
    pub(super) NEWEST = "SELECT seq FROM feed WHERE topic = 'directory'";
    AGENTS = "SELECT no, org, endpoint_no, kind, public_key, state, hostname, platform, os_name,
            os_version, arch, version, capabilities, enrolled_at, key_issued_at, last_seen,
            last_address, clone_of
        FROM agent
        WHERE change > $1";
    ENDPOINTS = "SELECT no, org, name, created_at, deleted_at
        FROM endpoint
        WHERE change > $1";
    LABELS = "SELECT no, org, name, description, created_at, created_by, deleted_at
        FROM label
        WHERE change > $1";
    MEMBERS = "SELECT label_no, endpoint_no, removed_at
        FROM label_endpoint
        WHERE change > $1";
}

/// The snapshot with everything committed since `known`; `None` when nothing was.
pub(super) async fn changed(
    catalog: &Catalog,
    known: &Snapshot,
) -> Result<Option<Snapshot>, Error> {
    // Taken first: what is committed while the tables are read is read again the next time. Agents
    // before endpoints and members before labels, so that what a row refers to is read after it.
    let version = super::newest(catalog).await?;
    if version == known.version {
        return Ok(None);
    }
    let after = known.version;
    let (agents, members) = tokio::try_join!(
        catalog.fetch_all(&AGENTS, args![after]),
        catalog.fetch_all(&MEMBERS, args![after])
    )?;
    let (endpoints, labels) = tokio::try_join!(
        catalog.fetch_all(&ENDPOINTS, args![after]),
        catalog.fetch_all(&LABELS, args![after])
    )?;
    let mut next = known.clone();
    next.version = version;
    for row in endpoints {
        next.put_endpoint(endpoint(row)?);
    }
    for row in agents {
        let facts = next.intern(facts(&row)?);
        next.put_agent(agent(row, facts)?);
    }
    for row in &labels {
        put_label(&mut next, row)?;
    }
    for row in &members {
        put_member(&mut next, row)?;
    }
    Ok(Some(next))
}

fn endpoint(mut row: Row) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        no: row.get("no")?,
        org: row.get("org")?,
        name: row.take::<String>("name")?.into(),
        created_at: row.get("created_at")?,
        deleted_at: row.get("deleted_at")?,
        agents: Box::default(),
    })
}

fn facts(row: &Row) -> Result<AgentFacts, Error> {
    let text = |column| row.get::<String>(column).map(Box::from);
    Ok(AgentFacts {
        platform: text("platform")?,
        os_name: text("os_name")?,
        os_version: text("os_version")?,
        arch: text("arch")?,
        version: text("version")?,
        capabilities: text("capabilities")?,
    })
}

fn agent(mut row: Row, facts: Arc<AgentFacts>) -> Result<Agent, Error> {
    let kind: AgentKind = word(&row, "kind")?;
    let state: AgentState = word(&row, "state")?;
    Ok(Agent {
        no: row.get("no")?,
        org: row.get("org")?,
        endpoint: row.get("endpoint_no")?,
        kind,
        state,
        hostname: row.take::<String>("hostname")?.into(),
        facts,
        public_key: row.take::<Option<Vec<u8>>>("public_key")?.map(Vec::into_boxed_slice),
        enrolled_at: row.get("enrolled_at")?,
        key_issued_at: row.get("key_issued_at")?,
        last_seen: row.get("last_seen")?,
        last_address: row.take::<String>("last_address")?.into(),
        clone_of: row.get("clone_of")?,
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

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(row: &Row, column: &str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::Other(format!("column {column}: {error}")))
}
