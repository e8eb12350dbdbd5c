//! The objects of the archive that a catalog refers to, in the order of their names.

use muster_catalog::args;
use muster_catalog::copy::Snapshot;

use crate::Error;
use crate::statements as sql;

/// Rows looked at in one step.
const PAGE: i64 = 256;

/// An object that must be in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) name: String,
    /// Its length, where the catalog knows it.
    pub(crate) byte_count: Option<u64>,
}

/// Where a walk over all references stands.
#[derive(Debug)]
pub(crate) enum Walk {
    Segments(String),
    Bases,
    Uploads(String),
    End,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self::Segments(String::new())
    }

    /// The next ones, rising by name over the whole walk; `None` when there are no more.
    pub(crate) async fn next(
        &mut self,
        snapshot: &mut Snapshot,
    ) -> Result<Option<Vec<Reference>>, Error> {
        loop {
            match self {
                Self::Segments(last) => {
                    let rows = snapshot.fetch(&sql::SEGMENTS, args![last.as_str(), PAGE]).await?;
                    let mut found = Vec::new();
                    for row in &rows {
                        let byte_count = Some(row.get("byte_count")?);
                        found.push(Reference { name: row.get("object")?, byte_count });
                    }
                    match found.last() {
                        Some(reference) => last.clone_from(&reference.name),
                        None => *self = Self::Bases,
                    }
                    if !found.is_empty() {
                        return Ok(Some(found));
                    }
                }
                Self::Bases => {
                    *self = Self::Uploads(String::new());
                    let mut found = Vec::new();
                    for row in snapshot.fetch(&sql::BASES, args![]).await? {
                        found.push(Reference { name: row.get("object")?, byte_count: None });
                    }
                    return Ok(Some(found));
                }
                Self::Uploads(last) => {
                    let rows = snapshot.fetch(&sql::UPLOADS, args![last.as_str(), PAGE]).await?;
                    let mut found = Vec::new();
                    for row in &rows {
                        let (object, count): (String, u32) =
                            (row.get("object")?, row.get("piece_count")?);
                        let mut pieces: Vec<_> =
                            (0..count).map(|n| format!("{object}-{n}")).collect();
                        pieces.sort_unstable();
                        let piece = |name| Reference { name, byte_count: None };
                        found.extend(pieces.into_iter().map(piece));
                        *last = object;
                    }
                    if rows.is_empty() {
                        *self = Self::End;
                    }
                    return Ok(Some(found));
                }
                Self::End => return Ok(None),
            }
        }
    }
}
