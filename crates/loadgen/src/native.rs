//! A run: builds the fleet, lets it live, reports.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_agent::Backoff;
use muster_agent::transport::{CaSet, Dialer, ProxyRules, ServerUrl};
use muster_types::SystemClock;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::NativeOptions;
use crate::agent::{Agent, Shared};
use crate::answer::Answerer;
use crate::control::{Signals, Word, signals, words};
use crate::fleet::{Fleet, Shape};
use crate::report::{Report, Stats};

/// TLS handshakes at a time.
const HANDSHAKES: usize = 64;
/// A run without an end of its own.
const FOREVER_SECONDS: u64 = 100 * 365 * 86_400;
/// Between two storms.
const CALM: Duration = Duration::from_secs(5);

/// `muster loadgen native`: runs a fleet to its end, with a runtime of its own.
///
/// # Errors
/// When the options make no fleet.
pub fn native(options: NativeOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()?;
    let shutdown = CancellationToken::new();
    let print = |report: &Report| println!("{}", serde_json::json!(report));
    let done = runtime.block_on(async {
        let online = watch::Sender::new(false);
        let listening = tokio::spawn(signals(online.clone(), shutdown.clone()));
        let done = run(options, online, words(), shutdown.clone(), print).await;
        shutdown.cancel();
        listening.await??;
        done
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map(drop)
}

/// The same in the caller's runtime. `online` lets the offline endpoints come; `report` is called at
/// each interval and at the end.
///
/// # Errors
/// When the options make no fleet.
pub async fn run(
    options: NativeOptions,
    online: watch::Sender<bool>,
    mut words: mpsc::Receiver<Word>,
    shutdown: CancellationToken,
    report: impl Fn(&Report),
) -> anyhow::Result<Report> {
    let storms = watch::Sender::new(0);
    let shared = share(&options, Signals { online: online.clone(), storms: storms.clone() })?;
    let truth = serde_json::json!({ "seed": options.seed, "plants": shared.fleet.carriers() });
    eprintln!("{truth}");
    let (start, tracker, stop) = (Instant::now(), TaskTracker::new(), shutdown.child_token());
    for number in options.first..options.first.saturating_add(options.endpoints) {
        let agent = Agent::new(Arc::clone(&shared), number)?;
        let nth = number - options.first;
        let turn = Duration::from_secs_f64(f64::from(nth) / f64::from(options.ramp.max(1)));
        tracker.spawn(agent.live(start + turn, stop.clone()));
    }
    tracker.close();
    let numbers = options.first..options.first.saturating_add(options.endpoints);
    let everyone = numbers.filter(|number| !shared.fleet.is_offline(*number)).count() as u64;
    let storming = storm(&shared, everyone, options.storm, storms.clone());
    tokio::pin!(storming);
    let mut stormed = options.storm == 0;
    let mut interval = tokio::time::interval(Duration::from_secs(options.interval.max(1)));
    interval.tick().await;
    let end = Duration::from_secs(options.duration.unwrap_or(FOREVER_SECONDS));
    let end = tokio::time::sleep_until(start + end);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            () = shutdown.cancelled() => break,
            () = &mut storming, if !stormed => stormed = true,
            _ = interval.tick() => report(&shared.stats.report(start.elapsed())),
            Some(word) = words.recv() => match word {
                Word::Online => { online.send_replace(true); }
                Word::Offline => { online.send_replace(false); }
                Word::Storm => storms.send_modify(|storms| *storms += 1),
                Word::Mute => shared.mute.store(true, Relaxed),
                Word::Unmute => shared.mute.store(false, Relaxed),
                Word::Report => report(&shared.stats.report(start.elapsed())),
                Word::Stop => break,
            },
        }
    }
    let last = shared.stats.report(start.elapsed());
    report(&last);
    stop.cancel();
    tracker.wait().await;
    Ok(last)
}

fn share(options: &NativeOptions, signals: Signals) -> anyhow::Result<Arc<Shared>> {
    let servers: Vec<ServerUrl> =
        options.servers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    ensure!(!servers.is_empty(), "no server is given");
    let pem = std::fs::read_to_string(&options.ca)
        .with_context(|| format!("read {}", options.ca.display()))?;
    let secret = match (&options.secret, &options.secret_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        (None, None) => anyhow::bail!("an enrolment secret is needed: --secret or --secret-file"),
    };
    let shape = Shape {
        endpoints: options.first.saturating_add(options.endpoints),
        plants: options.plants.clone(),
        offline: options.offline,
        failing: options.failing,
        silent: options.silent,
        lying: options.lying,
    };
    let loopback = servers
        .iter()
        .all(|server| matches!(server.host(), "localhost") || server.host().starts_with("127."));
    Ok(Arc::new(Shared {
        fleet: Fleet::new(options.seed, &shape),
        servers,
        secret: secret.trim().to_owned(),
        dialer: Dialer {
            tls: Arc::new(CaSet::from_pem(&pem)?.client_config()),
            proxy: ProxyRules::new(None, |_| None)?,
            bind: None,
            timeout: Duration::from_secs(60),
        },
        loopback,
        answerer: Answerer::new(options.threads.max(1), options.canned),
        stats: Stats::default(),
        mute: AtomicBool::new(false),
        task_times: options.task_times,
        signals,
        handshakes: Semaphore::new(HANDSHAKES),
        backoff: Backoff { first: Duration::from_millis(500), last: Duration::from_secs(10) },
        clock: Arc::new(SystemClock),
    }))
}

/// Waits until all links are up, drops them all, waits again; so many times.
async fn storm(shared: &Shared, everyone: u64, times: u32, storms: watch::Sender<u64>) {
    let all_up = async || {
        while shared.stats.connected.load(Relaxed) < everyone {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    all_up().await;
    for _ in 0..times {
        tokio::time::sleep(CALM).await;
        let (began, before) = (Instant::now(), shared.stats.connects.load(Relaxed));
        storms.send_modify(|storms| *storms += 1);
        // Not before all have come again: at first the old links still count.
        while shared.stats.connects.load(Relaxed) < before + everyone {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all_up().await;
        shared.stats.storm(began.elapsed());
    }
}
