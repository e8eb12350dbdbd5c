//! One wave: who is recruited now, in one transaction.

use std::time::Duration;

use muster_catalog::{Error, Priority, Tx, args};
use muster_types::{AgentSet, Body, Class, Epoch, Outcome, Record, TaskFact, Timestamp};
use roaring::RoaringBitmap;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Dispatcher, Look, UNSENT_MAX};
use crate::choose::{Choice, choose};
use crate::entry::Entry;
use crate::news::{Change, News, Wave};
use crate::rows::INSERT_WAVE;
use crate::{HuntState, Limits};

/// Between two waves of one paced hunt, so that a slow rate does not make a transaction an endpoint.
const WAVE_EVERY: Duration = Duration::from_millis(200);
/// Tokens the bucket holds: what the hunt may catch up on.
const BURST: Duration = Duration::from_secs(1);

muster_catalog::statements! {
    STANDING = "SELECT wave, epoch, state, recruit_from FROM hunt WHERE no = $1 AND deleted_at IS NULL";
    /// Without a rate: compares everything the wave was planned from.
    ADVANCE_AT_ONCE = "UPDATE hunt
        SET wave = $2 + 1,
            recruited_total = recruited_total + $3,
            epoch = $4
        WHERE no = $1
          AND wave = $2
          AND epoch <= $4
          AND state = 'running'
          AND deleted_at IS NULL";
    /// Compares everything the wave was planned from.
    ADVANCE = "UPDATE hunt
        SET wave = $2 + 1,
            recruited_total = recruited_total + $3,
            recruit_from = $4,
            epoch = $5
        WHERE no = $1
          AND wave = $2
          AND epoch <= $5
          AND recruit_from = $6
          AND state = 'running'
          AND deleted_at IS NULL";
}

impl Dispatcher {
    /// Recruits what is due.
    pub(super) async fn recruit(
        &mut self,
        entry: &Entry,
        epoch: Epoch,
        pending: &RoaringBitmap,
    ) -> Result<Look, Error> {
        let Some(most) = room(entry) else { return Ok(Look::Quiet) };
        let inner = &self.hunts.inner;
        let snapshot = inner.directory.snapshot();
        let online = |agent| inner.presence.is_online(agent);
        let supports = |kind| entry.def.supports(kind);
        let chosen = choose(&supports, &snapshot, pending, &online, most);
        if chosen.is_empty() {
            return Ok(Look::Quiet);
        }
        let no = entry.def.no;
        if entry.def.is_paced() && !self.is_due(entry) {
            return Ok(Look::Busy);
        }
        let (hunt, agents) = (no.0, chosen.len());
        let span = tracing::info_span!(target: "muster::span", "wave", hunt, agents);
        let look = self.commit(entry, epoch, chosen).instrument(span).await?;
        if look == Look::Busy {
            self.pending.entry(no).or_default().waved = Some(Instant::now());
        }
        Ok(look)
    }

    /// Whether enough time has passed for another wave, by this machine's clock; the transaction counts
    /// exactly.
    fn is_due(&self, entry: &Entry) -> bool {
        let one = Duration::from_secs(1) / entry.def.limits.rate_per_second.max(1);
        let waved = self.pending.get(&entry.def.no).and_then(|pending| pending.waved);
        waved.is_none_or(|waved| waved.elapsed() >= WAVE_EVERY.max(one))
    }

    /// One wave in one transaction. What all dispatchers share, the feed, is locked last and for the
    /// shortest time.
    async fn commit(
        &mut self,
        entry: &Entry,
        epoch: Epoch,
        mut chosen: Vec<Choice>,
    ) -> Result<Look, Error> {
        let def = &entry.def;
        let mut tx = self.hunts.inner.catalog.begin(Priority::Intake).await?;
        let advanced = match def.is_paced() {
            true => advance_paced(&mut tx, entry, epoch, &mut chosen).await?,
            false => advance_at_once(&mut tx, entry, epoch, chosen.len()).await?,
        };
        if let Some(look) = advanced {
            tx.rollback().await;
            return Ok(look);
        }
        let agents: AgentSet = chosen.iter().map(|choice| choice.agent).collect();
        let (count, wave) = (agents.len(), entry.wave + 1);
        let seq = tx.bump("wave").await?;
        let committed_at = tx.now().await?;
        let args = args![def.no, wave, agents.to_bytes(), count, committed_at, seq];
        tx.execute(&INSERT_WAVE, args).await?;
        tx.commit().await?;
        let news = News(vec![Change::Wave(Wave { seq, hunt: def.no, wave, committed_at, agents })]);
        self.announce(entry, &chosen, &news).await?;
        Ok(Look::Busy)
    }

    /// After the commit: the index, the frontends, and the facts of those that cannot do it.
    async fn announce(
        &mut self,
        entry: &Entry,
        chosen: &[Choice],
        news: &News,
    ) -> Result<(), Error> {
        let received_at = self.hunts.inner.clock.now();
        let unsupported = chosen.iter().filter(|choice| !choice.supported).map(|choice| Record {
            org: entry.def.org,
            agent: choice.agent,
            kind: choice.kind,
            class: Class::LifeCycle,
            received_at,
            body: Body::Fact(TaskFact::Ended {
                task: entry.def.task(),
                outcome: Outcome::Unsupported,
                reason: format!("there is no source for {} agents", choice.kind),
            }),
        });
        self.unsent.extend(unsupported);
        self.unsent.truncate(UNSENT_MAX);
        self.hunts.tell(news).await
    }
}

/// Counts a wave without a rate into its hunt. What was found instead, when it is not as it was planned.
async fn advance_at_once(
    tx: &mut Tx,
    entry: &Entry,
    epoch: Epoch,
    count: usize,
) -> Result<Option<Look>, Error> {
    let args = args![entry.def.no, entry.wave, count as u64, epoch];
    if tx.execute(&ADVANCE_AT_ONCE, args).await? == 1 {
        return Ok(None);
    }
    let row = tx.fetch_optional(&STANDING, args![entry.def.no]).await?;
    let lost = match row {
        Some(row) => row.get::<Epoch>("epoch")? > epoch,
        None => false,
    };
    // With a later epoch somebody else holds the partition by now.
    Ok(Some(if lost { Look::Quiet } else { Look::Stale }))
}

/// The same by the rate: takes as many of `chosen` as are due by the database's clock.
async fn advance_paced(
    tx: &mut Tx,
    entry: &Entry,
    epoch: Epoch,
    chosen: &mut Vec<Choice>,
) -> Result<Option<Look>, Error> {
    let def = &entry.def;
    let Some(row) = tx.fetch_optional(&STANDING, args![def.no]).await? else {
        return Ok(Some(Look::Stale));
    };
    let state: HuntState = crate::rows::word(&row, "state")?;
    if row.get::<u64>("wave")? != entry.wave || state != HuntState::Running {
        return Ok(Some(Look::Stale));
    }
    if row.get::<Epoch>("epoch")? > epoch {
        return Ok(Some(Look::Quiet));
    }
    let now = tx.now().await?;
    let from: Timestamp = row.get("recruit_from")?;
    let (due, _) = tokens(from, now, &def.limits);
    chosen.truncate(due);
    if chosen.is_empty() {
        return Ok(Some(Look::Busy));
    }
    let next = spend(from, now, chosen.len(), &def.limits);
    let args = args![def.no, entry.wave, chosen.len() as u64, next, epoch, from];
    let advanced = tx.execute(&ADVANCE, args).await? == 1;
    Ok((!advanced).then_some(Look::Stale))
}

/// How many may be recruited by count; `None` when the canary is waited for or the cap is reached.
fn room(entry: &Entry) -> Option<usize> {
    let limits = &entry.def.limits;
    let recruited = entry.recruited.len();
    let mut most = u64::MAX;
    if limits.endpoints_max > 0 {
        most = u64::from(limits.endpoints_max).saturating_sub(recruited);
    }
    if entry.def.is_paced() {
        // What a bucket can ever give.
        most = most.min(u64::from(limits.rate_per_second) * BURST.as_secs());
        let canary = u64::from(limits.canary);
        if recruited < canary {
            most = most.min(canary - recruited);
        } else if !canary_is_through(entry) {
            return None;
        }
    }
    (most > 0).then(|| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Whether the hunt has gone beyond its canary, or may: nine in ten have ended. (That their errors are few
/// is what the pause rules see to.)
pub(super) fn canary_is_through(entry: &Entry) -> bool {
    let canary = u64::from(entry.def.limits.canary);
    let recruited = entry.recruited.len();
    recruited > canary || (recruited == canary && entry.ended_count() * 10 >= canary * 9)
}

/// How many the bucket gives now, and from when on it counts. `from` is the time of the next token.
fn tokens(from: Timestamp, now: Timestamp, limits: &Limits) -> (usize, Timestamp) {
    let from = from.max(now.minus(BURST));
    let micros = now.since(from).as_micros();
    let due = micros * u128::from(limits.rate_per_second) / 1_000_000;
    (usize::try_from(due).unwrap_or(usize::MAX), from)
}

/// The time of the next token after taking `count`.
fn spend(from: Timestamp, now: Timestamp, count: usize, limits: &Limits) -> Timestamp {
    let (_, from) = tokens(from, now, limits);
    let rate = u64::from(limits.rate_per_second.max(1));
    from.plus(Duration::from_micros((count as u64 * 1_000_000).div_ceil(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_never_gives_more_than_the_rate_and_catches_up_for_a_second() {
        let limits = Limits { rate_per_second: 300, ..Limits::default() };
        let start = Timestamp(1_000_000_000);
        let (mut from, mut now, mut given) = (start, start, 0);
        for step in [1_000, 7_000, 250_000, 333_333, 900_000, 5, 123_456] {
            now = Timestamp(now.0 + step);
            let (due, _) = tokens(from, now, &limits);
            from = spend(from, now, due, &limits);
            given += due as i64;
            let passed = now.0 - start.0;
            assert!(given * 1_000_000 <= passed * 300, "{given} in {passed} µs");
            assert!(given * 1_000_000 > passed * 300 - 7 * 1_000_000, "{given} in {passed} µs");
        }
        assert_eq!(tokens(from, Timestamp(now.0 + 60_000_000), &limits).0, 300);
    }
}
