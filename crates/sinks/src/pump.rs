//! The work of one sink: read, send, write down how far it came, again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_types::Epoch;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backoff::pause;
use crate::cells::Cells;
use crate::deliver::{Trouble, deliver};
use crate::destination::Sender;
use crate::error::chain;
use crate::event::{Event, Hosts, Origin};
use crate::gauges::Gauges;
use crate::progress::RefusedRow;
use crate::read::Rows;
use crate::service::{Deps, Options};
use crate::window::Window;
use crate::windows::Windows;
use crate::{Error, Progress, Sink, store};

/// Rows looked at for one batch, sent or not.
const LOOKED_AT_MAX: usize = 5000;
/// Progress without rows is written down this often.
const IDLE_SAVE: Duration = Duration::from_secs(10);
/// New commits are looked for at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One sink, for as long as its lease is held.
pub(crate) struct Pump {
    pub sink: Sink,
    pub epoch: Epoch,
    pub deps: Deps,
    pub options: Arc<Options>,
    pub origin: Origin,
    /// The last commit that the service has seen.
    pub commits: watch::Receiver<i64>,
    /// Counts failures.
    pub gauges: Arc<Gauges>,
}

/// Why a window was left.
enum Left {
    /// It is to be read again later.
    Trouble(Trouble),
    /// The sink is somebody else's, or the catalog is away.
    Error(Error),
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Pump {
    /// Works until it is dropped, which may be at any await, or until the sink is somebody else's.
    pub(crate) async fn run(mut self) {
        let no = self.sink.no;
        loop {
            match self.hold().await {
                Ok(()) => return,
                Err(Error::Fenced(_)) => {
                    tracing::debug!(sink = self.sink.name, no, "a sink is worked elsewhere");
                    // Who looks too early again is refused again.
                    return sleep(self.options.every).await;
                }
                Err(error) => {
                    tracing::warn!(sink = self.sink.name, error = chain(&error), "a sink waits");
                    sleep(pause(self.options.retry_first, self.options.retry_most, 3, None)).await;
                }
            }
        }
    }

    async fn hold(&mut self) -> Result<(), Error> {
        let catalog = self.deps.catalog.clone();
        let mut progress = Progress::claim(&catalog, self.sink.no, self.epoch).await?;
        let rows = Rows { catalog: catalog.clone(), archive: self.deps.archive.clone() };
        let mut windows = Windows::new(rows);
        let mut sender = None;
        let mut saved = Instant::now();
        while self.is_held() {
            let seen = *self.commits.borrow_and_update();
            let trouble = match windows.next(&self.sink, &progress).await {
                Ok(None) => {
                    self.wait(seen).await;
                    continue;
                }
                Ok(Some(window)) => {
                    let rows = windows.rows();
                    match self.send(rows, &window, &mut progress, &mut sender, &mut saved).await {
                        Ok(()) => continue,
                        Err(Left::Error(error)) => return Err(error),
                        Err(Left::Trouble(trouble)) => trouble,
                    }
                }
                Err(Error::Catalog(error)) => return Err(error.into()),
                Err(error) => Trouble::new(chain(&error)),
            };
            let (first, most) = (self.options.retry_first, self.options.retry_most);
            let pause = pause(first, most, progress.failures + 1, trouble.retry_after);
            let now = self.deps.clock.now();
            progress.failed(&trouble.message, now, now.plus(pause));
            self.gauges.error(self.sink.no);
            progress.save(&catalog, self.sink.no, self.epoch, &[]).await?;
            if progress.failures.is_power_of_two() {
                let (sink, failures) = (&self.sink.name, progress.failures);
                tracing::warn!(sink, failures, why = trouble.message, "a sink takes no rows");
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Whether this instance may still act for the sink.
    fn is_held(&self) -> bool {
        let held = self.deps.leases.borrow().epoch(partition(self.sink.no));
        held == Some(self.epoch)
    }

    async fn wait(&mut self, seen: i64) {
        tokio::select! {
            Ok(_) = self.commits.wait_for(|commit| *commit != seen) => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }

    /// Sends a window in batches and writes down each of them.
    async fn send(
        &self,
        rows: &Rows,
        window: &Window,
        progress: &mut Progress,
        sender: &mut Option<Sender>,
        saved: &mut Instant,
    ) -> Result<(), Left> {
        let mut done = 0;
        if window.len() > 0 {
            if progress.aim != Some(window.aim) {
                progress.aim = Some(window.aim);
                progress.save(&rows.catalog, self.sink.no, self.epoch, &[]).await?;
            }
            // Newer than all rows of the window: their agents are known, deletions are heeded.
            let snapshot = self.deps.directory.refresh().await.map_err(Error::from)?;
            let hidden = rows.deleted_hunts().await?;
            let mut hosts = Hosts::new(&snapshot, &self.sink.filter.labels);
            let mut cells: Vec<Option<Cells>> = window.pieces().iter().map(|_| None).collect();
            while done < window.len() {
                let batch = self.batch(window, done, &mut cells, &mut hosts, &hidden);
                if !self.is_held() {
                    return Err(Error::Fenced(self.sink.no).into());
                }
                let refused = self.deliver(sender, &batch.events).await?;
                done = batch.end;
                self.note(progress, &batch, refused.len());
                let now = self.deps.clock.now();
                let refused = refused.into_iter().map(|(at, reason)| RefusedRow {
                    at: now,
                    id: batch.events[at].id.clone(),
                    reason,
                });
                let refused: Vec<_> = refused.collect();
                if done == window.len() {
                    finish(window, progress);
                } else {
                    (progress.positions, progress.within) = window.after(done);
                }
                progress.save(&rows.catalog, self.sink.no, self.epoch, &refused).await?;
                *saved = Instant::now();
            }
            return Ok(());
        }
        let gone = progress.gone_rows;
        finish(window, progress);
        if progress.gone_rows != gone || saved.elapsed() >= IDLE_SAVE {
            progress.save(&rows.catalog, self.sink.no, self.epoch, &[]).await?;
            *saved = Instant::now();
        }
        Ok(())
    }

    /// The next rows of a window, as events.
    fn batch(
        &self,
        window: &Window,
        from: usize,
        cells: &mut [Option<Cells>],
        hosts: &mut Hosts<'_>,
        hidden: &BTreeSet<i64>,
    ) -> Batch {
        let limits = self.sink.batch;
        let (rows_max, bytes_max) = (limits.rows as usize, limits.bytes as usize);
        let mut batch = Batch { events: Vec::new(), end: from, filtered: 0 };
        let mut bytes = 0;
        while batch.end < window.len()
            && batch.events.len() < rows_max
            && batch.end - from < LOOKED_AT_MAX
        {
            let row = window.row(batch.end);
            let cells = cells[row.piece].get_or_insert_with(|| Cells::of(row.columns));
            match Event::of(&self.origin, &row, cells, hosts, hidden) {
                None => batch.filtered += 1,
                Some(event) => {
                    bytes += event.body.len() + event.id.len() + 64;
                    if bytes > bytes_max && !batch.events.is_empty() {
                        break;
                    }
                    batch.events.push(event);
                }
            }
            batch.end += 1;
        }
        batch
    }

    async fn deliver(
        &self,
        sender: &mut Option<Sender>,
        events: &[Event],
    ) -> Result<Vec<(usize, String)>, Left> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        if sender.is_none() {
            let Deps { catalog, key, .. } = &self.deps;
            let secret = store::secret(catalog, key, self.sink.no).await;
            let secret = secret.map_err(|error| match error {
                Error::Catalog(_) => Left::Error(error),
                other => Left::Trouble(Trouble::new(chain(&other))),
            })?;
            let opened = Sender::open(&self.sink, secret.as_ref(), &self.options.file_folder);
            *sender = Some(opened.map_err(|why| Left::Trouble(Trouble::new(why)))?);
        }
        let Some(sender) = sender else { return Ok(Vec::new()) };
        let probe = || Event::test(&self.origin, &self.sink.name, self.deps.clock.now());
        let sent = deliver(sender, events, || self.is_held(), probe).await;
        if !self.is_held() {
            // Whatever it came to is the next holder's to find out.
            return Err(Error::Fenced(self.sink.no).into());
        }
        sent.map_err(Left::Trouble)
    }

    /// Counts a batch that is done.
    fn note(&self, progress: &mut Progress, batch: &Batch, refused: usize) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        progress.filtered_rows += batch.filtered;
        progress.refused_rows += count(refused);
        progress.delivered_rows += count(batch.events.len() - refused);
        if !batch.events.is_empty() {
            let latest = batch.events.iter().map(|event| event.received).max();
            progress.received_until = progress.received_until.max(latest);
            progress.delivered_at = Some(self.deps.clock.now());
            progress.failures = 0;
            progress.retry_at = None;
        }
    }
}

/// Rows of one request, and how many of the window are done with it.
struct Batch {
    events: Vec<Event>,
    end: usize,
    filtered: i64,
}

/// The sink stands at the end of a window. What was committed to its tables by then and not met is
/// gone.
fn finish(window: &Window, progress: &mut Progress) {
    (progress.positions, progress.within) = window.after(window.len());
    progress.aim = None;
    if window.aim.is_whole {
        progress.commit = window.aim.commit;
    }
    if let Some(committed) = window.aim.committed_rows {
        let missing = committed - progress.base_rows - progress.met_rows();
        progress.gone_rows += missing.max(0);
    }
}

/// The partition of the sinks' job that a sink belongs to.
pub(crate) fn partition(no: i64) -> u16 {
    let partitions = u64::from(muster_cluster::Job::Sinks.partitions());
    (no.unsigned_abs() % partitions) as u16
}
