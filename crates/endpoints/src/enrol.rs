//! Enrolment: an agent program becomes an agent with a number, on an endpoint.

use std::time::{Duration, Instant};

use muster_catalog::{Args, Catalog, Error, Priority, Row, Tx, args};
use muster_types::{AgentKind, AgentNo, EndpointNo, OrgId, Timestamp};

use crate::secrets::{self, SecretGrant};
use crate::text::clean;
use crate::{AgentState, labels};

mod node;
mod queue;
mod sql;

pub use node::{EnrolNode, LIVE_WITHIN, LastHeard, NodeEnrolled, enrol_node, grant_node};
pub use queue::EnrolQueue;
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
    /// Too many enrol at this moment, or the catalog is too slow for them: it did not come to its turn in time.
    #[error("many machines enrol at this moment; try again later")]
    Crowded,
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] Error),
}

/// Enrols an agent, once per organisation, kind and external id however often it asks.
///
/// It joins the endpoint with the same machine identity, unless an agent of its kind lives there
/// under another host name: that is a copied machine, and gets an endpoint of its own.
///
/// Where many enrol, [`EnrolQueue`] does the same for several in one transaction.
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
    let granted = granted(catalog, enrol, now).await?;
    Ok(alone(catalog, &Asked::agent(enrol, granted, now)?).await?.enrolled)
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
    Ok(alone(catalog, &Asked::clone_of(of, enrol, now)?).await?.enrolled)
}

/// What a secret allows: found good, and not used yet.
#[derive(Clone, Debug)]
pub struct Granted(SecretGrant);

/// What an agent's secret allows; nothing is checked, and it is `None`, for one that brings none. One look-up, so
/// that what costs more is bounded by those who know a secret.
///
/// # Errors
/// [`EnrolError::Secret`], or the catalog's.
pub async fn granted(
    catalog: &Catalog,
    enrol: &Enrol,
    now: Timestamp,
) -> Result<Option<Granted>, EnrolError> {
    let Some(secret) = &enrol.secret else { return Ok(None) };
    let grant = secrets::check(catalog, secret, now).await?.ok_or(EnrolError::Secret)?;
    Ok(Some(Granted(grant)))
}

/// An enrolment that may be tried: checked, and with what its secret allows.
enum Asked {
    Agent(Plain),
    Node(node::Asked),
}

/// An agent that is named by its key.
struct Plain {
    enrol: Enrol,
    grant: Option<SecretGrant>,
    /// It is a copy of this one, and goes to an endpoint of its own.
    clone_of: Option<AgentNo>,
    now: Timestamp,
}

/// What a transaction did about one enrolment.
struct Done {
    enrolled: Enrolled,
    /// The agent that lives under the same identity on another machine.
    clone_of: Option<AgentNo>,
    /// When its node key was issued, for kinds that have one.
    issued_at: Timestamp,
    /// Whether anything was written.
    wrote: bool,
}

impl Asked {
    fn agent(enrol: &Enrol, granted: Option<Granted>, now: Timestamp) -> Result<Self, EnrolError> {
        let grant = granted.map(|granted| granted.0);
        // Whoever brings a secret was asked for it.
        if enrol.secret.is_some() != grant.is_some() {
            return Err(EnrolError::Secret);
        }
        Ok(Self::Agent(Plain { enrol: checked(enrol)?, grant, clone_of: None, now }))
    }

    fn clone_of(of: AgentNo, enrol: &Enrol, now: Timestamp) -> Result<Self, EnrolError> {
        let enrol = checked(&Enrol { secret: None, machine: None, ..enrol.clone() })?;
        Ok(Self::Agent(Plain { enrol, grant: None, clone_of: Some(of), now }))
    }

    /// What needs no transaction, because the catalog has it already.
    async fn known(&self, catalog: &Catalog) -> Result<Option<Done>, EnrolError> {
        match self {
            Self::Agent(plain) => {
                let row = catalog.fetch_optional(&sql::FIND_AGENT, plain.key()).await?;
                row.map(|row| plain.known(&row)).transpose()
            }
            Self::Node(node) => node.known(catalog).await,
        }
    }

    /// Enrols it. When it is refused, nothing was written for it.
    async fn within(&self, tx: &mut Tx, change: i64) -> Result<Done, EnrolError> {
        match self {
            Self::Agent(plain) => plain.within(tx, change).await,
            Self::Node(node) => node.within(tx, change).await,
        }
    }
}

/// One enrolment in transactions of its own, again when others were in its way.
async fn alone(catalog: &Catalog, asked: &Asked) -> Result<Done, EnrolError> {
    let mut tries = 0;
    loop {
        if let Some(done) = asked.known(catalog).await? {
            return Ok(done);
        }
        match together(catalog, std::slice::from_ref(asked)).await.map(|mut all| all.pop()) {
            Ok(Some(done)) => return done,
            Ok(None) => return Err(Error::Other("an enrolment without an end".to_owned()).into()),
            Err(Error::UniqueViolation { .. } | Error::Conflict(_)) if tries < 5 => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long a transaction that enrols may take in further agents: whoever else changes endpoints, here or
/// through another instance, waits for it, and on SQLite everybody who writes.
const HOLDS: Duration = Duration::from_millis(50);

/// One transaction for the first of them, at least one and as many as it has time for; what became of each, in
/// their order.
///
/// # Errors
/// The catalog's: nothing was written for anybody then, or after a commit perhaps all of it.
async fn together(
    catalog: &Catalog,
    all: &[Asked],
) -> Result<Vec<Result<Done, EnrolError>>, Error> {
    let mut tx = catalog.begin(Priority::Intake).await?;
    // The feed's row is locked from here on: enrolments happen one after the other.
    let change = tx.bump("directory").await?;
    let began = Instant::now();
    let mut done = Vec::with_capacity(all.len());
    for asked in all {
        if !done.is_empty() && began.elapsed() >= HOLDS {
            break;
        }
        match asked.within(&mut tx, change).await {
            Err(EnrolError::Catalog(error)) => return Err(error),
            one => done.push(one),
        }
    }
    if done.iter().flatten().any(|one| one.wrote) {
        tx.commit().await?;
    } else {
        tx.rollback().await;
    }
    Ok(done)
}

impl Plain {
    fn org(&self) -> OrgId {
        self.grant.as_ref().map_or(self.enrol.org, |grant| grant.org)
    }

    fn key(&self) -> Args {
        args![self.org(), self.enrol.kind.as_str(), &self.enrol.external_id]
    }

    fn known(&self, row: &Row) -> Result<Done, EnrolError> {
        let agent = row.get("no")?;
        if row.get::<String>("state")? == AgentState::Blocked.as_str() {
            return Err(EnrolError::Blocked(agent));
        }
        Ok(self.done(agent, row.get("endpoint_no")?, false))
    }

    fn done(&self, agent: AgentNo, endpoint: EndpointNo, is_new: bool) -> Done {
        let enrolled = Enrolled { agent, endpoint, org: self.org(), is_new };
        Done { enrolled, clone_of: self.clone_of, issued_at: self.now, wrote: is_new }
    }

    async fn within(&self, tx: &mut Tx, change: i64) -> Result<Done, EnrolError> {
        let Self { enrol, grant, clone_of, now } = self;
        let (org, now, clone_of) = (self.org(), *now, *clone_of);
        if let Some(row) = tx.fetch_optional(&sql::FIND_AGENT, self.key()).await? {
            return self.known(&row);
        }
        let found = match clone_of {
            None => endpoint_of(tx, org, enrol).await?,
            Some(of) => {
                check_original(tx, org, of).await?;
                None
            }
        };
        if let Some(grant) = grant {
            use_secret(tx, grant).await?;
        }
        let agent = AgentNo(number(tx.bump("number/agent").await?)?);
        let endpoint = match found {
            Some(endpoint) => endpoint,
            None => new_endpoint(tx, org, enrol, now, change).await?,
        };
        let secret_no = grant.as_ref().map(|grant| grant.no);
        let placed = Placed { agent, endpoint, clone_of, secret_no, now, change };
        insert_agent(tx, org, enrol, placed).await?;
        if let (Some(grant), None) = (grant, found) {
            put_labels(tx, grant, endpoint, now, change).await?;
        }
        Ok(self.done(agent, endpoint, true))
    }
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

/// Counts a secret's use, before anything else is written: it may have been revoked since it was looked at.
async fn use_secret(tx: &mut Tx, grant: &SecretGrant) -> Result<(), EnrolError> {
    match tx.execute(&sql::COUNT_USE, args![grant.no]).await? {
        0 => Err(EnrolError::Secret),
        _ => Ok(()),
    }
}

/// Gives a secret's labels to an endpoint that its use has made. Labels give people access, and a machine's
/// identity is only what the agent says: one that was there before keeps the labels it has.
async fn put_labels(
    tx: &mut Tx,
    grant: &SecretGrant,
    made: EndpointNo,
    now: Timestamp,
    change: i64,
) -> Result<(), EnrolError> {
    for name in &grant.labels {
        labels::put_member(tx, grant.org, name, made, now, change).await?;
    }
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
