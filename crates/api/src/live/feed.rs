//! One reader of one hunt: hints become events, gaps are filled, and it knows when it is over.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::FutureExt as _;
use muster_bus::{Hint, Subscription, Topic};
use muster_hunts::{Coverage as Counts, HuntDef, HuntKind, HuntState};
use muster_types::{Access, AgentNo, HuntNo, Outcome, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::watch::announce;
use super::{LiveEnd, LiveOutcome, LiveProgress, LiveRows, fill, streams};
use crate::audit;
use crate::auth::principal::Grant;
use crate::auth::store;
use crate::caller::Caller;
use crate::hunts::coverage::next_poll;
use crate::hunts::view::Coverage;
use crate::problem::{Problem, Result};
use crate::state::ApiState;

/// Progress is looked at this often at most.
const PROGRESS: Duration = Duration::from_millis(50);
/// How often the watch is renewed and the caller's token looked at.
const RENEW: Duration = Duration::from_secs(4);
/// How often workers are told that somebody looks on: whoever took shards over knows nothing of it.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// A hunt whose time is up is given this long to say so itself.
const GRACE: Duration = Duration::from_secs(5);
/// Records remembered as sent. Beyond it rows still come, but those that hints did not bring are left to
/// the results; the end says so.
const SEEN_MAX: usize = 1_000_000;
/// Rows that hints did not bring are looked for this long after they were missed: they are stored a
/// second after they came.
const SETTLE: Duration = Duration::from_millis(1_500);
/// Each look reads all rows of the hunt, so looks come less often the more there were.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(24);
/// Before the end a look may hold the stream up for this long.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// Hints that came before the end may take this long to be told.
const LAST_HINTS: Duration = Duration::from_secs(30);
/// Endpoints of a question of which it is told when the last of them polls: each is looked at whenever progress is
/// told.
const POLLS_MAX: u64 = 1_000;

/// What a worker publishes of one record.
#[derive(Deserialize)]
struct Record {
    shard: u8,
    pos: u64,
    agent: u32,
    #[serde(default)]
    rows: Vec<Box<RawValue>>,
    #[serde(default)]
    truncated: bool,
    end: Option<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    outcome: String,
    #[serde(default)]
    message: String,
}

pub(super) type Events = mpsc::Sender<std::result::Result<Event, Infallible>>;

/// Why the stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Ended,
    Left,
    SignedOut,
    Shutdown,
}

pub(super) struct Feed {
    state: ApiState,
    caller: Caller,
    access: Access,
    hunt: HuntNo,
    send: Events,
    seen: HashSet<(u8, u64)>,
    /// Hints were missed: what is committed has to be looked through before the end.
    behind: bool,
    /// When to look, before the end.
    look_at: Option<Instant>,
    look_every: Duration,
    /// What cannot be sent any more, in words.
    missing: Option<String>,
    told: Option<Counts>,
    /// When the watch is renewed next.
    renew_at: Instant,
    /// What was granted when it began.
    granted: Option<Vec<Grant>>,
    /// Nothing more is sent, and why.
    over: Option<Over>,
    /// It was stopped a moment ago, and what was handed out before may still be answered.
    settling: bool,
    /// Microseconds by which the database's clock is ahead of ours: hunts live by the former.
    ahead: i64,
    rows: u64,
    bytes: u64,
}

impl Feed {
    pub(super) fn new(state: ApiState, caller: Caller, hunt: HuntNo, send: Events) -> Self {
        let access = caller.access();
        Self {
            state,
            caller,
            access,
            hunt,
            send,
            seen: HashSet::new(),
            behind: false,
            look_at: None,
            look_every: SETTLE,
            missing: None,
            told: None,
            renew_at: Instant::now(),
            granted: None,
            over: None,
            settling: false,
            ahead: 0,
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let followed = self.follow().await;
        let over = match (followed, self.over) {
            (Ok(over), _) | (Err(_), Some(over)) => over,
            (Err(problem), None) => {
                tracing::warn!(hunt = %self.hunt, cause = problem.cause(), "live rows failed");
                self.event("error", &problem.body(&self.caller.request_id)).await.ok();
                Over::Left
            }
        };
        if let Err(problem) = self.record(over).await {
            tracing::warn!(
                cause = problem.cause(),
                "the audit log did not take the end of a stream"
            );
        }
    }

    async fn follow(&mut self) -> Result<Over> {
        let opened = self.state.watches.take(self.hunt);
        self.behind = opened.is_none();
        let mut hints = opened.unwrap_or_else(|| {
            let hints = self.state.bus.subscribe(&[Topic::Live(self.hunt)]);
            announce(&*self.state.bus, self.hunt);
            hints
        });
        let shutdown = self.state.shutdown.clone();
        let mut changes = self.state.hunts.changes();
        let mut announced = ticks(ANNOUNCE);
        let mut progress = ticks(PROGRESS);
        let mut dirty = true;
        self.renew().await?;
        if self.behind {
            self.look().await;
        }
        loop {
            if let Some(over) = self.over {
                return Ok(over);
            }
            // In this order: a busy hunt always has a hint, and what stands behind hints would never come.
            tokio::select! {
                biased;
                () = self.send.closed() => return Ok(Over::Left),
                () = shutdown.cancelled() => return Ok(Over::Shutdown),
                () = sleep_until(self.renew_at) => {
                    dirty = true;
                    self.renew().await?;
                }
                _ = announced.tick() => {
                    dirty |= self.settling;
                    announce(&*self.state.bus, self.hunt);
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Ok(Over::Shutdown);
                    }
                    dirty = true;
                }
                _ = progress.tick(), if dirty => {
                    dirty = false;
                    if self.progress(&mut *hints).await? {
                        return Ok(Over::Ended);
                    }
                    // Counted from here, so that hints have their turn however long it took.
                    progress.reset();
                }
                hint = hints.next() => match hint {
                    Some(Hint::Message(_, content)) => self.take(&content).await?,
                    Some(Hint::Gap) => self.missed(),
                    None => return Ok(Over::Shutdown),
                },
                () = until(self.look_at) => self.look().await,
            }
        }
    }

    /// Looks whether the caller may still follow, and what.
    async fn renew(&mut self) -> Result<()> {
        self.compare_clocks().await?;
        let (token, now) = (self.caller.principal.token_no, self.caller.now());
        let is_live = store::is_live(&self.state.catalog, token, now).await?;
        // Other roles end it; labels that moved change what it shows.
        let user = self.caller.principal.user_no;
        let grants = store::grants_of(&self.state.catalog, user).await?;
        if !is_live || self.granted.get_or_insert_with(|| grants.clone()) != &grants {
            return Err(self.ended(Over::SignedOut));
        }
        self.access = self.caller.access();
        self.renew_at = Instant::now() + RENEW;
        Ok(())
    }

    /// The same where the loop does not come by: a slow reader takes long, and may lose its rights meanwhile.
    async fn renew_in_time(&mut self) -> Result<()> {
        if Instant::now() < self.renew_at { Ok(()) } else { self.renew().await }
    }

    /// Nothing more is sent from now on.
    fn ended(&mut self, over: Over) -> Problem {
        self.over = Some(over);
        Problem::unavailable("the stream is over", format!("{over:?}"))
    }

    /// Sends what one record brought, if the caller may see its agent and has not had it.
    async fn take(&mut self, content: &[u8]) -> Result<()> {
        let Ok(record) = serde_json::from_slice::<Record>(content) else {
            self.missed();
            return Ok(());
        };
        if !self.access.allows(self.access.org, AgentNo(record.agent)) {
            return Ok(());
        }
        if record.truncated {
            // Too large for a hint; the segment has all of it.
            self.missed();
        } else if !record.rows.is_empty() && self.remember(record.shard, record.pos) {
            self.rows(record.agent, record.rows).await?;
        }
        if let Some(end) = record.end {
            let (endpoint, name) = self.endpoint(record.agent);
            let Ended { outcome, message } = end;
            self.event("outcome", &LiveOutcome { endpoint, name, outcome, message }).await?;
        }
        Ok(())
    }

    fn remember(&mut self, shard: u8, pos: u64) -> bool {
        if self.seen.len() >= SEEN_MAX {
            return !self.seen.contains(&(shard, pos));
        }
        self.seen.insert((shard, pos))
    }

    /// Tells what waits at the end of a hunt: of outcomes hints alone tell, and of rows they tell sooner.
    async fn last(&mut self, hints: &mut dyn Subscription) -> Result<()> {
        let until = Instant::now() + LAST_HINTS;
        while Instant::now() < until {
            self.renew_in_time().await?;
            match hints.next().now_or_never().flatten() {
                Some(Hint::Message(_, content)) => self.take(&content).await?,
                Some(Hint::Gap) => self.missed(),
                None => break,
            }
        }
        Ok(())
    }

    /// Tells the coverage if it changed; whether it is over.
    async fn progress(&mut self, hints: &mut dyn Subscription) -> Result<bool> {
        let Some(hunt) = self.state.hunts.get(self.hunt).await? else { return Ok(true) };
        let counts = self.state.hunts.coverage(self.hunt, &self.access).await?;
        let Some(counts) = counts else { return Ok(true) };
        let over = self.is_over(&hunt, &counts);
        let stored = counts.row_count;
        if over {
            self.last(hints).await?;
        }
        if over && (self.behind || stored.is_none_or(|stored| stored != self.rows)) {
            if let Err(problem) = self.fill(None).await {
                if self.over.is_some() {
                    return Err(problem);
                }
                tracing::warn!(hunt = %self.hunt, cause = problem.cause(), "rows cannot be read");
                let text = "hints of rows were lost, and the store cannot be read now";
                self.missing = Some(text.to_owned());
            }
        } else if stored.is_some_and(|stored| stored > self.rows) {
            // Stored, and no hint has brought it: perhaps one that is on its way does.
            self.missed();
        }
        if self.told.as_ref() != Some(&counts) {
            let next_poll_seconds = self.next_poll(&counts).await?.map(|left| left.as_secs());
            let coverage = Coverage::from(&counts);
            self.event("progress", &LiveProgress { coverage, next_poll_seconds }).await?;
            self.told = Some(counts.clone());
        }
        if over {
            // Everything is answered or out of time; the dispatcher writes it into the hunt in a moment.
            let state = match hunt.state {
                state if state.is_ended() => state,
                _ if counts.ended() == counts.total => HuntState::Finished,
                _ => HuntState::Expired,
            };
            let state = state.to_string();
            let missing = self.missing.take().or_else(|| {
                let less = stored?.checked_sub(self.rows).filter(|less| *less > 0)?;
                Some(format!("{less} rows are stored that could not be read"))
            });
            let coverage = Coverage::from(&counts);
            let end = LiveEnd { state, coverage, row_count: self.rows, missing };
            self.event("end", &end).await?;
        }
        Ok(over)
    }

    /// How long it is at most until the last of those that wait asks for work.
    async fn next_poll(&self, counts: &Counts) -> Result<Option<Duration>> {
        if counts.count(Outcome::Waiting) == 0 || counts.total > POLLS_MAX {
            return Ok(None);
        }
        let endpoints = self.state.hunts.outcomes(self.hunt, &self.access).await?;
        let snapshot = self.state.directory.snapshot();
        let left =
            endpoints.iter().flatten().filter_map(|it| next_poll(&self.state, &snapshot, it));
        Ok(left.max())
    }

    fn is_over(&mut self, hunt: &HuntDef, counts: &Counts) -> bool {
        let all = counts.total > 0 && counts.recruited > 0 && counts.ended() == counts.total;
        let now = Timestamp(self.caller.now().0.saturating_add(self.ahead));
        let late = now > hunt.expires_at.plus(GRACE);
        // The counts go by this machine's clock, and are a little older.
        let settled_at = hunt.stopped_at().map(|at| at.plus(HuntDef::UNSETTLED + GRACE));
        let waits = counts.count(Outcome::Waiting) > 0;
        self.settling = waits && settled_at.is_some_and(|at| now < at);
        let ended = hunt.state.is_ended() && !self.settling;
        ended || late || (all && hunt.kind != HuntKind::Hunt)
    }

    async fn compare_clocks(&mut self) -> Result<()> {
        self.ahead = self.state.catalog.now().await?.0 - self.caller.now().0;
        Ok(())
    }

    /// Hints did not bring everything: the segments are looked through in a moment, and at the end.
    fn missed(&mut self) {
        self.behind = true;
        self.look_at.get_or_insert_with(|| Instant::now() + self.look_every);
    }

    /// Looks before the end. What fails now is tried again, and told at the end.
    async fn look(&mut self) {
        self.look_at = None;
        self.look_every = (self.look_every * 2).min(LOOK_EVERY_MAX);
        if let Err(problem) = self.fill(Some(LOOK_TIME)).await {
            tracing::debug!(hunt = %self.hunt, cause = problem.cause(), "looking for rows failed");
            self.missed();
        }
    }

    /// Sends what is stored and was not sent; a page of it within `time`.
    async fn fill(&mut self, time: Option<Duration>) -> Result<()> {
        let mut after = None;
        loop {
            if self.seen.len() >= SEEN_MAX {
                let text = "more came than a stream remembers, and hints of it were lost";
                self.missing = Some(text.to_owned());
                return Ok(());
            }
            let (state, access) = (&self.state, &self.access);
            let account = self.caller.principal.user_no;
            let page = fill::missing(state, account, access, self.hunt, after, &mut self.seen);
            // Nothing counts as sent while the page is being read.
            let page = match time {
                Some(time) => timeout(time, page).await.map_err(|_| late())??,
                None => page.await?,
            };
            for found in page.found {
                self.renew_in_time().await?;
                if self.access.allows(self.access.org, AgentNo(found.agent)) {
                    self.rows(found.agent, found.rows).await?;
                }
            }
            match page.next {
                fill::Next::Page(last) => after = Some(last),
                fill::Next::Cut => {
                    let text = "one answer has more rows than can be read at once";
                    self.missing = Some(text.to_owned());
                    return Ok(());
                }
                fill::Next::End => break,
            }
        }
        self.behind = false;
        Ok(())
    }

    async fn rows(&mut self, agent: u32, rows: Vec<Box<RawValue>>) -> Result<()> {
        self.rows += rows.len() as u64;
        let (endpoint, name) = self.endpoint(agent);
        self.event("rows", &LiveRows { endpoint, name, agent, rows }).await
    }

    fn endpoint(&self, agent: u32) -> (u32, String) {
        let snapshot = self.state.directory.snapshot();
        let Some(agent) = snapshot.agent(AgentNo(agent)) else { return (0, String::new()) };
        let endpoint = snapshot.endpoint_or_tombstone(agent.endpoint);
        (agent.endpoint.0, endpoint.map(|endpoint| endpoint.name.to_string()).unwrap_or_default())
    }

    /// Sends an event, or ends the stream of a reader that went away or takes nothing.
    async fn event(&mut self, name: &str, content: &impl Serialize) -> Result<()> {
        if let Some(over) = self.over {
            return Err(self.ended(over));
        }
        let text = serde_json::to_string(content).map_err(Problem::internal)?;
        self.bytes += text.len() as u64;
        match streams::send(&self.send, Event::default().event(name).data(text)).await {
            true => Ok(()),
            false => Err(self.ended(Over::Left)),
        }
    }

    async fn record(&self, over: Over) -> Result<()> {
        let details = json!({
            "scoped": self.access.agents.is_some(),
            "rows": self.rows,
            "bytes": self.bytes,
            "ended_by": format!("{over:?}").to_lowercase(),
        });
        let mut tx = self.state.begin().await?;
        let entry = self.caller.entry(format!("hunt/{}", self.hunt), "ok", &details);
        audit::append(&mut tx, self.state.instance, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn late() -> Problem {
    Problem::unavailable("the rows could not be read in time", "")
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
