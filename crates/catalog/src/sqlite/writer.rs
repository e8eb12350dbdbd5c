//! The writer task: the only one that writes, one group commit after another.
//!
//! A group is one `BEGIN IMMEDIATE … COMMIT`. Units join it in order of priority, each within a
//! savepoint (the first needs none), as long as any wait and the group is young; then all of them
//! share one fsync. Errors of a unit stay with the unit, except where SQLite rolls the whole
//! transaction back (full disk, I/O error, interrupt): then every unit of the group gets the error.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::SqliteConnection;
use tokio::sync::{Mutex, oneshot};

use super::lock::Lock;
use super::queue::{Waiting, Work};
use super::transaction::{Commit, Slot};
use super::{SqliteTx, bind, connect, run};
use crate::{Error, Options};

/// How many instructions of SQLite's machine pass between two looks at the deadline.
const PROGRESS_STEPS: i32 = 10_000;

/// How a unit is kept apart from the others of its group.
struct Fence {
    open: Option<&'static str>,
    keep: Option<&'static str>,
    undo: &'static str,
}

const SAVEPOINT: Fence = Fence {
    open: Some("SAVEPOINT unit"),
    keep: Some("RELEASE unit"),
    undo: "ROLLBACK TO unit; RELEASE unit",
};

/// The first unit to change anything has the transaction to itself so far.
const WHOLE: Fence = Fence { open: None, keep: None, undo: "ROLLBACK; BEGIN IMMEDIATE" };

struct Writer {
    path: PathBuf,
    options: Options,
    slot: Arc<Mutex<Slot>>,
    /// Groups committed, for the checkpoint.
    commits: Arc<AtomicU64>,
    deadline: Deadline,
}

/// Runs until the queue is closed and empty, then closes the store and lets the lock go.
pub(super) async fn start(
    path: PathBuf,
    connection: SqliteConnection,
    mut work: Waiting,
    options: Options,
    commits: Arc<AtomicU64>,
    lock: Lock,
) {
    let slot = Arc::new(Mutex::new(Slot { connection, turn: 0 }));
    let mut writer = Writer { path, options, slot, commits, deadline: Deadline::new() };
    writer.watch().await;
    while let Some(first) = work.next().await {
        writer.group(first, &mut work).await;
    }
    writer.finish().await;
    drop(lock);
}

impl Writer {
    async fn group(&mut self, first: Work, waiting: &mut Waiting) {
        if let Err(error) = self.begin().await {
            first.refuse(error);
            return;
        }
        let opened = Instant::now();
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(work) = next.take() {
            if let Err(error) = self.unit(work, &mut group).await {
                // SQLite rolled the whole transaction back.
                self.abandon().await;
                return answer(group, &Err(error));
            }
            if opened.elapsed() < self.options.group_time_max {
                next = waiting.try_next();
            }
        }
        let committed = self.run("COMMIT").await;
        match committed {
            Ok(()) => _ = self.commits.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.abandon().await,
        }
        answer(group, &committed);
    }

    /// One unit. An error here is one of the whole group.
    async fn unit(&mut self, work: Work, group: &mut Vec<Done>) -> Result<(), Error> {
        match work {
            Work::One { statement, args, done } => {
                self.deadline.set(self.options.hold_timeout);
                let mut slot = self.slot.lock().await;
                let result = bind::execute(&mut slot.connection, &statement, args).await;
                self.deadline.clear();
                match result {
                    Ok(changed) => group.push(Done::One(done, changed)),
                    // A failed statement is undone as a whole, unless it took the transaction along.
                    Err(error) => {
                        let alive = in_transaction(&mut slot.connection).await;
                        drop(done.send(Err(error.clone())));
                        if !alive {
                            return Err(error);
                        }
                    }
                }
                Ok(())
            }
            Work::Transaction { grant, hold } => self.transaction(grant, hold, group).await,
        }
    }

    async fn transaction(
        &mut self,
        grant: oneshot::Sender<Result<SqliteTx, Error>>,
        hold: Option<Duration>,
        group: &mut Vec<Done>,
    ) -> Result<(), Error> {
        let (end, ended) = oneshot::channel();
        let fence = if group.is_empty() { &WHOLE } else { &SAVEPOINT };
        let turn = {
            let mut slot = self.slot.lock().await;
            if let Some(open) = fence.open {
                run(&mut slot.connection, open).await?;
            }
            slot.turn += 1;
            slot.turn
        };
        let hold = hold.unwrap_or(self.options.hold_timeout);
        self.deadline.set(hold);
        // When nobody takes it, `end` is dropped with it and the unit is rolled back below.
        drop(grant.send(Ok(SqliteTx { slot: self.slot.clone(), turn, end })));
        let result = tokio::time::timeout(hold, ended).await;
        let mut slot = self.slot.lock().await;
        slot.turn += 1;
        self.deadline.clear();
        match result {
            Ok(Ok(Commit(done))) => {
                if let Some(keep) = fence.keep
                    && let Err(error) = run(&mut slot.connection, keep).await
                {
                    drop(done.send(Err(error.clone())));
                    return Err(error);
                }
                group.push(Done::Transaction(done));
                Ok(())
            }
            Ok(Err(_)) | Err(_) => {
                if result.is_err() {
                    tracing::warn!("a transaction held the catalog's writer for too long");
                }
                run(&mut slot.connection, fence.undo).await
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let Err(error) = self.run("BEGIN IMMEDIATE").await else { return Ok(()) };
        // Left over from a failure, or the connection is gone: start afresh once.
        tracing::warn!(%error, "the catalog's writer begins again");
        self.abandon().await;
        self.run("BEGIN IMMEDIATE").await
    }

    /// Back to no transaction, on a new connection if need be.
    async fn abandon(&mut self) {
        let mut slot = self.slot.lock().await;
        if !in_transaction(&mut slot.connection).await {
            return;
        }
        if run(&mut slot.connection, "ROLLBACK").await.is_ok() {
            return;
        }
        match connect::writer(&self.path).await {
            Ok(connection) => {
                slot.connection = connection;
                drop(slot);
                self.watch().await;
            }
            Err(error) => tracing::error!(%error, "the catalog's writer cannot reopen its store"),
        }
    }

    /// Statements stop at the deadline instead of holding the writer.
    async fn watch(&mut self) {
        let mut slot = self.slot.lock().await;
        let deadline = self.deadline.clone();
        match slot.connection.lock_handle().await {
            Ok(mut handle) => {
                handle.set_progress_handler(PROGRESS_STEPS, move || !deadline.is_past());
            }
            Err(error) => tracing::error!(%error, "statements of the writer have no time limit"),
        }
    }

    async fn run(&self, text: &'static str) -> Result<(), Error> {
        run(&mut self.slot.lock().await.connection, text).await
    }

    async fn finish(self) {
        // A transaction that is still held somewhere keeps the slot; the connection then closes
        // with it.
        if let Ok(slot) = Arc::try_unwrap(self.slot)
            && let Err(error) = sqlx::Connection::close(slot.into_inner().connection).await
        {
            tracing::warn!(%error, "closing the catalog's writer failed");
        }
    }
}

/// Whether a transaction is open, found by opening another.
async fn in_transaction(connection: &mut SqliteConnection) -> bool {
    // Within a transaction this fails and changes nothing; outside it opens one, undone at once.
    if run(connection, "BEGIN DEFERRED").await.is_err() {
        return true;
    }
    if let Err(error) = run(connection, "ROLLBACK").await {
        tracing::warn!(%error, "rolling back an empty transaction failed");
    }
    false
}

/// Who waits for the group's COMMIT.
enum Done {
    Transaction(oneshot::Sender<Result<(), Error>>),
    One(oneshot::Sender<Result<u64, Error>>, u64),
}

fn answer(group: Vec<Done>, result: &Result<(), Error>) {
    for done in group {
        match done {
            Done::Transaction(done) => drop(done.send(result.clone())),
            Done::One(done, changed) => drop(done.send(result.clone().map(|()| changed))),
        }
    }
}

/// Until when the running unit may work, shared with SQLite's progress handler.
#[derive(Clone)]
struct Deadline {
    base: Instant,
    /// Microseconds after `base`; zero is none.
    at: Arc<AtomicU64>,
}

impl Deadline {
    fn new() -> Self {
        Self { base: Instant::now(), at: Arc::default() }
    }

    fn set(&self, after: Duration) {
        let at = (self.base.elapsed() + after).as_micros();
        self.at.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    fn is_past(&self) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at != 0 && self.base.elapsed().as_micros() > u128::from(at)
    }
}
