//! How a hunt pauses itself and how it ends.

use std::time::Duration;

use muster_catalog::{Args, Error, Priority, Statement, args};
use muster_types::{Epoch, HuntNo};
use roaring::RoaringBitmap;

use super::Dispatcher;
use super::wave::canary_is_through;
use crate::entry::Entry;
use crate::news::{Change, News};
use crate::pause::PauseRule;
use crate::rows::{HuntRow, ONE_HUNT};
use crate::standing::recruited_have_ended;
use crate::{HuntKind, HuntState};

/// How long after its tasks' own timeout a canary may keep silent.
const CANARY_GRACE: Duration = Duration::from_secs(60);

muster_catalog::statements! {
    PAUSE = "UPDATE hunt
        SET state = 'paused', pause_reason = $2, epoch = $3, change = $4
        WHERE no = $1 AND epoch <= $3 AND state = 'running' AND deleted_at IS NULL";
    EXPIRE = "UPDATE hunt
        SET state = 'expired', ended_at = $2, epoch = $3, change = $4
        WHERE no = $1
          AND epoch <= $3
          AND expires_at <= $2
          AND state IN ('awaiting_approval', 'running', 'paused')
          AND deleted_at IS NULL";
    /// Compares the wave: who was recruited meanwhile has not ended.
    FINISH = "UPDATE hunt
        SET state = 'finished', ended_at = $2, epoch = $3, change = $4
        WHERE no = $1 AND epoch <= $3 AND wave = $5 AND state = 'running' AND deleted_at IS NULL";
}

impl Dispatcher {
    /// Why the hunt must pause now.
    pub(super) fn pause_reason(&self, entry: &Entry) -> Option<String> {
        let def = &entry.def;
        if !def.is_paced() {
            return entry.tally().total_reason(&def.limits);
        }
        let canary_done = canary_is_through(entry);
        let silent = !canary_done
            && entry.recruited.len() >= u64::from(def.limits.canary)
            && self.hunts.inner.clock.now().since(entry.waved_at)
                > def.limits.task_timeout() + CANARY_GRACE;
        if silent {
            let (ended, all) = (entry.ended_count(), entry.recruited.len());
            let text = format!("only {ended} of the first {all} endpoints have answered");
            return Some(PauseRule::Canary.reason(&text));
        }
        entry.tally().pause_reason(&def.limits, canary_done && def.limits.canary > 0)
    }

    pub(super) async fn pause(
        &self,
        entry: &Entry,
        epoch: Epoch,
        reason: &str,
    ) -> Result<(), Error> {
        let no = entry.def.no;
        if self.end(no, &PAUSE, |_, change| args![no, reason, epoch, change]).await? {
            tracing::info!(hunt = %no, reason, "the hunt has paused itself");
        }
        Ok(())
    }

    /// Ends a hunt whose time is up by the database's clock. Whether it was.
    pub(super) async fn expire(&self, entry: &Entry, epoch: Epoch) -> Result<bool, Error> {
        let no = entry.def.no;
        self.end(no, &EXPIRE, |now, change| args![no, now, epoch, change]).await
    }

    pub(super) async fn finish(&self, entry: &Entry, epoch: Epoch) -> Result<bool, Error> {
        let (no, wave) = (entry.def.no, entry.wave);
        self.end(no, &FINISH, |now, change| args![no, now, epoch, change, wave]).await
    }

    /// Whether nothing more can happen, when nobody can be recruited now. A hunt goes on until its time
    /// is up; a collection waits for endpoints that are offline; a live query does not.
    pub(super) fn is_over(&self, entry: &Entry, pending: &RoaringBitmap) -> bool {
        let all_in = match entry.def.kind {
            HuntKind::Hunt => return false,
            HuntKind::Live => true,
            HuntKind::Collection => pending.is_empty(),
        };
        if !all_in || entry.def.state != HuntState::Running {
            return false;
        }
        recruited_have_ended(entry, &self.hunts.inner.directory.snapshot())
    }

    async fn end(
        &self,
        no: HuntNo,
        statement: &Statement,
        arguments: impl FnOnce(muster_types::Timestamp, i64) -> Args,
    ) -> Result<bool, Error> {
        let mut tx = self.hunts.inner.catalog.begin(Priority::Intake).await?;
        let change = tx.bump("hunt").await?;
        let now = tx.now().await?;
        if tx.execute(statement, arguments(now, change)).await? == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        let row = tx.fetch_one(&ONE_HUNT, args![no]).await?;
        let news = News(vec![Change::Hunt(Box::new(HuntRow::read(&row)?))]);
        tx.commit().await?;
        self.hunts.tell(&news).await?;
        Ok(true)
    }
}
