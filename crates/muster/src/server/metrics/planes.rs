//! The four planes.

use std::fmt::Error;

use super::Sources;
use super::out::{BYTES, Labels, Out, PLAIN};

pub(super) fn encode(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    catalog(&sources.catalog, out)?;
    stream(&sources.stream, out)?;
    archive(&sources.archive, out)?;
    bus(&sources.bus, out)
}

fn catalog(catalog: &muster_catalog::Catalog, out: &mut Out<'_>) -> Result<(), Error> {
    let stats = catalog.stats();
    let help = "Reads, statements and transactions of the catalog";
    out.counter("catalog_calls", help, PLAIN, catalog.calls())?;
    let available = u64::from(catalog.is_available());
    let help = "Whether the catalog can be reached, as far as the last call has found out";
    out.gauge("catalog_available", help, PLAIN, available)?;
    let timed = [
        ([("call", "read")], stats.reads.read()),
        ([("call", "statement")], stats.statements.read()),
        ([("call", "transaction")], stats.transactions.read()),
    ];
    let samples = timed.into_iter();
    let samples: Vec<_> = samples.collect();
    out.durations(
        "catalog_call_duration",
        "How long calls of the catalog took: reads, single statements, transactions from begin to end",
        samples.iter().map(|(labels, seen)| (labels as Labels<'_>, seen.clone())),
    )?;
    let failed = [
        ([("why", "unavailable")], stats.unavailable.get()),
        ([("why", "other")], stats.failed.get()),
    ];
    let samples = failed.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.counters("catalog_failures", "Calls of the catalog that failed", PLAIN, samples)?;
    let help = "Transactions that wait for the catalog: for a connection, or for SQLite's writer";
    out.gauge("catalog_waiting", help, PLAIN, stats.waiting.get())?;
    let pool = catalog.pool();
    let samples = [
        ([("state", "open")], f64::from(pool.open)),
        ([("state", "idle")], f64::from(pool.idle)),
        ([("state", "allowed")], f64::from(pool.allowed)),
    ];
    let samples = samples.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.gauges("catalog_connections", "Connections to the database", PLAIN, samples)
}

fn stream(stream: &muster_stream::MeasuredStream, out: &mut Out<'_>) -> Result<(), Error> {
    let (pressure, stats) = (stream.pressure_now(), stream.stats());
    out.gauge("stream_used", "Bytes kept in the stream", BYTES, pressure.used_bytes)?;
    out.gauge("stream_quota", "Bytes the stream may keep", BYTES, pressure.quota_bytes)?;
    let stopped = u64::from(pressure.stopped);
    out.gauge("stream_stopped", "Whether intake has stopped", PLAIN, stopped)?;
    out.counter("stream_records", "Records made durable", PLAIN, stats.records.get())?;
    let help = "How long appends took until they were durable";
    out.durations("stream_append_duration", help, [(&[] as Labels<'_>, stats.appends.read())])?;
    let failed = [
        ([("why", "full")], stats.full.get()),
        ([("why", "unavailable")], stats.unavailable.get()),
        ([("why", "fatal")], stats.fatal.get()),
    ];
    let samples = failed.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.counters("stream_failures", "Appends that did not happen, by reason", PLAIN, samples)
}

fn archive(archive: &muster_archive::Archive, out: &mut Out<'_>) -> Result<(), Error> {
    let stats = archive.stats();
    let calls = stats.calls();
    let timed: Vec<_> =
        calls.iter().map(|call| ([("call", call.name)], call.took.read())).collect();
    let samples = timed.iter().map(|(labels, seen)| (labels as Labels<'_>, seen.clone()));
    let help = "How long calls of the archive took, by kind";
    out.durations("archive_call_duration", help, samples)?;
    let failed: Vec<_> =
        calls.iter().map(|call| ([("call", call.name)], call.failed.get())).collect();
    let samples = failed.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.counters("archive_failures", "Calls of the archive that failed, by kind", PLAIN, samples)?;
    out.counter("archive_written", "Bytes put into the archive", BYTES, stats.written_bytes.get())?;
    out.counter("archive_read", "Bytes got from the archive", BYTES, stats.read_bytes.get())
}

fn bus(bus: &muster_bus::CountedBus, out: &mut Out<'_>) -> Result<(), Error> {
    out.counter("bus_published", "Hints published on the bus", PLAIN, bus.published())?;
    out.counter("bus_received", "Hints that parts of this process took", PLAIN, bus.received())?;
    let help = "Times that hints were lost (a slow reader, or the bus was away): looked up instead";
    out.counter("bus_gaps", help, PLAIN, bus.gaps())
}
