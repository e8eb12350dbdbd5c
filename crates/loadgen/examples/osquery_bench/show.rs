//! Tables for people.

use serde_json::json;

use crate::idle::Round;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Medians over the rounds of each server and mode, and how they compare.
pub fn rounds(rounds: &[Round]) {
    println!(
        "\n| connections | server | polls/s | server CPU µs | polls per core and s | server core % | \
         load core % | p50 ms | p99 ms | user B/connection |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for mode in ["kept", "new"] {
        let mut costs = Vec::new();
        for server in ["nginx", "stub", "Muster"] {
            let of: Vec<&Round> =
                rounds.iter().filter(|r| r.mode == mode && r.server == server).collect();
            if !of.is_empty() {
                costs.push((server, line(mode, server, &of)));
            }
        }
        let Some(((_, nginx), others)) = costs.split_first() else { continue };
        for (server, cost) in others {
            println!("{mode}: {server} answers {:.2} of nginx's polls per core", nginx / cost);
        }
    }
    for round in rounds {
        println!("{}", json(round));
    }
}

/// Prints one line; processor time of a poll.
fn line(mode: &str, server: &str, of: &[&Round]) -> f64 {
    let over = |get: &dyn Fn(&Round) -> f64| median(of.iter().map(|round| get(round)).collect());
    let cost = over(&|round| round.cpu / round.outcome.answered as f64 * 1e6);
    println!(
        "| {mode} | {server} | {:.0} | {cost:.1} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.0} |",
        over(&|round| round.outcome.answered as f64 / round.outcome.seconds),
        1e6 / cost,
        over(&|round| round.cpu / round.outcome.seconds * 100.0),
        over(&|round| round.load_cpu / round.outcome.seconds * 100.0),
        over(&|round| percentile(round, 50)),
        over(&|round| percentile(round, 99)),
        over(&|round| round.bytes.unwrap_or_default()),
    );
    cost
}

fn percentile(round: &Round, percent: usize) -> f64 {
    let mut micros = round.outcome.micros.clone();
    micros.sort_unstable();
    let at = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
    f64::from(micros.get(at).copied().unwrap_or_default()) / 1e3
}

fn json(round: &Round) -> serde_json::Value {
    json!({
        "server": round.server,
        "mode": round.mode,
        "polls": round.outcome.answered,
        "with_work": round.outcome.work,
        "seconds": round.outcome.seconds,
        "server_cpu": round.cpu,
        "load_cpu": round.load_cpu,
        "user_bytes_per_connection": round.bytes,
    })
}
