//! Enrolment of agents that are named by an identifier of their machine and get a node key: osquery.

use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Args, Catalog, Row, Tx, args};
use muster_types::{AgentNo, EndpointNo, Timestamp};

use super::{
    Done, Enrol, EnrolError, Enrolled, Granted, Placed, checked, endpoint_of, insert_agent,
    new_endpoint, number, put_labels, sql, use_secret,
};
use crate::AgentState;
use crate::node_key::{GRACE, NodeKey};
use crate::secrets::SecretGrant;
use crate::text::clean;

/// An agent that was heard of within this time is alive: another instance of the program under its
/// identifier is then another machine. After it, the program was installed anew.
pub const LIVE_WITHIN: Duration = Duration::from_secs(600);

/// An enrolment that ends in a node key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolNode {
    /// The agent's account of itself; the secret must be there.
    pub enrol: Enrol,
    /// Random per database of the agent, so that two machines with one identifier are told apart.
    /// Empty when the agent does not say.
    pub instance: String,
    /// The environment whose secret it must be: its name or one of its labels.
    pub environment: Option<String>,
    /// Whether the connection has a client certificate.
    pub has_certificate: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEnrolled {
    /// The agent.
    pub enrolled: Enrolled,
    /// What its node key says.
    pub key: NodeKey,
    /// The agent that lives under the same identifier on another machine.
    pub clone_of: Option<AgentNo>,
}

/// Enrols an agent and decides on its next node key.
///
/// - The same identifier and instance is the same agent. Within a minute it gets the same key again,
///   without a write; later a new one, and the one before is good for a minute more.
/// - Another instance under the identifier of an agent that is alive ([`LastHeard`], or enrolled
///   within [`LIVE_WITHIN`]) is a copied machine: it becomes an agent of its own, on an endpoint of
///   its own, marked as a clone.
/// - Another instance after that is the machine installed anew, and takes the agent over.
/// - One that tells no instance is another one than an agent that has told its own.
///
/// # Errors
/// [`EnrolError`].
///
/// # Cancel safety
/// Dropped half way it may or may not have happened; asking again gives the same agent.
pub async fn enrol_node(
    catalog: &Catalog,
    node: &EnrolNode,
    granted: Granted,
    last_heard: LastHeard,
    now: Timestamp,
) -> Result<NodeEnrolled, EnrolError> {
    let with_certificate = granted.0.client_certificate;
    let asked = super::Asked::Node(Asked::new(node, granted, last_heard, now)?);
    Ok(NodeEnrolled::new(&super::alone(catalog, &asked).await?, with_certificate))
}

/// Whether an agent may enrol at all: by its secret, the environment it names and its certificate. One
/// look-up, so that what costs more is bounded by those who know a secret.
///
/// # Errors
/// [`EnrolError::Secret`], [`EnrolError::Certificate`], or the catalog's.
pub async fn grant_node(
    catalog: &Catalog,
    node: &EnrolNode,
    now: Timestamp,
) -> Result<Granted, EnrolError> {
    let granted = super::granted(catalog, &node.enrol, now).await?.ok_or(EnrolError::Secret)?;
    let grant = &granted.0;
    let is = |name: &String, environment: &str| name.eq_ignore_ascii_case(environment);
    let fits = node.environment.as_deref().is_none_or(|environment| {
        is(&grant.name, environment) || grant.labels.iter().any(|label| is(label, environment))
    });
    if !fits {
        return Err(EnrolError::Secret);
    }
    if grant.client_certificate && !node.has_certificate {
        return Err(EnrolError::Certificate);
    }
    Ok(granted)
}

/// When an agent was last heard of, where this instance knows.
pub type LastHeard = Arc<dyn Fn(AgentNo) -> Option<Timestamp> + Send + Sync>;

impl NodeEnrolled {
    pub(super) fn new(done: &Done, with_certificate: bool) -> Self {
        let Enrolled { agent, org, .. } = done.enrolled;
        let issued_at = crate::presence::seconds(done.issued_at);
        let key = NodeKey { org, agent, issued_at, with_certificate };
        Self { enrolled: done.enrolled, key, clone_of: done.clone_of }
    }
}

/// A checked enrolment.
pub(super) struct Asked {
    enrol: Enrol,
    instance: String,
    grant: SecretGrant,
    last_heard: LastHeard,
    now: Timestamp,
}

/// An agent as the catalog has it.
struct Known {
    agent: AgentNo,
    endpoint: EndpointNo,
    instance: String,
    issued_at: Timestamp,
}

/// What is to be done.
enum Decided {
    /// It is this one.
    Known(Known),
    /// It becomes an agent under this identity, on the place said.
    New { external_id: String, clone_of: Option<AgentNo> },
}

impl Asked {
    pub(super) fn new(
        node: &EnrolNode,
        granted: Granted,
        last_heard: LastHeard,
        now: Timestamp,
    ) -> Result<Self, EnrolError> {
        let external_id = clean(&node.enrol.external_id, 190);
        let enrol = checked(&Enrol { external_id, ..node.enrol.clone() })?;
        let instance = clean(&node.instance, 64);
        Ok(Self { enrol, instance, grant: granted.0, last_heard, now })
    }

    /// An agent that got its key so lately that it gets the same again.
    pub(super) async fn known(&self, catalog: &Catalog) -> Result<Option<Done>, EnrolError> {
        Ok(self.recent(catalog).await?.map(|known| self.done(&known, false)))
    }

    pub(super) async fn within(&self, tx: &mut Tx, change: i64) -> Result<Done, EnrolError> {
        match self.decide(tx).await? {
            // Another thread of the same agent was first: both get its key.
            Decided::Known(known) if self.is_recent(&known) => Ok(self.done(&known, false)),
            Decided::Known(known) => {
                // The clock may have gone back.
                let after = known.issued_at.plus(Duration::from_secs(1));
                let issued_at = whole_seconds(self.now.max(after));
                let args = args![known.agent, self.instance(&known), issued_at, change];
                tx.execute(&sql::ISSUE_KEY, args).await?;
                Ok(self.done(&Known { issued_at, ..known }, true))
            }
            Decided::New { external_id, clone_of } => {
                self.insert(tx, external_id, clone_of, change).await
            }
        }
    }

    /// The agent, when it got its key so lately that it may get the same again.
    async fn recent(&self, catalog: &Catalog) -> Result<Option<Known>, EnrolError> {
        for external_id in [self.enrol.external_id.clone(), self.clone_id()] {
            let row = catalog.fetch_optional(&sql::FIND_NODE, self.key(&external_id)).await?;
            let Some(known) = row.map(|row| Known::read(&row)).transpose()? else { continue };
            if self.is_recent(&known) {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    fn is_recent(&self, known: &Known) -> bool {
        known.instance == self.instance && self.now.since(known.issued_at) < GRACE
    }

    async fn decide(&self, tx: &mut Tx) -> Result<Decided, EnrolError> {
        let id = &self.enrol.external_id;
        let Some(row) = tx.fetch_optional(&sql::FIND_NODE, self.key(id)).await? else {
            return Ok(Decided::New { external_id: id.clone(), clone_of: None });
        };
        let first = Known::read(&row)?;
        if first.instance.is_empty() || first.instance == self.instance {
            return Ok(Decided::Known(first));
        }
        let clone_id = self.clone_id();
        if let Some(row) = tx.fetch_optional(&sql::FIND_NODE, self.key(&clone_id)).await? {
            return Ok(Decided::Known(Known::read(&row)?));
        }
        if self.is_alive(&first) {
            return Ok(Decided::New { external_id: clone_id, clone_of: Some(first.agent) });
        }
        Ok(Decided::Known(first))
    }

    async fn insert(
        &self,
        tx: &mut Tx,
        external_id: String,
        clone_of: Option<AgentNo>,
        change: i64,
    ) -> Result<Done, EnrolError> {
        let (org, now) = (self.grant.org, self.now);
        let mut enrol = Enrol { external_id, ..self.enrol.clone() };
        let (found, clone_of) = match clone_of {
            Some(of) => (None, Some(of)),
            None => self.place(tx).await?,
        };
        // A copy of a machine has its identity as well, and it must not lead back to it.
        enrol.machine = enrol.machine.filter(|_| clone_of.is_none());
        use_secret(tx, &self.grant).await?;
        let agent = AgentNo(number(tx.bump("number/agent").await?)?);
        let endpoint = match found {
            Some(endpoint) => endpoint,
            None => new_endpoint(tx, org, &enrol, now, change).await?,
        };
        let secret_no = Some(self.grant.no);
        let placed = Placed { agent, endpoint, clone_of, secret_no, now, change };
        insert_agent(tx, org, &enrol, placed).await?;
        let issued_at = whole_seconds(now);
        tx.execute(&sql::ISSUE_KEY, args![agent, &self.instance, issued_at, change]).await?;
        if found.is_none() {
            put_labels(tx, &self.grant, endpoint, now, change).await?;
        }
        let enrolled = Enrolled { agent, endpoint, org, is_new: true };
        Ok(Done { enrolled, clone_of, issued_at, wrote: true })
    }

    /// The endpoint with the agent's machine identity. When another instance of the program is alive
    /// there, it is that one's, and this is a copy of it.
    async fn place(
        &self,
        tx: &mut Tx,
    ) -> Result<(Option<EndpointNo>, Option<AgentNo>), EnrolError> {
        let Some(endpoint) = endpoint_of(tx, self.grant.org, &self.enrol).await? else {
            return Ok((None, None));
        };
        let args = args![endpoint, self.enrol.kind.as_str()];
        for row in tx.fetch_all(&sql::NODES_OF, args).await? {
            let other = Known::read(&row)?;
            let differs = !other.instance.is_empty() && other.instance != self.instance;
            if differs && self.is_alive(&other) {
                return Ok((None, Some(other.agent)));
            }
        }
        Ok((Some(endpoint), None))
    }

    fn is_alive(&self, agent: &Known) -> bool {
        let heard =
            (self.last_heard)(agent.agent).map_or(agent.issued_at, |at| at.max(agent.issued_at));
        self.now.since(heard) < LIVE_WITHIN
    }

    fn done(&self, known: &Known, wrote: bool) -> Done {
        let Known { agent, endpoint, issued_at, .. } = *known;
        let enrolled = Enrolled { agent, endpoint, org: self.grant.org, is_new: false };
        Done { enrolled, clone_of: None, issued_at, wrote }
    }

    fn key(&self, external_id: &str) -> Args {
        args![self.grant.org, self.enrol.kind.as_str(), external_id]
    }

    /// The identity of a machine that is not the first under its identifier.
    fn clone_id(&self) -> String {
        format!("{}~{}", self.enrol.external_id, self.instance)
    }

    /// The instance to keep: one that is not told does not wipe out what is known.
    fn instance<'a>(&'a self, known: &'a Known) -> &'a str {
        if self.instance.is_empty() { &known.instance } else { &self.instance }
    }
}

impl Known {
    fn read(row: &Row) -> Result<Self, EnrolError> {
        let agent = row.get("no")?;
        if row.get::<String>("state")? == AgentState::Blocked.as_str() {
            return Err(EnrolError::Blocked(agent));
        }
        Ok(Self {
            agent,
            endpoint: row.get("endpoint_no")?,
            instance: row.get("instance")?,
            issued_at: row.get("key_issued_at")?,
        })
    }
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp(at.seconds() * 1_000_000)
}
