//! A run: builds the fleet, lets it live, reports.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use muster_types::{Clock as _, SystemClock};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::Dialer;
use super::host::Host;
use super::plan::{Plan, Plans};
use super::report::{OsqueryReport, Stats};
use super::{OsqueryOptions, config, live, log};
use crate::control::{Word, signals, words};

/// A run without an end of its own.
const FOREVER_SECONDS: u64 = 100 * 365 * 86_400;

/// What all hosts share.
pub(super) struct Shared {
    pub(super) options: OsqueryOptions,
    pub(super) dialer: Dialer,
    pub(super) stats: Stats,
    pub(super) plans: Plans,
    away: AtomicBool,
    draining: AtomicBool,
    storms: watch::Sender<u64>,
}

impl Shared {
    /// Whether there is no network.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    /// Waits; whether a storm ended it early.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        let mut storms = self.storms.subscribe();
        tokio::select! {
            () = tokio::time::sleep(time) => false,
            raised = storms.changed() => raised.is_ok(),
        }
    }

    /// Whether no new lines are made.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// Unix time, by the simulated hosts' clock.
pub(super) fn seconds() -> u64 {
    u64::try_from(SystemClock.now().0 / 1_000_000).unwrap_or_default()
}

/// `muster loadgen osquery`: runs a fleet to its end, with a runtime of its own.
///
/// Words on standard input: `offline` takes the network away from all hosts, `online` gives it back
/// to all at once, `storm` ends all waits in this moment, whatever the timers say, as when power comes
/// back to a whole site, `report` prints one, `stop` ends.
///
/// # Errors
/// When the options make no fleet.
pub fn osquery(options: OsqueryOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()?;
    let shutdown = CancellationToken::new();
    let print = |report: &OsqueryReport| println!("{}", serde_json::json!(report));
    let done = runtime.block_on(async {
        let listening = tokio::spawn(signals(watch::Sender::new(false), shutdown.clone()));
        let done = run(options, words(), shutdown.clone(), print).await;
        shutdown.cancel();
        listening.await??;
        done
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map(drop)
}

/// The same in the caller's runtime. `report` is called at each interval and at the end.
///
/// # Errors
/// When the options make no fleet.
pub async fn run(
    options: OsqueryOptions,
    mut words: mpsc::Receiver<Word>,
    shutdown: CancellationToken,
    report: impl Fn(&OsqueryReport),
) -> anyhow::Result<OsqueryReport> {
    ensure!(options.hosts > 0, "a fleet has at least one host");
    let intervals = [options.distributed_interval, options.config_interval, options.log_interval];
    ensure!(intervals.iter().all(|i| *i > 0.0 && *i < 1e7), "intervals are seconds above zero");
    let dialer = Dialer::new(&options).await?;
    let shared = Arc::new(Shared {
        dialer,
        stats: Stats::default(),
        plans: Plans::default(),
        away: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        storms: watch::Sender::new(0),
        options,
    });
    let options = &shared.options;
    let (began, tracker, stop) = (Instant::now(), TaskTracker::new(), shutdown.child_token());
    let numbers = options.first..options.first.saturating_add(options.hosts);
    let hosts: Vec<_> = numbers.map(|number| Arc::new(Host::new(options, number))).collect();
    for (nth, host) in hosts.iter().enumerate() {
        let turn = options.start.max(0.0) * nth as f64 / f64::from(options.hosts);
        spawn(&tracker, &shared, host, began + Duration::from_secs_f64(turn), &stop);
    }
    tracker.close();
    let look = || {
        let buffered = hosts
            .iter()
            .map(|host| host.buffer.lock().unwrap_or_else(PoisonError::into_inner).len() as u64);
        shared.stats.report(began.elapsed(), hosts.len() as u64, buffered.sum(), options.buckets)
    };
    let mut interval = tokio::time::interval(Duration::from_secs(options.interval.max(1)));
    interval.tick().await;
    let end = Duration::from_secs(options.duration.unwrap_or(FOREVER_SECONDS));
    let mut end = std::pin::pin!(sleep_until(began + end));
    loop {
        tokio::select! {
            () = &mut end => break,
            () = shutdown.cancelled() => break,
            _ = interval.tick() => report(&look()),
            Some(word) = words.recv() => match word {
                Word::Offline => shared.away.store(true, Relaxed),
                Word::Online => shared.away.store(false, Relaxed),
                Word::Report => report(&look()),
                Word::Stop => break,
                Word::Storm => shared.storms.send_modify(|storms| *storms += 1),
                Word::Mute | Word::Unmute => eprintln!("not for osquery agents"),
            },
        }
    }
    shared.draining.store(true, Relaxed);
    let drained = Instant::now() + Duration::from_secs(options.drain);
    while Instant::now() < drained && look().lines_buffered > 0 && !shutdown.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.cancel();
    tracker.wait().await;
    let last = look();
    report(&last);
    Ok(last)
}

/// The three loops of a host. They know of one another only through the key.
fn spawn(
    tracker: &TaskTracker,
    shared: &Arc<Shared>,
    host: &Arc<Host>,
    start: Instant,
    stop: &CancellationToken,
) {
    let (plan, planned) = watch::channel(Arc::<Plan>::default());
    let task = |shared: &Arc<Shared>, host: &Arc<Host>| (Arc::clone(shared), Arc::clone(host));
    let (s, h) = task(shared, host);
    let config = async move {
        sleep_until(start).await;
        Box::pin(config::run(&s, &h, &plan)).await;
    };
    let (s, h) = task(shared, host);
    let live = async move {
        sleep_until(start).await;
        Box::pin(live::run(&s, &h)).await;
    };
    let (s, h) = task(shared, host);
    let log = async move {
        sleep_until(start).await;
        Box::pin(log::run(&s, &h, planned)).await;
    };
    for one in [Box::pin(config) as Loop, Box::pin(live), Box::pin(log)] {
        let stop = stop.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = one => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

type Loop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
