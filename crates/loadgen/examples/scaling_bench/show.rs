//! Tables of what was measured.

use serde::Serialize;

use crate::load::Kind;
use crate::place::Planes;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Where.
    pub planes: Planes,
    /// Servers.
    pub instances: usize,
    /// What agents did.
    pub kind: Kind,
    /// How long.
    pub seconds: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were to come later.
    pub refused: u64,
    /// Rows folded.
    pub rows: f64,
    /// Processor seconds of the servers.
    pub server_cpu: f64,
    /// Processor seconds of the stores.
    pub store_cpu: f64,
    /// Milliseconds of an answer.
    pub p99_ms: f64,
}

impl Round {
    /// Check-ins or rows.
    fn units(&self) -> f64 {
        match self.kind {
            Kind::Poll => self.answered as f64,
            Kind::Log => self.rows,
        }
    }
}

/// Medians over the rounds of one setting, with the range of the rate.
struct Row {
    rate: f64,
    range: (f64, f64),
    per_cpu: f64,
    server: f64,
    store: f64,
    p99: f64,
    refused: u64,
}

impl Row {
    fn of(rounds: &[&Round]) -> Option<Self> {
        let middle = |value: &dyn Fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(|round| value(round)).collect();
            values.sort_by(f64::total_cmp);
            Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
        };
        let per = |total: f64, units: f64| if units > 0.0 { total * 1e6 / units } else { 0.0 };
        let (rate, low, high) = middle(&|round| round.units() / round.seconds)?;
        Some(Self {
            rate,
            range: (low, high),
            per_cpu: middle(&|round| round.units() / round.server_cpu.max(1e-9))?.0,
            server: middle(&|round| per(round.server_cpu, round.units()))?.0,
            store: middle(&|round| per(round.store_cpu, round.units()))?.0,
            p99: middle(&|round| round.p99_ms)?.0,
            refused: rounds.iter().map(|round| round.refused).sum(),
        })
    }
}

/// Prints a table per kind.
pub fn rounds(rounds: &[Round]) {
    for kind in [Kind::Poll, Kind::Log] {
        let of = |planes: Planes, count: usize| {
            let chosen = |r: &&Round| (r.kind, r.planes, r.instances) == (kind, planes, count);
            Row::of(&rounds.iter().filter(chosen).collect::<Vec<_>>())
        };
        let unit = if kind == Kind::Poll { "check-ins" } else { "rows" };
        println!(
            "\n| {unit} | per second | of linear | per CPU second of the servers | of linear | \
             server µs each | stores µs each | p99 ms | refused |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        let one = of(Planes::Scaled, 1);
        for (planes, count) in [
            (Planes::Embedded, 1),
            (Planes::Scaled, 1),
            (Planes::Scaled, 2),
            (Planes::Scaled, 3),
            (Planes::Scaled, 4),
        ] {
            let Some(row) = of(planes, count) else { continue };
            let linear = |value: f64, of_one: &dyn Fn(&Row) -> f64, times: usize| {
                let one = one.as_ref().map_or(0.0, of_one) * times as f64;
                if one > 0.0 { format!("{:.2}", value / one) } else { "–".to_owned() }
            };
            println!(
                "| {count} {planes:?} | {:.0} ({:.0}–{:.0}) | {} | {:.0} | {} | {:.1} | {:.1} | {:.0} | {} |",
                row.rate,
                row.range.0,
                row.range.1,
                linear(row.rate, &|one| one.rate, count),
                row.per_cpu,
                linear(row.per_cpu, &|one| one.per_cpu, 1),
                row.server,
                row.store,
                row.p99,
                row.refused,
            );
        }
    }
}
