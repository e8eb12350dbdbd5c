//! Spans reach a collector; one that is dead or slow costs nobody anything.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_telemetry::trace::{self, QUEUE_MAX, TARGET, TraceOptions, Traces};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

/// Answers 200 to everything and keeps the bodies.
struct Collector {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => bodies.extend(answer(stream)),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            bodies
        });
        Self { port, stop, thread }
    }

    fn bodies(self) -> Vec<u8> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// Whether a request is there with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    request.len() >= end + 4 + length
}

fn answer(mut stream: TcpStream) -> Vec<u8> {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut all, mut chunk) = (Vec::new(), [0; 8192]);
    while !is_whole(&all) {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "it ended before its end");
        all.extend_from_slice(&chunk[..n]);
    }
    assert!(all.starts_with(b"POST /v1/traces "), "{}", String::from_utf8_lossy(&all));
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(reply.as_bytes()).unwrap();
    all
}

fn traces(port: u16, sample: f64) -> Traces {
    // A client for TLS is built even where none is used; a second install is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = TraceOptions {
        otlp: format!("http://127.0.0.1:{port}"),
        sample,
        instance: "front-1".into(),
        version: "1".into(),
    };
    Traces::start(&options).unwrap()
}

fn subscriber(traces: &Traces) -> impl tracing::Subscriber + Send + Sync + use<> {
    Registry::default().with(traces.layer().with_filter(filter_fn(trace::is_ours)))
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn spans_reach_the_collector_with_the_callers_trace() {
    let collector = Collector::start();
    let traces = traces(collector.port, 0.0);
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answered = tracing::subscriber::with_default(subscriber(&traces), || {
        // Not of a sampled caller: sampled at 0, so not sent.
        drop(tracing::info_span!(target: TARGET, "left-out"));
        // Not for traces.
        drop(tracing::info_span!("not-ours"));
        let span = tracing::info_span!(target: TARGET, "request", http.route = "/v1/hunts");
        trace::adopt(&span, caller);
        let answered = trace::traceparent(&span);
        span.in_scope(|| drop(tracing::info_span!(target: TARGET, "transaction").entered()));
        answered
    });
    let answered = answered.expect("there are traces");
    assert!(answered.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{answered}");
    assert_ne!(answered, caller);
    traces.stop();
    let bodies = collector.bodies();
    for wanted in ["request", "transaction", "http.route", "/v1/hunts", "front-1"] {
        assert!(has(&bodies, wanted), "{wanted} did not come");
    }
    assert!(!has(&bodies, "left-out") && !has(&bodies, "not-ours"));
}

#[test]
fn what_is_no_trace_context_changes_nothing() {
    let traces = traces(1, 1.0);
    tracing::subscriber::with_default(subscriber(&traces), || {
        for bad in ["", "00-0-0-00", "hunter2", &"0".repeat(500)] {
            let span = tracing::info_span!(target: TARGET, "request");
            trace::adopt(&span, bad);
            assert!(trace::traceparent(&span).is_some());
        }
    });
    traces.stop();
}

#[test]
fn a_dead_collector_costs_nothing_and_is_counted() {
    // Nobody listens on port 1; another accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [1, silent.local_addr().unwrap().port()] {
        let traces = traces(port, 1.0);
        let spans = QUEUE_MAX * 3;
        let begun = Instant::now();
        tracing::subscriber::with_default(subscriber(&traces), || {
            for _ in 0..spans {
                drop(tracing::info_span!(target: TARGET, "wave").entered());
            }
        });
        let each = begun.elapsed() / u32::try_from(spans).unwrap();
        println!("a span with a dead collector: {each:?}");
        assert!(each < Duration::from_millis(1), "{each:?}");
        let stats = traces.stats();
        assert!(stats.dropped.get() >= (spans - 2 * QUEUE_MAX) as u64, "{stats:?}");
        let begun = Instant::now();
        traces.stop();
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

#[test]
fn without_a_collector_a_span_is_one_branch() {
    let begun = Instant::now();
    let rounds = 1_000_000;
    for n in 0..rounds {
        let span = tracing::info_span!(target: TARGET, "request", n);
        assert!(std::hint::black_box(&span).is_disabled());
    }
    println!("a span that nobody listens to: {:?}", begun.elapsed() / rounds);
}
