//! Keeps the index in step with the feeds `hunt`, `wave` and `progress`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::{Error, Row, args};
use muster_types::HuntNo;

use crate::batch::Batch;
use crate::entry::Entry;
use crate::hunts::{Hunts, Inner};
use crate::news::{Change, News};
use crate::rows::{self, HuntRow};

/// Hunts stopped within this time before a start are loaded: their tasks may have to be cancelled.
const STOPPED_LATELY: Duration = Duration::from_secs(3_600);
/// Hints kept that are ahead of the feeds; beyond it the feeds are read at once.
const EARLY_MAX: usize = 64;

/// How far the feeds are read, and what was heard of what comes after.
#[derive(Debug, Default)]
pub(crate) struct Following {
    cursor: Cursor,
    early: Vec<Change>,
}

/// The last number read of each feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    hunt: i64,
    progress: i64,
    wave: i64,
}

impl Cursor {
    fn of(&mut self, change: &Change) -> &mut i64 {
        match change {
            Change::Hunt(_) => &mut self.hunt,
            Change::Wave(_) => &mut self.wave,
            Change::Progress { .. } => &mut self.progress,
        }
    }
}

/// What a hint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is applied, or was known; nothing is missing before it.
    InStep,
    /// Something before it has not come yet.
    Early,
    /// The feeds have to be read.
    Behind,
}

impl Hunts {
    /// Takes in the content of a hint.
    pub(crate) async fn hear(&self, content: &Bytes) -> Heard {
        match News::decode(content) {
            Some(news) => self.take(news).await,
            None => Heard::Behind,
        }
    }

    /// Applies changes if they are the next of their feeds, and those that waited for them.
    pub(crate) async fn take(&self, news: News) -> Heard {
        let mut following = self.inner.following.lock().await;
        for change in news.0 {
            if change.seq() > *following.cursor.of(&change) {
                following.early.push(change);
            }
        }
        if following.early.len() > EARLY_MAX || !following.catch_up(&self.inner) {
            return Heard::Behind;
        }
        if following.early.is_empty() { Heard::InStep } else { Heard::Early }
    }

    /// Takes in everything that is committed by now.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut following = self.inner.following.lock().await;
        let (cursor, newest) = (following.cursor, newest(&self.inner).await?);
        if newest != cursor {
            // Hunts are read last, so that a wave's hunt is there, and applied first.
            let catalog = &self.inner.catalog;
            let (progress, waves) = tokio::try_join!(
                since(&self.inner, &rows::PROGRESS_SINCE, cursor.progress, newest.progress),
                since(&self.inner, &rows::WAVES_SINCE, cursor.wave, newest.wave),
            )?;
            let hunts = if newest.hunt == cursor.hunt {
                Vec::new()
            } else {
                catalog.fetch_all(&rows::HUNTS_SINCE, args![cursor.hunt]).await?
            };
            let mut batch = Batch::new(&self.inner);
            for row in &hunts {
                batch.hunt(HuntRow::read(row)?)?;
            }
            for row in &waves {
                batch.wave(&rows::wave(row, row.get("hunt_no")?, row.get("change")?)?);
            }
            for row in &progress {
                batch.progress(row.get("hunt_no")?, row.get("shard")?, rows::progress(row)?);
            }
            following.cursor = newest;
            batch.apply();
        }
        // What is left is ahead of what was read just now.
        let mut known = following.cursor;
        following.early.retain(|change| change.seq() > *known.of(change));
        if !following.catch_up(&self.inner) {
            following.early.clear();
        }
        Ok(())
    }

    /// At the start: everything that lives.
    pub(crate) async fn load(&self) -> Result<(), Error> {
        let mut following = self.inner.following.lock().await;
        following.cursor = newest(&self.inner).await?;
        let after = self.inner.catalog.now().await?.minus(STOPPED_LATELY);
        for row in self.inner.catalog.fetch_all(&rows::LIVE_HUNTS, args![after]).await? {
            self.load_one(&row).await?;
        }
        Ok(())
    }

    /// The hunt, read from the catalog when it is not in memory.
    pub(crate) async fn entry(&self, no: HuntNo) -> Result<Option<Arc<Entry>>, Error> {
        if let Some(entry) = self.inner.index.get(no) {
            return Ok(Some(entry));
        }
        // An agent may name any number; beyond this nobody can have made a hunt.
        if i64::try_from(no.0).is_err() {
            return Ok(None);
        }
        // Changes are applied to entries in memory only: none may happen while one is being read.
        let _following = self.inner.following.lock().await;
        if let Some(entry) = self.inner.index.get(no) {
            return Ok(Some(entry));
        }
        match self.inner.catalog.fetch_optional(&rows::ONE_HUNT, args![no]).await? {
            Some(row) => self.load_one(&row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn load_one(&self, row: &Row) -> Result<Arc<Entry>, Error> {
        let (def, deleted) = HuntRow::read(row)?.hunt()?;
        let no = def.no;
        let mut entry = Entry::new(def, deleted);
        for row in self.inner.catalog.fetch_all(&rows::WAVES_OF, args![no]).await? {
            entry.put_wave(&rows::wave(&row, no, 0)?);
        }
        for row in self.inner.catalog.fetch_all(&rows::PROGRESS_OF, args![no]).await? {
            entry.put_progress(row.get("shard")?, rows::progress(&row)?);
        }
        self.inner.index.put(vec![entry.clone()]);
        Ok(Arc::new(entry))
    }
}

impl Following {
    /// Applies what was heard and is next by now. False when it cannot be applied without a look at the
    /// catalog; nothing has changed then.
    fn catch_up(&mut self, inner: &Inner) -> bool {
        let mut cursor = self.cursor;
        let mut batch = Batch::new(inner);
        let mut early = self.early.clone();
        while let Some(at) = early.iter().position(|next| next.seq() == *cursor.of(next) + 1) {
            let change = early.remove(at);
            *cursor.of(&change) += 1;
            // Heard twice, perhaps, while it waited.
            early.retain(|other| other.seq() > *cursor.of(other));
            if !matches!(batch.change(change), Ok(true)) {
                self.early.clear();
                return false;
            }
        }
        if cursor != self.cursor {
            self.cursor = cursor;
            self.early = early;
            batch.apply();
        }
        true
    }
}

async fn newest(inner: &Inner) -> Result<Cursor, Error> {
    let mut cursor = Cursor::default();
    for row in inner.catalog.fetch_all(&rows::NEWEST, args![]).await? {
        let seq = row.get("seq")?;
        match row.get::<String>("topic")?.as_str() {
            "hunt" => cursor.hunt = seq,
            "progress" => cursor.progress = seq,
            _ => cursor.wave = seq,
        }
    }
    Ok(cursor)
}

async fn since(
    inner: &Inner,
    statement: &muster_catalog::Statement,
    known: i64,
    newest: i64,
) -> Result<Vec<Row>, Error> {
    if known == newest {
        return Ok(Vec::new());
    }
    inner.catalog.fetch_all(statement, args![known]).await
}
