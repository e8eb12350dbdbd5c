//! How long a hint takes from one instance to another over NATS, against the bus within a process.
//!
//! `cargo run --release -p muster-bus --example hint_latency`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_bus::local::LocalBus;
use muster_bus::nats::{HintKey, NatsBus};
use muster_bus::{Bus, Hint, Topic};
use muster_nats::Options;
use muster_testkit::Nats;

const HINTS: usize = 5000;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let nats = Nats::start()?;
    let open = async |name| {
        let key = HintKey::new(&[7; 32]);
        NatsBus::open(Options::new(nats.url(), name), "bench", key, 64).await
    };
    let (here, there) = (open("here").await?, open("there").await?);
    let local: Arc<dyn Bus> = LocalBus::new(64);
    measure("within a process", &local, &local).await?;
    measure("over NATS", &(here as Arc<dyn Bus>), &(there as Arc<dyn Bus>)).await
}

async fn measure(name: &str, from: &Arc<dyn Bus>, to: &Arc<dyn Bus>) -> Result<()> {
    let mut listener = to.subscribe(&[Topic::Hunts]);
    // Until it listens.
    loop {
        from.publish(Topic::Hunts, Bytes::new());
        let heard = tokio::time::timeout(Duration::from_millis(50), listener.next()).await;
        if matches!(heard, Ok(Some(Hint::Message(..)))) {
            break;
        }
    }
    while tokio::time::timeout(Duration::from_millis(50), listener.next()).await.is_ok() {}
    let mut times = Vec::with_capacity(HINTS);
    for _ in 0..HINTS {
        let begun = Instant::now();
        from.publish(
            Topic::Hunts,
            Bytes::from_static(b"a hint of a usual length, that says a little"),
        );
        listener.next().await.ok_or("the bus is gone")?;
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "{name:17} p50 {:6.1} µs  p99 {:6.1} µs",
        times[HINTS / 2].as_secs_f64() * 1e6,
        times[HINTS * 99 / 100].as_secs_f64() * 1e6
    );
    Ok(())
}
