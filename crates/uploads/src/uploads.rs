//! The handle: what gateways and the API ask of uploads.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use muster_archive::Archive;
use muster_catalog::Catalog;
use muster_cluster::secrets;
use muster_types::{Access, AgentNo, OrgId, Timestamp, UploadNo};

use crate::standing::{Standing, Standings};
use crate::{Error, NewUpload, Options, Session, Sessions, State, Upload, store};

/// Name of the secret that sessions are made under.
const SECRET: &str = "upload-session";
/// Uploads looked at for one page of a caller who may see few of them.
const LOOKED_AT_MAX: u32 = 10_000;

/// Which uploads are listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of these agents.
    pub agents: Option<Vec<AgentNo>>,
    /// Only those of this state.
    pub state: Option<State>,
    /// Only those below this number; the newest when missing.
    pub below: Option<UploadNo>,
    /// At most so many.
    pub limit: u32,
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Uploads {
    catalog: Catalog,
    archive: Archive,
    sessions: Sessions,
    options: Arc<Options>,
    standings: Arc<Standings>,
}

impl Uploads {
    /// Over this catalog and archive; makes the sessions' secret when there is none yet.
    ///
    /// # Errors
    /// When the catalog fails, or the secret does not open.
    pub async fn open(
        catalog: Catalog,
        archive: Archive,
        key: &secrets::Key,
        options: Options,
    ) -> Result<Self, Error> {
        let make = || {
            let mut secret = vec![0; 32];
            aws_lc_rs::rand::fill(&mut secret).expect("the system has randomness");
            secret
        };
        let secret = secrets::get_or_create(&catalog, key, SECRET, make).await?;
        let sessions = Sessions::new(&secret);
        let (options, standings) = (Arc::new(options), Arc::default());
        Ok(Self { catalog, archive, sessions, options, standings })
    }

    /// Begins an upload; the text of its session. Begun again under the same name it continues:
    /// blocks may come twice.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooMany`], [`Error::Blocks`] when it was begun in another shape,
    /// [`Error::Over`] when it failed since, or when the catalog fails.
    pub async fn begin(
        &self,
        org: OrgId,
        agent: AgentNo,
        new: &NewUpload,
        now: Timestamp,
    ) -> Result<String, Error> {
        // The last block may be a short one.
        let full = u64::from(new.block_count.saturating_sub(1)) * u64::from(new.block_size);
        let (byte_count, most) = (new.byte_count.max(full), self.options.upload_bytes_max);
        if byte_count > most {
            return Err(Error::TooLarge { byte_count, most });
        }
        let (known, open) = store::open_of(&self.catalog, org, agent, &new.external_id).await?;
        let upload = match known {
            Some(upload) => upload,
            None if open >= self.options.open_max => return Err(Error::TooMany(open)),
            None => {
                let most = self.options.open_max;
                store::begin(&self.catalog, (org, agent), new, now, most).await?
            }
        };
        if (upload.block_count, upload.block_size) != (new.block_count, new.block_size) {
            let message = format!("upload {} was begun with other blocks", upload.no);
            return Err(Error::Blocks(message));
        }
        if upload.state == State::Failed {
            return Err(Error::Over(upload.no));
        }
        self.standings.forget(upload.no);
        let (block_count, block_size) = (upload.block_count, upload.block_size);
        let session = Session { org, agent, upload: upload.no, block_count, block_size };
        Ok(self.sessions.issue(&session))
    }

    /// The session of a text; `None` when it is none of ours. From memory.
    #[must_use]
    pub fn session(&self, text: &str) -> Option<Session> {
        self.sessions.open(text)
    }

    /// What becomes of a block of this session. While the catalog is away it is taken.
    pub async fn standing(&self, session: &Session, now: Timestamp) -> Standing {
        self.standings.of(&self.catalog, &self.options, session, now).await
    }

    /// An upload the caller may see.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn get(&self, access: &Access, no: UploadNo) -> Result<Option<Upload>, Error> {
        let upload = store::by_no(&self.catalog, no).await?;
        Ok(upload.filter(|upload| access.allows(upload.org, upload.agent)))
    }

    /// Uploads the caller may see, newest first. The number is where to look on, when there may be
    /// more.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn list(
        &self,
        access: &Access,
        filter: &Filter,
    ) -> Result<(Vec<Upload>, Option<UploadNo>), Error> {
        let limit = filter.limit.max(1) as usize;
        let mut below = filter.below.unwrap_or(UploadNo(i64::MAX as u64));
        let (mut found, mut looked_at) = (Vec::new(), 0_u32);
        loop {
            let page = store::page(&self.catalog, access.org, below, 500).await?;
            let is_last = page.len() < 500;
            for upload in page {
                below = upload.no;
                looked_at += 1;
                let wanted = access.allows(upload.org, upload.agent)
                    && filter.state.is_none_or(|state| state == upload.state)
                    && filter.agents.as_ref().is_none_or(|agents| agents.contains(&upload.agent));
                if wanted {
                    found.push(upload);
                }
                if found.len() >= limit {
                    return Ok((found, Some(below)));
                }
            }
            if is_last {
                return Ok((found, None));
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok((found, Some(below)));
            }
        }
    }

    /// The bytes of an upload, a piece at a time: at most one is held.
    ///
    /// # Errors
    /// [`Error::NotStored`]. Items are errors when a piece cannot be read.
    pub fn content(
        &self,
        upload: &Upload,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<>, Error> {
        if upload.state != State::Stored {
            return Err(Error::NotStored(upload.state));
        }
        let archive = self.archive.clone();
        Ok(stream::iter(upload.pieces()).then(move |name| {
            let archive = archive.clone();
            async move { Ok(archive.get(&name).await?) }
        }))
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uploads")
    }
}
