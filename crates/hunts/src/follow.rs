//! Keeps the index in step with the feeds `hunt`, `wave` and `progress`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Error, Row, args};
use muster_types::{AgentSet, HuntNo};

use crate::entry::Entry;
use crate::hunts::{HuntEvent, Hunts, Inner};
use crate::{HuntState, rows};

/// Hunts stopped within this time before a start are loaded: their tasks may have to be cancelled.
const STOPPED_LATELY: Duration = Duration::from_secs(3_600);

/// The last number read of each feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    hunt: i64,
    progress: i64,
    wave: i64,
}

impl Hunts {
    /// Takes in everything that is committed by now.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut cursor = self.inner.cursor.lock().await;
        let newest = newest(&self.inner).await?;
        if newest == *cursor {
            return Ok(());
        }
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
        batch.hunts(&hunts)?;
        batch.waves(&waves)?;
        batch.progress(&progress)?;
        *cursor = newest;
        batch.apply();
        Ok(())
    }

    /// At the start: everything that lives.
    pub(crate) async fn load(&self) -> Result<(), Error> {
        let mut cursor = self.inner.cursor.lock().await;
        *cursor = newest(&self.inner).await?;
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
        let _cursor = self.inner.cursor.lock().await;
        if let Some(entry) = self.inner.index.get(no) {
            return Ok(Some(entry));
        }
        match self.inner.catalog.fetch_optional(&rows::ONE_HUNT, args![no]).await? {
            Some(row) => self.load_one(&row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn load_one(&self, row: &Row) -> Result<Arc<Entry>, Error> {
        let (def, deleted) = rows::hunt(row)?;
        let no = def.no;
        let mut entry = Entry::new(def, deleted);
        for row in self.inner.catalog.fetch_all(&rows::WAVES_OF, args![no]).await? {
            put_wave(&mut entry, &row)?;
        }
        for row in self.inner.catalog.fetch_all(&rows::PROGRESS_OF, args![no]).await? {
            entry.put_progress(row.get("shard")?, rows::progress(&row)?);
        }
        self.inner.index.put(vec![entry.clone()]);
        Ok(Arc::new(entry))
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

fn put_wave(entry: &mut Entry, row: &Row) -> Result<AgentSet, Error> {
    let bytes: Vec<u8> = row.get("agents")?;
    let agents = AgentSet::from_bytes(&bytes)
        .map_err(|error| Error::Other(format!("agents of a wave: {error}")))?;
    entry.put_wave(row.get("wave")?, &agents.0, row.get("committed_at")?);
    Ok(agents)
}

/// Changes of one refresh, applied at once.
struct Batch<'a> {
    inner: &'a Inner,
    changed: HashMap<HuntNo, Entry>,
    events: Vec<HuntEvent>,
}

impl<'a> Batch<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self { inner, changed: HashMap::new(), events: Vec::new() }
    }

    fn hunts(&mut self, rows: &[Row]) -> Result<(), Error> {
        for row in rows {
            let (def, deleted) = rows::hunt(row)?;
            let no = def.no;
            let Some(known) = self.inner.index.get(no) else {
                // An old one that changed is read when somebody asks for it. A live one that is not
                // known is new: nothing came before what this refresh brings.
                if !def.state.is_ended() {
                    self.changed.insert(no, Entry::new(def, deleted));
                }
                continue;
            };
            let before = known.def.state;
            let mut entry = Entry::clone(&known);
            entry.def = Arc::new(def);
            entry.deleted = deleted;
            let hunt = Arc::clone(&entry.def);
            if hunt.state == HuntState::Stopped && before != HuntState::Stopped {
                self.events.push(HuntEvent::Stopped { hunt });
            } else if hunt.hands_out() && !known.def.hands_out() {
                let agents = Arc::new(AgentSet(entry.unfinished()));
                self.events.push(HuntEvent::Work { hunt, agents });
            }
            self.changed.insert(no, entry);
        }
        Ok(())
    }

    fn waves(&mut self, rows: &[Row]) -> Result<(), Error> {
        for row in rows {
            let Some(entry) = self.entry(row.get("hunt_no")?) else { continue };
            let agents = Arc::new(put_wave(entry, row)?);
            if entry.def.hands_out() {
                let hunt = Arc::clone(&entry.def);
                self.events.push(HuntEvent::Work { hunt, agents });
            }
        }
        Ok(())
    }

    fn progress(&mut self, rows: &[Row]) -> Result<(), Error> {
        for row in rows {
            if let Some(entry) = self.entry(row.get("hunt_no")?) {
                entry.put_progress(row.get("shard")?, rows::progress(row)?);
            }
        }
        Ok(())
    }

    /// The entry to change; `None` when the hunt is not in memory.
    fn entry(&mut self, no: HuntNo) -> Option<&mut Entry> {
        if !self.changed.contains_key(&no) {
            let known = self.inner.index.get(no)?;
            self.changed.insert(no, Entry::clone(&known));
        }
        self.changed.get_mut(&no)
    }

    fn apply(self) {
        self.inner.index.put(self.changed.into_values().collect());
        for event in self.events {
            // Nobody listening is fine.
            let _ = self.inner.events.send(event);
        }
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
