//! Whether a server may run on a catalog, and where its stream goes on.

use muster_catalog::{Catalog, args};
use muster_types::{Pos, Shard};

use crate::{Error, statements as sql};

/// What a catalog says of where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) ended: bool,
    pub(crate) floor: Pos,
}

impl Copy {
    pub(crate) async fn read(catalog: &Catalog) -> Result<Option<Self>, Error> {
        let rows = catalog.fetch_all(&sql::COPY, args![]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Self {
            kind: row.get("kind")?,
            source: row.get("source")?,
            ended: row.get::<Option<i64>>("ended_at")?.is_some(),
            floor: row.get("stream_floor")?,
        }))
    }
}

/// Where a catalog stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// A stream that is new begins above this. 0: there is no leave to begin a new one once something
    /// was folded.
    pub floor: Pos,
    /// How far each shard is folded.
    pub shards: Vec<(Shard, Pos)>,
    refused: Option<String>,
}

impl Standing {
    /// Reads it from a migrated catalog.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn read(catalog: &Catalog) -> Result<Self, Error> {
        let mut standing = Self::default();
        for row in catalog.fetch_all(&sql::SHARDS, args![]).await? {
            standing.shards.push((row.get("shard")?, row.get("pos")?));
        }
        if let Some(copy) = Copy::read(catalog).await? {
            standing.floor = copy.floor;
            standing.refused = match &*copy.kind {
                "moved" => Some(format!(
                    "this installation was moved to {}; start it there, with the configuration it \
                     was moved to",
                    copy.source
                )),
                "restore" if !copy.ended => Some(format!(
                    "the restore of {} was cut off; run it again and it goes on",
                    copy.source
                )),
                _ if !copy.ended => Some(format!(
                    "the move of {} to this catalog was cut off; run `muster migrate-store` again \
                     and it goes on",
                    copy.source
                )),
                _ => None,
            };
        }
        Ok(standing)
    }

    /// Refuses a catalog that is not whole or was left for another.
    ///
    /// # Errors
    /// [`Error::Refused`] with what to do.
    pub fn check(&self) -> Result<(), Error> {
        match &self.refused {
            Some(why) => Err(Error::Refused(why.clone())),
            None => Ok(()),
        }
    }

    /// The highest position that was folded.
    #[must_use]
    pub fn folded(&self) -> Pos {
        self.shards.iter().map(|(_, pos)| *pos).max().unwrap_or(Pos(0))
    }

    /// Where a new, empty stream begins: `None` for the beginning.
    ///
    /// # Errors
    /// [`Error::Refused`] when something was folded from a stream that ought to be there.
    pub fn new_stream(&self) -> Result<Option<Pos>, Error> {
        let folded = self.folded();
        if folded == Pos(0) && self.floor == Pos(0) {
            return Ok(None);
        }
        if self.floor > folded {
            return Ok(Some(self.floor));
        }
        Err(Error::Refused(format!(
            "the stream is empty, but results up to position {folded} were folded from it: its data \
             is lost, or another one is configured. Bring it back; or, when it is gone for good, \
             `muster shard skip --all` records what is lost and lets a new stream begin"
        )))
    }
}
