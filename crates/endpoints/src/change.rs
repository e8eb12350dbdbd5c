//! Changes to endpoints and agents after enrolment.

use muster_catalog::{Catalog, Error, Priority, Tx, args};
use muster_types::{AgentNo, EndpointNo, OrgId, Timestamp};

use crate::enrol::number;
use crate::{Agent, AgentReport, AgentState};

muster_catalog::statements! {
    DELETE_ENDPOINT = "UPDATE endpoint
        SET deleted_at = $3, change = $4
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
    /// The external id is given free: the same machine may enrol again, under a new number.
    RETIRE_AGENTS = "UPDATE agent
        SET state = 'retired',
            external_id = CAST(no AS TEXT) || '~' || external_id,
            public_key = NULL,
            deleted_at = $2,
            change = $3
        WHERE endpoint_no = $1 AND state <> 'retired'";
    SET_STATE = "UPDATE agent
        SET state = $3, change = $4
        WHERE org = $1 AND no = $2 AND state <> 'retired'";
    RENAME = "UPDATE endpoint
        SET name = $3, change = $4
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
    /// By what stands here, not by what the asker knew: that may be older.
    RENAME_AFTER = "UPDATE endpoint
        SET name = $2, change = $3
        WHERE no = (SELECT endpoint_no FROM agent WHERE agent.no = $1)
          AND name = (SELECT hostname FROM agent WHERE agent.no = $1)
          AND deleted_at IS NULL";
    /// What is null says nothing new, and stays as somebody else may have written it since.
    REPORT = "UPDATE agent
        SET hostname = COALESCE($2, hostname),
            platform = COALESCE($3, platform),
            os_name = COALESCE($4, os_name),
            os_version = COALESCE($5, os_version),
            arch = COALESCE($6, arch),
            version = COALESCE($7, version),
            capabilities = COALESCE($8, capabilities),
            last_address = COALESCE($9, last_address),
            change = $10
        WHERE no = $1";
    COPY_ENDPOINT = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        SELECT $3, agent.org, agent.hostname, NULL, $4, NULL, $5
        FROM agent
        WHERE agent.org = $1 AND agent.no = $2 AND agent.state <> 'retired'";
    MOVE_AGENT = "UPDATE agent
        SET endpoint_no = $3, change = $4
        WHERE org = $1
          AND no = $2
          AND state <> 'retired'
          AND EXISTS (
            SELECT 1 FROM endpoint
            WHERE endpoint.no = $3 AND endpoint.org = $1 AND endpoint.deleted_at IS NULL)";
}

/// Deletes an endpoint: a tombstone stays, its agents are retired and may not come back, its numbers
/// are never reused. The machine may enrol anew. Whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn delete_endpoint(
    catalog: &Catalog,
    org: OrgId,
    no: EndpointNo,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = delete_endpoint_in(&mut tx, org, no, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`delete_endpoint`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`delete_endpoint`].
pub async fn delete_endpoint_in(
    tx: &mut Tx,
    org: OrgId,
    no: EndpointNo,
    now: Timestamp,
) -> Result<bool, Error> {
    let change = tx.bump("directory").await?;
    if tx.execute(&DELETE_ENDPOINT, args![org, no, now, change]).await? == 0 {
        return Ok(false);
    }
    tx.execute(&RETIRE_AGENTS, args![no, now, change]).await?;
    Ok(true)
}

/// Blocks an agent or lets it in again. Whether there was one that is not retired.
///
/// # Errors
/// When the catalog fails.
pub async fn set_agent_blocked(
    catalog: &Catalog,
    org: OrgId,
    no: AgentNo,
    blocked: bool,
) -> Result<bool, Error> {
    let state = if blocked { AgentState::Blocked } else { AgentState::Active };
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump("directory").await?;
    let found = tx.execute(&SET_STATE, args![org, no, state.as_str(), change]).await? == 1;
    tx.commit().await?;
    Ok(found)
}

/// Gives an endpoint another name. Whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn rename_endpoint(
    catalog: &Catalog,
    org: OrgId,
    no: EndpointNo,
    name: &str,
) -> Result<bool, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump("directory").await?;
    let name = crate::text::clean(name, 255);
    let found = tx.execute(&RENAME, args![org, no, name, change]).await? == 1;
    tx.commit().await?;
    Ok(found)
}

/// Takes an agent off its endpoint, to a new one of its own: undoes a wrong join. `None` when there
/// is no such agent.
///
/// # Errors
/// When the catalog fails.
pub async fn split_agent(
    catalog: &Catalog,
    org: OrgId,
    no: AgentNo,
    now: Timestamp,
) -> Result<Option<EndpointNo>, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump("directory").await?;
    let endpoint = EndpointNo(number(tx.bump("number/endpoint").await?)?);
    if tx.execute(&COPY_ENDPOINT, args![org, no, endpoint, now, change]).await? == 0 {
        return Ok(None);
    }
    tx.execute(&MOVE_AGENT, args![org, no, endpoint, change]).await?;
    tx.commit().await?;
    Ok(Some(endpoint))
}

/// Puts an agent on another endpoint: joins what identity did not. Whether both exist.
///
/// # Errors
/// When the catalog fails.
pub async fn join_agent(
    catalog: &Catalog,
    org: OrgId,
    no: AgentNo,
    endpoint: EndpointNo,
) -> Result<bool, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump("directory").await?;
    let found = tx.execute(&MOVE_AGENT, args![org, no, endpoint, change]).await? == 1;
    tx.commit().await?;
    Ok(found)
}

/// Takes in what an agent says of itself with a new connection; writes only what differs from
/// `known`, so that of two who know an agent from before neither undoes what the other writes. An
/// endpoint that bears its agent's host name follows it. Whether anything was written.
///
/// # Errors
/// When the catalog fails.
pub async fn report_agent(
    catalog: &Catalog,
    known: &Agent,
    report: &AgentReport,
) -> Result<bool, Error> {
    let report = report.cleaned(&known.hostname);
    let news = news(known, &report);
    if news.iter().all(Option::is_none) {
        return Ok(false);
    }
    let mut tx = catalog.begin(Priority::Presence).await?;
    let change = tx.bump("directory").await?;
    let [hostname, platform, os_name, os_version, arch, version, capabilities, address] = news;
    if let Some(hostname) = hostname {
        tx.execute(&RENAME_AFTER, args![known.no, hostname, change]).await?;
    }
    let args = args![
        known.no,
        hostname,
        platform,
        os_name,
        os_version,
        arch,
        version,
        capabilities,
        address,
        change,
    ];
    tx.execute(&REPORT, args).await?;
    tx.commit().await?;
    Ok(true)
}

/// What of a report is not known yet, in the order of [`AgentReport`].
fn news<'a>(known: &Agent, report: &'a AgentReport) -> [Option<&'a str>; 8] {
    let facts = &known.facts;
    let pairs = [
        (&known.hostname, &report.hostname),
        (&facts.platform, &report.platform),
        (&facts.os_name, &report.os_name),
        (&facts.os_version, &report.os_version),
        (&facts.arch, &report.arch),
        (&facts.version, &report.version),
        (&facts.capabilities, &report.capabilities),
        (&known.last_address, &report.address),
    ];
    pairs.map(|(known, said)| (**known != **said).then_some(said.as_str()))
}
