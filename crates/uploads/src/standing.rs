//! Whether blocks of an upload are of use: looked up once in a while, as a session says nothing of it.

use std::collections::HashMap;
use std::time::Duration;

use muster_catalog::{Catalog, Error, Priority, args};
use muster_types::{Timestamp, UploadNo};
use parking_lot::Mutex;

use crate::{Options, Session, State, store};

/// Uploads remembered; beyond, all are forgotten.
const KNOWN_MAX: usize = 4_096;
/// A block does not wait longer for the catalog.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How precisely it is kept when an upload was continued.
const CONTINUED_EVERY: Duration = Duration::from_secs(10 * 60);

/// What becomes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is stored.
    Open,
    /// The upload is whole: it was stored before.
    Whole,
    /// The upload has failed, or is gone.
    Over,
}

/// What was looked up lately.
#[derive(Debug, Default)]
pub(crate) struct Standings(Mutex<HashMap<UploadNo, (Standing, Timestamp)>>);

impl Standings {
    /// By the catalog, at most so long ago as [`Options::standing_for`] says. An upload that goes on is
    /// noted as such. While the catalog is away an upload counts as open: its blocks come in, and those of
    /// no use are dropped by and by.
    pub(crate) async fn of(
        &self,
        catalog: &Catalog,
        options: &Options,
        session: &Session,
        now: Timestamp,
    ) -> Standing {
        let no = session.upload;
        if let Some((standing, at)) = self.0.lock().get(&no)
            && now.since(*at) < options.standing_for
        {
            return *standing;
        }
        let looked = tokio::time::timeout(LOOK_MAX, look(catalog, no, now)).await;
        let standing = match looked {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => {
                tracing::debug!(%error, upload = %no, "whether an upload is open is not known");
                Standing::Open
            }
            Err(_) => Standing::Open,
        };
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(no, (standing, now));
        standing
    }

    /// It has just begun.
    pub(crate) fn forget(&self, no: UploadNo) {
        self.0.lock().remove(&no);
    }
}

async fn look(catalog: &Catalog, no: UploadNo, now: Timestamp) -> Result<Standing, Error> {
    let Some(row) = catalog.fetch_optional(&store::STANDING, args![no]).await? else {
        return Ok(Standing::Over);
    };
    let state: State = row.get::<String>("state")?.parse().map_err(Error::Other)?;
    let continued_at = row.get::<Option<Timestamp>>("continued_at")?;
    let last = continued_at.unwrap_or(row.get("begun_at")?);
    if state == State::Open && now.since(last) >= CONTINUED_EVERY {
        catalog.execute(Priority::Intake, &store::CONTINUED, args![no, now]).await?;
    }
    Ok(match state {
        State::Open => Standing::Open,
        State::Received | State::Stored => Standing::Whole,
        State::Failed => Standing::Over,
    })
}
