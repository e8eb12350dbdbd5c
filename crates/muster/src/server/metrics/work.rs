//! Work under leases: folding, recruiting, sending.

use std::fmt::Error;

use muster_cluster::Job;
use muster_hunts::HuntState;
use muster_intake::worker::WorkerStats;

use super::Sources;
use super::out::{BYTES, Labels, Out, PLAIN, SECONDS};

/// Sinks that are shown one by one.
const SINKS_MAX: usize = 100;

pub(super) fn encode(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    leases(&sources.cluster, out)?;
    hunts(&sources.hunts, out)?;
    if let Some(stats) = &sources.worker {
        worker(&stats.borrow().clone(), out)?;
    }
    if let Some(gauges) = &sources.sinks {
        sinks(gauges, out)?;
    }
    Ok(())
}

fn leases(cluster: &muster_cluster::Cluster, out: &mut Out<'_>) -> Result<(), Error> {
    let held = Job::ALL.map(|job| {
        let held = cluster.leases(job).borrow().clone();
        let count = if held.is_valid() { held.epochs.len() } else { 0 };
        ([("job", job.name())], count as f64)
    });
    let samples = held.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.gauges("leases_held", "Partitions this instance works, by job", PLAIN, samples)?;
    let all = Job::ALL.map(|job| ([("job", job.name())], f64::from(job.partitions())));
    let samples = all.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.gauges("leases_all", "Partitions there are, by job", PLAIN, samples)
}

fn hunts(hunts: &muster_hunts::Hunts, out: &mut Out<'_>) -> Result<(), Error> {
    let live = hunts.live();
    let count = |state| live.iter().filter(|hunt| hunt.state == state).count() as f64;
    let states = [
        ([("state", "running")], count(HuntState::Running)),
        ([("state", "paused")], count(HuntState::Paused)),
        ([("state", "awaiting_approval")], count(HuntState::AwaitingApproval)),
    ];
    let samples = states.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.gauges("hunts_live", "Hunts that have not ended, by state", PLAIN, samples)
}

fn worker(stats: &WorkerStats, out: &mut Out<'_>) -> Result<(), Error> {
    let folded = &stats.folded;
    for (name, help, value) in [
        ("rows", "Rows folded", folded.rows),
        ("repeats", "Messages recognised as repeats, whole or in part", folded.repeats),
        ("gaps", "Holes in what agents number", folded.gaps),
        ("poison", "Messages that could not be read", folded.poison),
        ("refused", "Messages or rows that were refused", folded.refused),
        ("unchanged", "Scheduled snapshots equal to the last", folded.unchanged),
        ("tasks_ended", "Tasks that ended", folded.ended),
        ("commits", "Segments or positions published", stats.commits),
        ("failures", "Sessions that failed and began again", stats.failures),
    ] {
        out.counter(&format!("worker_{name}"), help, PLAIN, value)?;
    }
    let help = "Bytes of segments published";
    out.counter("worker_committed", help, BYTES, stats.committed_bytes)?;
    out.gauge("worker_shards", "Shards held", PLAIN, stats.shards)?;
    let help = "Shards whose records are gone";
    out.gauge("worker_shards_standing_still", help, PLAIN, stats.standing_still)?;
    let lag = stats.lag_ms as f64 / 1000.0;
    let help = "Age of the oldest record of its shards that was read and is not committed, or of the last one read while more wait";
    out.gauges("worker_lag", help, SECONDS, [(&[] as Labels<'_>, lag)])
}

fn sinks(gauges: &muster_sinks::Gauges, out: &mut Out<'_>) -> Result<(), Error> {
    let mut read = gauges.read();
    read.truncate(SINKS_MAX);
    let labels: Vec<_> = read.iter().map(|sink| [("sink", sink.name.as_str())]).collect();
    let of = |value: fn(&muster_sinks::Gauge) -> u64| {
        let values = labels.iter().zip(&read);
        values.map(move |(labels, sink)| (labels as Labels<'_>, value(sink))).collect::<Vec<_>>()
    };
    let rise = |samples: Vec<(_, u64)>| samples.into_iter().map(|(l, v)| (l, v as f64));
    let help = "Rows that wait for a sink, those included that may not be for it";
    out.gauges("sink_lag_rows", help, PLAIN, rise(of(|sink| sink.lag_rows)))?;
    let help = "Failures of a sink in a row; 0 when it took rows last";
    out.gauges("sink_failing", help, PLAIN, rise(of(|sink| sink.failures)))?;
    let help = "Rows that a sink's destination took";
    out.counters("sink_delivered_rows", help, PLAIN, of(|sink| sink.delivered_rows))?;
    let help = "Rows that a sink's destination refused for ever";
    out.counters("sink_refused_rows", help, PLAIN, of(|sink| sink.refused_rows))?;
    let help = "Deliveries of a sink that failed, since this process works it";
    out.counters("sink_errors", help, PLAIN, of(|sink| sink.errors))
}
