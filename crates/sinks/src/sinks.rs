//! What people do with sinks: the handle of the API.

use std::sync::Arc;

use muster_catalog::{Catalog, Tx};
use muster_cluster::secrets::Key;
use muster_types::{Clock, OrgId, Timestamp};

use crate::destination::Sender;
use crate::event::{Event, Origin};
use crate::head::Head;
use crate::service::Options;
use crate::{Error, NewSink, Refusal, RefusedRow, Sink, Status, store};

/// Makes, shows, tests and removes sinks. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    key: Arc<Key>,
    clock: Arc<dyn Clock>,
    options: Options,
}

impl Sinks {
    /// A handle; `key` seals the secrets.
    #[must_use]
    pub fn new(catalog: Catalog, key: Arc<Key>, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self { inner: Arc::new(Inner { catalog, key, clock, options }) }
    }

    /// Makes a sink, within a transaction. It begins with the rows that are committed from now on.
    ///
    /// # Errors
    /// [`Refusal`]; only rolling back is left after one of the catalog.
    pub async fn create_in(
        &self,
        tx: &mut Tx,
        org: OrgId,
        new: &NewSink,
        by: &str,
        now: Timestamp,
    ) -> Result<Sink, Refusal> {
        store::create(tx, &self.inner.key, org, new, by, now).await
    }

    /// Pauses a sink or lets it go on, within a transaction. `false` when there is none of this
    /// name.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn set_paused_in(
        &self,
        tx: &mut Tx,
        org: OrgId,
        name: &str,
        paused: bool,
    ) -> Result<bool, muster_catalog::Error> {
        store::set_paused(tx, org, name, paused).await
    }

    /// Removes a sink and all that is known of it, within a transaction. `false` when there is none
    /// of this name.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn remove_in(
        &self,
        tx: &mut Tx,
        org: OrgId,
        name: &str,
    ) -> Result<bool, muster_catalog::Error> {
        store::remove(tx, org, name).await
    }

    /// All sinks of an organisation with how they fare, by name.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn list(&self, org: OrgId) -> Result<Vec<Status>, Error> {
        let sinks = store::list(&self.inner.catalog, org).await?;
        if sinks.is_empty() {
            return Ok(Vec::new());
        }
        // After the sinks, so that nothing is met that is not counted yet.
        let head = Head::read(&self.inner.catalog, org).await?;
        let status = |(sink, progress): (Sink, crate::Progress)| {
            let waits = head.rows(&sink.filter) - progress.base_rows - progress.met_rows();
            let lag_rows = u64::try_from(waits).unwrap_or(0);
            Status { sink, progress, lag_rows }
        };
        Ok(sinks.into_iter().map(status).collect())
    }

    /// One sink.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn find(&self, org: OrgId, name: &str) -> Result<Option<Status>, Error> {
        Ok(self.list(org).await?.into_iter().find(|status| status.sink.name == name))
    }

    /// Rows that a sink's destination refused for ever, newest first; the last thousand or so are
    /// kept.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn refused(&self, sink: &Sink, limit: u32) -> Result<Vec<RefusedRow>, Error> {
        store::refused(&self.inner.catalog, sink.no, limit).await
    }

    /// Sends an event that tells of nothing, from this process, and waits for the answer. Of a
    /// file only whether it can be written to is looked at; standard output always can.
    ///
    /// # Errors
    /// The catalog's; the destination's refusal is in the answer.
    pub async fn test(&self, sink: &Sink) -> Result<Result<(), String>, Error> {
        let Inner { catalog, key, clock, options } = &*self.inner;
        let secret = match store::secret(catalog, key, sink.no).await {
            Err(error @ Error::Secret(_)) => return Ok(Err(crate::error::chain(&error))),
            other => other?,
        };
        let origin = Origin { cluster: store::cluster(catalog).await?, org: sink.org };
        let event = Event::test(&origin, &sink.name, clock.now());
        Ok(match Sender::open(sink, secret.as_ref(), &options.file_folder) {
            Ok(mut sender) => sender.test(event).await,
            Err(why) => Err(why),
        })
    }
}
