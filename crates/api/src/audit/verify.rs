//! Reads the chains and says where one is broken.

use std::fmt;

use muster_catalog::{Catalog, Error, Row, args, statements};
use muster_types::InstanceId;

use super::chain::{self, Entry};

const PAGE: i64 = 1_000;

statements! {
    /// '0' follows '/': these are the topics that begin with `audit/`.
    NEXT_CHAIN = "
        SELECT topic, seq FROM feed
        WHERE topic > $1 AND topic < 'audit0'
        ORDER BY topic
        LIMIT 1";
    READ_CHAIN = "
        SELECT seq, at, org, principal, address, operation, subject, outcome, details, previous,
               hash
        FROM audit
        WHERE instance = $1 AND seq > $2
        ORDER BY seq
        LIMIT $3";
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Chains, one per instance that ever wrote.
    pub chains: u64,
    /// Records in them.
    pub records: u64,
}

/// The first record that is not as it was written, or is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Whose chain.
    pub instance: InstanceId,
    /// Which record.
    pub seq: i64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, seq } = self;
        write!(f, "record {seq} of instance {instance} was changed or removed")
    }
}

/// Reads every chain from its start. `Ok(Err(_))` names the first broken record.
///
/// # Errors
/// [`Error`] when the catalog cannot be read.
pub async fn verify(catalog: &Catalog) -> Result<Result<Verified, Broken>, Error> {
    let mut done = Verified::default();
    let mut topic = chain::topic_prefix().to_owned();
    while let Some(row) = catalog.fetch_optional(&NEXT_CHAIN, args![&topic]).await? {
        topic = row.get("topic")?;
        let instance = chain::instance_of(&topic)?;
        match verify_chain(catalog, instance, row.get("seq")?).await? {
            Ok(records) => done.records += records,
            Err(seq) => return Ok(Err(Broken { instance, seq })),
        }
        done.chains += 1;
    }
    Ok(Ok(done))
}

/// How many records a chain has, or the number of the first broken one.
///
/// `end` was read first: what is appended meanwhile is checked in part, never taken for missing.
async fn verify_chain(
    catalog: &Catalog,
    instance: InstanceId,
    end: i64,
) -> Result<Result<u64, i64>, Error> {
    let (mut last, mut previous) = (0, [0u8; 32]);
    loop {
        let rows = catalog.fetch_all(&READ_CHAIN, args![instance, last, PAGE]).await?;
        if rows.is_empty() {
            let whole = last >= end;
            return Ok(if whole { Ok(last.unsigned_abs()) } else { Err(last + 1) });
        }
        for row in &rows {
            let seq: i64 = row.get("seq")?;
            if seq != last + 1 {
                return Ok(Err(last + 1));
            }
            let stored: Option<[u8; 32]> = row.get("hash").ok();
            let linked = row.get("previous").is_ok_and(|stored: [u8; 32]| stored == previous);
            let computed = chain::hash(instance, seq, &read(row)?, &previous);
            if !linked || stored != Some(computed) {
                return Ok(Err(seq));
            }
            (last, previous) = (seq, computed);
        }
    }
}

/// The fields of a record.
pub(super) fn read(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        at: row.get("at")?,
        org: row.get("org")?,
        principal: row.get("principal")?,
        address: row.get("address")?,
        operation: row.get("operation")?,
        subject: row.get("subject")?,
        outcome: row.get("outcome")?,
        details: row.get("details")?,
    })
}
