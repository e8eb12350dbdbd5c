//! Connections to NATS, where there are any.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Sources;
use super::out::{Labels, Out, PLAIN};

pub(super) fn encode(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    let (stream, bus) = (sources.nats.stream.as_deref(), sources.nats.bus.as_deref());
    let connections = stream.map(|stream| ("stream", stream.connection()));
    let connections = connections.into_iter().chain(bus.map(|bus| ("bus", bus.connection())));
    let status: Vec<_> = connections
        .map(|(name, of)| ([("connection", name)], of.status().borrow().clone()))
        .collect();
    if status.is_empty() {
        return Ok(());
    }
    let of = |value: fn(&muster_nats::Status) -> u64| {
        let samples =
            status.iter().map(move |(labels, status)| (labels as Labels<'_>, value(status)));
        samples.collect::<Vec<_>>()
    };
    let connected = of(|status| u64::from(status.connected));
    let connected = connected.into_iter().map(|(labels, value)| (labels, value as f64));
    out.gauges("nats_connected", "Whether a NATS server is connected", PLAIN, connected)?;
    let help = "Times that a lost connection to NATS came back";
    out.counters("nats_reconnects", help, PLAIN, of(|status| status.reconnects()))?;
    let help = "Times that messages of NATS were dropped as they were not read in time";
    out.counters("nats_slow_consumer", help, PLAIN, of(|status| status.slow_consumers))?;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    if let Some(stream) = stream {
        let metrics = stream.metrics();
        let help = "Messages of records that NATS acknowledged";
        out.counter("nats_messages", help, PLAIN, get(&metrics.messages))?;
        let help = "Time from sending messages of records to their acknowledgements, in all";
        let seconds = get(&metrics.message_nanos) as f64 / 1e9;
        out.seconds("nats_message_duration", help, seconds)?;
        let help = "Messages of records sent again, as another instance wrote to the shard at the same time";
        out.counter("nats_messages_resent", help, PLAIN, get(&metrics.conflicts))?;
        let help = "Times that reading the stream began again";
        out.counter("nats_reread", help, PLAIN, get(&metrics.reread))?;
        let usable = u64::from(stream.problem().is_none());
        out.gauge("nats_stream_usable", "Whether the streams can be used", PLAIN, usable)?;
    }
    if let Some(bus) = bus {
        let counters = bus.counters();
        let help = "Hints sent to other instances";
        out.counter("nats_hints_sent", help, PLAIN, get(&counters.sent))?;
        let help = "Hints of other instances that arrived";
        out.counter("nats_hints_received", help, PLAIN, get(&counters.received))?;
        let help = "Hints that no instance of this version sealed: their content was not read";
        out.counter("nats_hints_unsealed", help, PLAIN, get(&counters.unsealed))?;
        let help = "Hints for other instances that were dropped: NATS was away, or too slow";
        out.counter("nats_hints_dropped", help, PLAIN, get(&counters.dropped))?;
    }
    Ok(())
}
