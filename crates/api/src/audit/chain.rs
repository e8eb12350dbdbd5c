//! Appending to the chain of this instance.

use muster_catalog::{Error, Tx, args, statements};
use muster_types::{InstanceId, OrgId, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Stands in for the instance where a command beside the store made the change.
pub const OUTSIDE: InstanceId = InstanceId(Uuid::nil());

/// Longest `details` kept; what is longer is replaced by a note of its length.
const DETAILS_MAX: usize = 16 * 1024;

statements! {
    LAST_HASH = "SELECT hash FROM audit WHERE instance = $1 AND seq = $2";
    INSERT = "
        INSERT INTO audit
            (instance, seq, at, org, principal, address, operation, subject, outcome, details,
             previous, hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
}

/// One thing somebody did, looked at, or was refused. Holds no secrets: callers put names and
/// numbers here, never passwords, tokens or bodies that may carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// In which organisation.
    pub org: OrgId,
    /// Who: a user's name.
    pub principal: String,
    /// From where.
    pub address: String,
    /// What: an operation's id.
    pub operation: String,
    /// To what: `user/ana`, `hunt/7`, or empty.
    pub subject: String,
    /// `ok`, `denied` or `failed`.
    pub outcome: String,
    /// More, as JSON text.
    pub details: String,
}

const TOPIC_PREFIX: &str = "audit/";

/// The topic that numbers an instance's records.
fn topic(instance: InstanceId) -> String {
    format!("{TOPIC_PREFIX}{instance}")
}

/// How the topics of all chains begin.
pub(super) fn topic_prefix() -> &'static str {
    TOPIC_PREFIX
}

/// Whose chain a topic numbers.
pub(super) fn instance_of(topic: &str) -> Result<InstanceId, Error> {
    topic
        .strip_prefix(TOPIC_PREFIX)
        .and_then(|text| Uuid::parse_str(text).ok())
        .map(InstanceId)
        .ok_or_else(|| Error::Other(format!("the feed {topic:?} numbers no audit chain")))
}

/// Appends a record in the transaction of the change, as its last step: raising the number locks
/// the chain until the commit, so records of one instance stand in commit order. Because it is
/// always the last lock taken, it cannot be part of a deadlock.
///
/// # Errors
/// [`Error`] of the catalog; the transaction is of no use then.
pub async fn append(tx: &mut Tx, instance: InstanceId, mut entry: Entry) -> Result<i64, Error> {
    if entry.details.len() > DETAILS_MAX {
        entry.details = format!("{{\"omitted_bytes\":{}}}", entry.details.len());
    }
    let seq = tx.bump(&topic(instance)).await?;
    let previous = match tx.fetch_optional(&LAST_HASH, args![instance, seq - 1]).await? {
        Some(row) => row.get::<[u8; 32]>("hash")?,
        None => [0; 32],
    };
    let hash = hash(instance, seq, &entry, &previous);
    tx.execute(
        &INSERT,
        args![
            instance,
            seq,
            entry.at,
            entry.org,
            entry.principal,
            entry.address,
            entry.operation,
            entry.subject,
            entry.outcome,
            entry.details,
            previous,
            hash
        ],
    )
    .await?;
    Ok(seq)
}

/// SHA-256 over all fields, each text with its length before it, so that no two records read alike.
pub(crate) fn hash(instance: InstanceId, seq: i64, entry: &Entry, previous: &[u8; 32]) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(b"muster audit 1");
    sha.update(previous);
    sha.update(instance.0.as_bytes());
    sha.update(seq.to_be_bytes());
    sha.update(entry.at.0.to_be_bytes());
    sha.update(entry.org.0.to_be_bytes());
    for text in [
        &entry.principal,
        &entry.address,
        &entry.operation,
        &entry.subject,
        &entry.outcome,
        &entry.details,
    ] {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text.as_bytes());
    }
    sha.finalize().into()
}
