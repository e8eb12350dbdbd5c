//! Enrolment: an agent program becomes an agent with a number, on an endpoint.

use muster_catalog::{Catalog, Error, Priority, Tx, args};
use muster_types::{AgentKind, AgentNo, EndpointNo, OrgId, Timestamp};

use crate::secrets::{self, SecretGrant};
use crate::text::clean;
use crate::{AgentState, labels};

mod node;
mod sql;

pub use node::{EnrolNode, Granted, LIVE_WITHIN, NodeEnrolled, enrol_node, grant_node};
pub(crate) use sql::STATEMENTS;

/// An agent's account of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrol {
    /// Organisation; the secret's own one goes before it.
    pub org: OrgId,
    /// Which program.
    pub kind: AgentKind,
    /// Its identity within its kind: for native agents the SHA-256 of the public key, in hex.
    pub external_id: String,
    /// Its key, where its kind has one.
    pub public_key: Option<Vec<u8>>,
    /// Identity of the machine, the same for all agents on it.
    pub machine: Option<String>,
    /// What it says of its machine and itself.
    pub report: AgentReport,
    /// The enrol secret; `None` only for agents that proved themselves in another way.
    pub secret: Option<String>,
}

/// What an agent says of its machine and itself, at enrolment and with each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentReport {
    /// Host name.
    pub hostname: String,
    /// `linux`, `darwin`, `windows`.
    pub platform: String,
    /// For example `Debian GNU/Linux`.
    pub os_name: String,
    /// For example `12.4`.
    pub os_version: String,
    /// For example `x86_64`.
    pub arch: String,
    /// Version of the agent program.
    pub version: String,
    /// What it can do, words divided by spaces.
    pub capabilities: String,
    /// Where it comes from, without the port.
    pub address: String,
}

/// What became of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The agent's number.
    pub agent: AgentNo,
    /// Its endpoint.
    pub endpoint: EndpointNo,
    /// Its organisation.
    pub org: OrgId,
    /// Whether it was not known before.
    pub is_new: bool,
}

/// Why an agent is not enrolled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EnrolError {
    /// No such secret, or it is revoked or expired. Which of these is nobody's business.
    #[error("the enrol secret is not valid")]
    Secret,
    /// The secret is good only on a connection with a client certificate.
    #[error("this enrol secret needs a client certificate")]
    Certificate,
    /// A person blocked this agent.
    #[error("agent {0} is blocked")]
    Blocked(AgentNo),
    /// The agent that is said to be copied does not exist.
    #[error("there is no agent {0} to be a clone of")]
    NoOriginal(AgentNo),
    /// What it says of itself cannot be kept.
    #[error("the agent's {0} is missing or too long")]
    Invalid(&'static str),
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] Error),
}

/// Where a new agent goes.
#[derive(Clone, Copy)]
enum Place {
    /// To the endpoint with its machine identity, else to a new one.
    ByMachine,
    /// To a new endpoint of its own, as a copy of another.
    CloneOf(AgentNo),
}

/// Enrols an agent, once per organisation, kind and external id however often it asks.
///
/// It joins the endpoint with the same machine identity, unless an agent of its kind lives there
/// under another host name: that is a copied machine, and gets an endpoint of its own.
///
/// # Errors
/// [`EnrolError`].
///
/// # Cancel safety
/// Dropped half way it may or may not have happened; asking again gives the same number.
pub async fn enrol(
    catalog: &Catalog,
    enrol: &Enrol,
    now: Timestamp,
) -> Result<Enrolled, EnrolError> {
    retried(catalog, enrol, now, Place::ByMachine).await
}

/// Enrols a machine that was found to use the key of another agent: under a new key, with a number
/// and an endpoint of its own. Its secret is not asked for: it proved the copied key.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol_clone(
    catalog: &Catalog,
    of: AgentNo,
    enrol: &Enrol,
    now: Timestamp,
) -> Result<Enrolled, EnrolError> {
    let enrol = Enrol { secret: None, machine: None, ..enrol.clone() };
    retried(catalog, &enrol, now, Place::CloneOf(of)).await
}

async fn retried(
    catalog: &Catalog,
    enrol: &Enrol,
    now: Timestamp,
    place: Place,
) -> Result<Enrolled, EnrolError> {
    let enrol = checked(enrol)?;
    let mut tries = 0;
    loop {
        match once(catalog, &enrol, now, place).await {
            Err(EnrolError::Catalog(Error::UniqueViolation { .. } | Error::Conflict(_)))
                if tries < 5 =>
            {
                tries += 1;
            }
            result => return result,
        }
    }
}

async fn once(
    catalog: &Catalog,
    enrol: &Enrol,
    now: Timestamp,
    place: Place,
) -> Result<Enrolled, EnrolError> {
    let grant = match &enrol.secret {
        Some(secret) => {
            Some(secrets::check(catalog, secret, now).await?.ok_or(EnrolError::Secret)?)
        }
        None => None,
    };
    let org = grant.as_ref().map_or(enrol.org, |grant| grant.org);
    let key = args![org, enrol.kind.as_str(), &enrol.external_id];
    if let Some(row) = catalog.fetch_optional(&sql::FIND_AGENT, key.clone()).await? {
        return known(&row, org);
    }
    let mut tx = catalog.begin(Priority::Intake).await?;
    // The feed's row is locked from here on: enrolments happen one after the other.
    let change = tx.bump("directory").await?;
    if let Some(row) = tx.fetch_optional(&sql::FIND_AGENT, key).await? {
        tx.rollback().await;
        return known(&row, org);
    }
    let agent = AgentNo(number(tx.bump("number/agent").await?)?);
    let found = match place {
        Place::ByMachine => endpoint_of(&mut tx, org, enrol).await?,
        Place::CloneOf(of) => {
            check_original(&mut tx, org, of).await?;
            None
        }
    };
    let endpoint = match found {
        Some(endpoint) => endpoint,
        None => new_endpoint(&mut tx, org, enrol, now, change).await?,
    };
    let labelled = found.is_none().then_some(endpoint);
    let clone_of = match place {
        Place::ByMachine => None,
        Place::CloneOf(of) => Some(of),
    };
    let secret_no = grant.as_ref().map(|grant| grant.no);
    insert_agent(&mut tx, org, enrol, Placed { agent, endpoint, clone_of, secret_no, now, change })
        .await?;
    if let Some(grant) = &grant {
        use_secret(&mut tx, grant, labelled, now, change).await?;
    }
    tx.commit().await?;
    Ok(Enrolled { agent, endpoint, org, is_new: true })
}

/// Whether an agent may be copied: one that was removed or shut out does not come back by a copy.
async fn check_original(tx: &mut Tx, org: OrgId, of: AgentNo) -> Result<(), EnrolError> {
    let row = tx.fetch_optional(&sql::FIND_ORIGINAL, args![org, of]).await?;
    let state: String = row.ok_or(EnrolError::NoOriginal(of))?.get("state")?;
    if state != AgentState::Active.as_str() {
        return Err(EnrolError::Blocked(of));
    }
    Ok(())
}

fn known(row: &muster_catalog::Row, org: OrgId) -> Result<Enrolled, EnrolError> {
    let agent = row.get("no")?;
    if row.get::<String>("state")? == AgentState::Blocked.as_str() {
        return Err(EnrolError::Blocked(agent));
    }
    Ok(Enrolled { agent, endpoint: row.get("endpoint_no")?, org, is_new: false })
}

async fn endpoint_of(
    tx: &mut Tx,
    org: OrgId,
    enrol: &Enrol,
) -> Result<Option<EndpointNo>, EnrolError> {
    let Some(machine) = &enrol.machine else { return Ok(None) };
    let args = args![org, machine, enrol.kind.as_str(), &enrol.report.hostname];
    let row = tx.fetch_optional(&sql::FIND_ENDPOINT, args).await?;
    Ok(row.map(|row| row.get("no")).transpose()?)
}

async fn new_endpoint(
    tx: &mut Tx,
    org: OrgId,
    enrol: &Enrol,
    now: Timestamp,
    change: i64,
) -> Result<EndpointNo, EnrolError> {
    let endpoint = EndpointNo(number(tx.bump("number/endpoint").await?)?);
    let name = &enrol.report.hostname;
    let args = args![endpoint, org, name, enrol.machine.clone(), now, change];
    tx.execute(&sql::INSERT_ENDPOINT, args).await?;
    Ok(endpoint)
}

/// What is decided about a new agent.
struct Placed {
    agent: AgentNo,
    endpoint: EndpointNo,
    clone_of: Option<AgentNo>,
    secret_no: Option<i64>,
    now: Timestamp,
    change: i64,
}

async fn insert_agent(
    tx: &mut Tx,
    org: OrgId,
    enrol: &Enrol,
    placed: Placed,
) -> Result<(), EnrolError> {
    let report = &enrol.report;
    let args = args![
        placed.agent,
        org,
        placed.endpoint,
        enrol.kind.as_str(),
        &enrol.external_id,
        enrol.public_key.clone(),
        &report.hostname,
        &report.platform,
        &report.os_name,
        &report.os_version,
        &report.arch,
        &report.version,
        &report.capabilities,
        placed.now,
        &report.address,
        placed.secret_no,
        placed.clone_of,
        placed.change,
    ];
    tx.execute(&sql::INSERT_AGENT, args).await?;
    Ok(())
}

/// Counts a secret's use and gives its labels to `made`, the endpoint that this enrolment made if it
/// made one. Labels give people access, and a machine's identity is only what the agent says: one that
/// was there before keeps the labels it has.
async fn use_secret(
    tx: &mut Tx,
    grant: &SecretGrant,
    made: Option<EndpointNo>,
    now: Timestamp,
    change: i64,
) -> Result<(), EnrolError> {
    if let Some(endpoint) = made {
        for name in &grant.labels {
            labels::put_member(tx, grant.org, name, endpoint, now, change).await?;
        }
    }
    tx.execute(&sql::COUNT_USE, args![grant.no]).await?;
    Ok(())
}

pub(crate) fn number(n: i64) -> Result<u32, Error> {
    u32::try_from(n).map_err(|_| Error::Other("all numbers are used up".to_owned()))
}

fn checked(enrol: &Enrol) -> Result<Enrol, EnrolError> {
    if enrol.external_id.is_empty() || enrol.external_id.len() > 256 {
        return Err(EnrolError::Invalid("identity"));
    }
    if enrol.public_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 4_096) {
        return Err(EnrolError::Invalid("key"));
    }
    let machine = enrol.machine.as_deref().map(|id| clean(id, 128)).filter(|id| !id.is_empty());
    Ok(Enrol { machine, report: enrol.report.cleaned(&enrol.external_id), ..enrol.clone() })
}

impl AgentReport {
    /// Bounded; an agent without a host name is called after its identity.
    pub(crate) fn cleaned(&self, external_id: &str) -> Self {
        let mut hostname = clean(&self.hostname, 255);
        if hostname.is_empty() {
            hostname = clean(external_id, 16);
        }
        Self {
            hostname,
            platform: clean(&self.platform, 64).to_lowercase(),
            os_name: clean(&self.os_name, 128),
            os_version: clean(&self.os_version, 128),
            arch: clean(&self.arch, 64),
            version: clean(&self.version, 64),
            capabilities: clean(&self.capabilities, 1_024),
            address: clean(&self.address, 64),
        }
    }
}
