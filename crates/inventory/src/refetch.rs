//! Wishes: somebody wants an endpoint asked now and not in its turn.

use muster_catalog::{Catalog, Error, Tx, args};
use muster_types::{AgentNo, OrgId, Timestamp};

muster_catalog::statements! {
    WANT = "INSERT INTO inventory_refetch (agent_no, org, wanted_at, wanted_by, change)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (agent_no) DO UPDATE
        SET wanted_at = excluded.wanted_at,
            wanted_by = excluded.wanted_by,
            change = excluded.change";
    SINCE = "SELECT agent_no, wanted_at FROM inventory_refetch WHERE change > $1";
}

/// Wants these agents asked with their next polls, in the caller's transaction.
///
/// # Errors
/// When the catalog fails.
pub async fn want(
    tx: &mut Tx,
    org: OrgId,
    agents: &[AgentNo],
    by: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let change = tx.bump("inventory").await?;
    for agent in agents {
        tx.execute(&WANT, args![*agent, org, now, by, change]).await?;
    }
    Ok(())
}

/// Wishes after this number of the feed.
pub(crate) async fn read_since(
    catalog: &Catalog,
    change: i64,
) -> Result<Vec<(AgentNo, Timestamp)>, Error> {
    let rows = catalog.fetch_all(&SINCE, args![change]).await?;
    rows.iter().map(|row| Ok((row.get("agent_no")?, row.get("wanted_at")?))).collect()
}
