//! Tables for people.

use crate::agents::Run;
use crate::measure::Memory;
use crate::rounds::{Hunt, Single, Times, ToAll};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The run with many agents.
pub fn agents(run: &Run) {
    let loads: Vec<String> = run.load.iter().map(|(at, load)| format!("{at} {load:.1}")).collect();
    println!("\n{} agents; load average: {}", run.agents, loads.join(", "));
    println!(
        "enrolled in {:.1} s, connected in {:.1} s, storms {:.1?} s",
        run.enrol_seconds, run.connect_seconds, run.storm_seconds
    );
    memory(run);
    if run.to_all.is_empty() {
        return;
    }
    println!("\n| one task | count | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- |");
    single("while all idle", &run.idle);
    single("while a task to all is sent", &run.busy);
    println!("\n| task to all | p50 ms | p99 ms | max ms | CPU µs per agent |");
    println!("| --- | --- | --- | --- | --- |");
    to_all("Muster", &run.to_all);
    to_all("bare loop", &run.bare);
    if !run.bare.is_empty() {
        let cpu = |rounds: &[ToAll]| median(rounds.iter().map(|round| round.cpu_micros).collect());
        println!("CPU ratio {:.2}", cpu(&run.to_all) / cpu(&run.bare));
    }
    println!("\n| 10 rows of each | endpoints | complete s | SQL s | CPU µs per agent |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, Hunt { endpoints, complete_seconds, sql_seconds, cpu_micros, threads, .. }) in
        &run.hunts
    {
        println!(
            "| {name} | {endpoints} | {complete_seconds:.2} | {sql_seconds:.2} | {cpu_micros:.0} |"
        );
        println!("  {}", by_thread(threads));
    }
}

fn memory(run: &Run) {
    let Some((_, before)) = run.memory.first() else { return };
    println!("\n| memory | resident MB | user B/agent | slab B/end | socket caches B/end |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, now) in &run.memory {
        // Both ends of a link are on this machine.
        let each = |get: fn(&Memory) -> u64, ends: u64| {
            (get(now) as f64 - get(before) as f64) / (ends * run.agents) as f64
        };
        println!(
            "| {name} | {:.1} | {:.0} | {:.0} | {:.0} |",
            now.resident_bytes as f64 / 1e6,
            each(|memory| memory.resident_bytes, 1),
            each(|memory| memory.slab_bytes, 2),
            each(|memory| memory.socket_bytes, 2),
        );
    }
    if let Some(bare) = &run.bare_memory {
        println!("bare server: {:.1} MB resident", bare.resident_bytes as f64 / 1e6);
    }
}

fn single(name: &str, single: &Single) {
    for (from, Times { count, p50, p99, max }) in
        [("from acceptance", single.accepted), ("from the request", single.sent)]
    {
        println!("| {name}, {from} | {count} | {p50:.2} | {p99:.2} | {max:.2} |");
    }
}

fn to_all(name: &str, rounds: &[ToAll]) {
    for ToAll { times: Times { p50, p99, max, .. }, cpu_micros, threads } in rounds {
        println!("| {name} | {p50:.0} | {p99:.0} | {max:.0} | {cpu_micros:.1} |");
        println!("  {}", by_thread(threads));
    }
}

fn by_thread(threads: &std::collections::BTreeMap<String, f64>) -> String {
    let each = threads.iter().map(|(name, micros)| format!("{name} {micros:.1}"));
    each.collect::<Vec<_>>().join(", ")
}
