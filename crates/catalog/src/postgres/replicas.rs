//! Servers that follow the primary, for reads that may be some seconds behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::hosts;
use super::read;
use super::servers::{Servers, Wanted};
use crate::{Args, Error, Options, Row, Statement, Value};

/// How long it holds that a replica follows closely enough.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How long it holds that it does not, or does not answer.
const BAD_FOR: Duration = Duration::from_secs(10);
/// How long that question may take.
const JUDGED_WITHIN: Duration = Duration::from_secs(2);

crate::statements! {
    /// Whether a server follows a primary: connected to it, and at most so many seconds behind. On an idle primary
    /// nothing is replayed for long, so having replayed all that came counts too. One that takes writes itself
    /// follows nobody, whatever it once did.
    FRESH = {
        sqlite: "SELECT 1 AS fresh WHERE $1 > 0",
        postgres: "SELECT CAST(CAST(pg_is_in_recovery() AND (
                EXISTS (SELECT pid FROM pg_stat_wal_receiver)
                AND (pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
                    OR extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
                        < CAST($1 AS BIGINT))
            ) AS INTEGER) AS BIGINT) AS fresh"
    };
}

/// All replicas; asked in turn.
#[derive(Debug)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    turn: AtomicUsize,
    behind_max: Duration,
}

#[derive(Debug)]
struct Replica {
    servers: Servers,
    judged: Mutex<Option<(Instant, bool)>>,
    /// Held by the one that asks.
    judging: tokio::sync::Mutex<()>,
}

impl Replicas {
    /// Reads their URLs; nobody is connected to before there is something to read.
    pub(super) fn new(urls: &[String], options: &Options) -> Result<Self, Error> {
        let replica = |url: &String| {
            let hosts = hosts::parse(url, options, true)?;
            let servers = Servers::new(hosts, Wanted::Any, options);
            Ok(Replica {
                servers,
                judged: Mutex::default(),
                judging: tokio::sync::Mutex::default(),
            })
        };
        let all = urls.iter().map(replica).collect::<Result<_, Error>>()?;
        Ok(Self { all, turn: AtomicUsize::new(0), behind_max: options.stale_max })
    }

    /// The answer of the next replica that follows closely enough; `None` when there is none.
    pub(super) async fn fetch_all(
        &self,
        most: Duration,
        s: &Statement,
        args: &[Value],
    ) -> Option<Vec<Row>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..self.all.len() {
            let replica = &self.all[(turn + n) % self.all.len()];
            if !self.follows(replica).await {
                continue;
            }
            match read(&replica.servers, most, s, args).await {
                Ok(rows) => return Some(rows),
                Err(error) => tracing::debug!(%error, statement = s.name, "a replica failed"),
            }
        }
        None
    }

    /// Judged once a second, a bad one every ten; one asks, for the others the last judgement holds.
    async fn follows(&self, replica: &Replica) -> bool {
        let known = *replica.judged.lock().expect("nothing panics while it is held");
        if let Some((at, good)) = known {
            let for_long = if good { GOOD_FOR } else { BAD_FOR };
            if at.elapsed() < for_long {
                return good;
            }
        }
        let Ok(_alone) = replica.judging.try_lock() else {
            return known.is_some_and(|(_, good)| good);
        };
        let seconds = i64::try_from(self.behind_max.as_secs()).unwrap_or(i64::MAX);
        let args: Args = crate::args![seconds];
        let answer = read(&replica.servers, JUDGED_WITHIN, &FRESH, &args).await;
        let good = answer.is_ok_and(|rows| {
            rows.first().is_some_and(|row| row.get::<i64>("fresh").is_ok_and(|fresh| fresh == 1))
        });
        let judged = Some((Instant::now(), good));
        *replica.judged.lock().expect("nothing panics while it is held") = judged;
        good
    }

    pub(super) async fn close(&self) {
        for replica in &self.all {
            replica.servers.close().await;
        }
    }
}
