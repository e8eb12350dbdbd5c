//! From a rule to the endpoints it means.

use std::fmt::Write as _;

use muster_endpoints::Snapshot;
use muster_types::{Access, EndpointNo};
use roaring::RoaringBitmap;

use super::{Ask, AskError};

/// Rules asked in one go. The answer is held in memory: 16 bytes an endpoint and rule.
const TOGETHER: usize = 8;

/// The endpoints these rules mean now, of those that are there and that the asker may see. Rules are asked
/// several at a time; when one of them is wrong, each is asked for itself.
pub async fn members(
    ask: &dyn Ask,
    snapshot: &Snapshot,
    access: &Access,
    queries: &[&str],
) -> Vec<Result<RoaringBitmap, AskError>> {
    let mut all = Vec::with_capacity(queries.len());
    for part in queries.chunks(TOGETHER) {
        match ask_all(ask, snapshot, access, part).await {
            Ok(sets) => all.extend(sets.into_iter().map(Ok)),
            Err(AskError::Query(_)) if part.len() > 1 => {
                for query in part {
                    let one = ask_all(ask, snapshot, access, &[query]).await;
                    all.push(one.map(|mut sets| sets.pop().unwrap_or_default()));
                }
            }
            Err(error) => all.extend(part.iter().map(|_| Err(error.clone()))),
        }
    }
    all
}

async fn ask_all(
    ask: &dyn Ask,
    snapshot: &Snapshot,
    access: &Access,
    queries: &[&str],
) -> Result<Vec<RoaringBitmap>, AskError> {
    let endpoints = snapshot.endpoints(access.org).count() as u64;
    // Room for numbers that are no endpoints any more: results outlive them for a while.
    let rows_max = (endpoints * 2 + 1_000) * queries.len() as u64;
    let mut sets = vec![RoaringBitmap::new(); queries.len()];
    for (rule, no) in ask.pairs(access, &together(queries), rows_max).await? {
        let set = usize::try_from(rule).ok().and_then(|rule| sets.get_mut(rule));
        let no = u32::try_from(no).ok().map(EndpointNo);
        let endpoint = no.and_then(|no| snapshot.endpoint(no));
        if let (Some(set), Some(endpoint)) = (set, endpoint)
            && snapshot.allows(access, endpoint)
        {
            set.insert(endpoint.no.0);
        }
    }
    Ok(sets)
}

/// One SELECT of `(rule, endpoint)` over all of them, rules counted from 0. The line breaks end a comment at a
/// rule's end.
#[must_use]
pub fn together(queries: &[&str]) -> String {
    let mut sql = String::new();
    for (n, query) in queries.iter().enumerate() {
        let union = if n == 0 { "" } else { "\nUNION ALL\n" };
        let _ = write!(
            sql,
            "{union}SELECT DISTINCT CAST({n} AS BIGINT) AS rule, CAST(endpoint AS BIGINT) AS endpoint\n\
             FROM (\n{query}\n) AS given WHERE endpoint IS NOT NULL"
        );
    }
    sql
}
