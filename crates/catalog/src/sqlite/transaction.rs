//! A unit of the group commit, as its user holds it.

use std::sync::Arc;

use sqlx::SqliteConnection;
use tokio::sync::{Mutex, oneshot};

use super::bind;
use crate::{Args, Error, Row, Statement};

/// The writer's connection, shared by turns.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: SqliteConnection,
    /// Whose turn it is; an older transaction finds another number and stops.
    pub(super) turn: u64,
}

/// How a unit ends; dropping the sender rolls it back.
#[derive(Debug)]
pub(super) struct Commit(pub(super) oneshot::Sender<Result<(), Error>>);

#[derive(Debug)]
pub(crate) struct SqliteTx {
    pub(super) slot: Arc<Mutex<Slot>>,
    pub(super) turn: u64,
    pub(super) end: oneshot::Sender<Commit>,
}

impl SqliteTx {
    pub(crate) async fn fetch_all(&mut self, s: &Statement, args: Args) -> Result<Vec<Row>, Error> {
        let mut slot = self.slot.lock().await;
        in_turn(&slot, self.turn)?;
        bind::fetch_all(&mut slot.connection, s, args).await
    }

    pub(crate) async fn execute(&mut self, s: &Statement, args: Args) -> Result<u64, Error> {
        let mut slot = self.slot.lock().await;
        in_turn(&slot, self.turn)?;
        bind::execute(&mut slot.connection, s, args).await
    }

    pub(crate) async fn execute_text(&mut self, text: String, args: Args) -> Result<u64, Error> {
        let mut slot = self.slot.lock().await;
        in_turn(&slot, self.turn)?;
        bind::execute_text(&mut slot.connection, text, args).await
    }

    /// Several statements without arguments, for migrations.
    pub(crate) async fn script(&mut self, text: &'static str) -> Result<(), Error> {
        let mut slot = self.slot.lock().await;
        in_turn(&slot, self.turn)?;
        let done = sqlx::raw_sql(text).execute(&mut slot.connection).await;
        done.map(drop).map_err(|error| Error::of("script", &error))
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.end.send(Commit(done)).map_err(|_| held_too_long())?;
        answer.await.unwrap_or_else(|_| Err(Error::closed()))
    }
}

fn in_turn(slot: &Slot, turn: u64) -> Result<(), Error> {
    if slot.turn == turn { Ok(()) } else { Err(held_too_long()) }
}

fn held_too_long() -> Error {
    Error::Unavailable("the transaction held the writer for too long and was cut off".to_owned())
}
