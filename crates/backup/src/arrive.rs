//! The last transaction of a copy: from here on a server may run on it.

use muster_catalog::{Catalog, Priority, args};
use muster_types::{Pos, Timestamp};

use crate::standing::Standing;
use crate::{Error, statements as sql};

/// How a copy becomes an installation.
pub(crate) struct Arrival<'a> {
    /// By how much a new stream begins above what was folded: more than can have been handed out since.
    pub(crate) stream_margin: u64,
    /// By how much numbers are advanced, with a tenth of what they are, and from when the copy is: those
    /// of hunts and the like go on by one more per second since. `None`: it is of this very moment.
    pub(crate) numbers: Option<(u32, Timestamp)>,
    /// Why rows may be missing; `None` when none are.
    pub(crate) gap: Option<&'a str>,
}

impl Arrival<'_> {
    /// Completes the target.
    pub(crate) async fn complete(&self, catalog: &Catalog) -> Result<(), Error> {
        let standing = Standing::read(catalog).await?;
        let top = standing.shards.iter().map(|(_, pos)| pos.0).max().unwrap_or(0);
        let floor = Pos(top + self.stream_margin);
        let mut tx = catalog.begin(Priority::Api).await?;
        let now = tx.now().await?;
        tx.execute(&sql::NO_LEASES, args![]).await?;
        if let Some((by, taken_at)) = self.numbers {
            let seconds = now.since(taken_at).as_secs();
            tx.execute(&sql::ADVANCE_NUMBERS, args![by, seconds]).await?;
            tx.execute(&sql::FORGET_HINT_KEY, args![]).await?;
        }
        if let Some(reason) = self.gap {
            for (shard, pos) in &standing.shards {
                let values = args![*shard, *pos, floor, now, "restore", reason];
                tx.execute(&sql::ADD_GAP, values).await?;
            }
        }
        if tx.execute(&sql::COPY_ENDED, args![now, floor]).await? != 1 {
            return Err(Error::Refused("somebody else completed this copy".to_owned()));
        }
        Ok(tx.commit().await?)
    }
}
