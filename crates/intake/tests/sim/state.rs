//! What there is on an endpoint, and how its agent tells of it.

use std::collections::BTreeMap;

use muster_types::{Delta, Fact, RowFormat, Rows, Timestamp};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::agents::rows_of;

/// The source whose differences osquery agents send.
pub const FOLLOWED: &str = "pack.followed";
/// The source whose whole state native agents send.
pub const WHOLE: &str = "pack.whole";

/// The state of one source.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What is there.
    rows: Vec<u64>,
    epoch: u64,
    counter: Option<u64>,
    runs: i64,
    /// A run was lost since the last that was sent.
    lost: bool,
    /// What the server is to believe: how often each row came less how often it went.
    pub believed: BTreeMap<u64, i64>,
    /// Whether it is to believe that this is all.
    pub complete: bool,
    /// Whether it was told anything.
    pub told: bool,
}

impl State {
    /// A native agent tells everything, mostly the same as before.
    pub fn snapshot(&mut self, rng: &mut ChaCha8Rng) -> Fact {
        if rng.random_bool(0.6) {
            self.change(rng);
        }
        self.believe_all();
        fact(WHOLE, &self.rows, Delta::SNAPSHOT, None)
    }

    /// An osquery agent tells what changed, a line a row; or everything, when it begins anew. The lines of
    /// a run may be lost before they are sent.
    pub fn run(&mut self, rng: &mut ChaCha8Rng) -> Vec<Fact> {
        let (added, removed) = self.change(rng);
        self.runs += 1;
        let at = Some(Timestamp(self.runs * 1_000_000));
        if self.counter.is_none() || rng.random_bool(0.15) {
            self.epoch += u64::from(rng.random_bool(0.5));
            (self.counter, self.lost) = (Some(0), false);
            self.believe_all();
            let delta = Delta::Added { epoch: self.epoch, counter: 0 };
            let lines = self.rows.iter().map(|row| fact(FOLLOWED, &[*row], delta, at));
            let empty = self.rows.is_empty().then(|| fact(FOLLOWED, &[], delta, at));
            return lines.chain(empty).collect();
        }
        if added.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        let counter = self.counter.map_or(0, |counter| counter + 1);
        self.counter = Some(counter);
        if rng.random_bool(0.1) {
            self.lost = true;
            return Vec::new();
        }
        self.complete &= !std::mem::take(&mut self.lost);
        let epoch = self.epoch;
        let mut lines = Vec::new();
        for (rows, sign, delta) in [
            (removed, -1, Delta::Removed { epoch, counter }),
            (added, 1, Delta::Added { epoch, counter }),
        ] {
            for row in rows {
                *self.believed.entry(row).or_default() += sign;
                lines.push(fact(FOLLOWED, &[row], delta, at));
            }
        }
        lines
    }

    fn believe_all(&mut self) {
        self.believed.clear();
        self.rows.iter().for_each(|row| *self.believed.entry(*row).or_default() += 1);
        (self.complete, self.told) = (true, true);
    }

    /// Some rows come, some go; rows may be equal.
    fn change(&mut self, rng: &mut ChaCha8Rng) -> (Vec<u64>, Vec<u64>) {
        self.rows.shuffle(rng);
        let gone = rng.random_range(0..=self.rows.len().min(2));
        let removed: Vec<u64> = self.rows.drain(..gone).collect();
        let count = rng.random_range(0..4);
        let added: Vec<u64> = (0..count).map(|_| rng.random_range(0..20)).collect();
        self.rows.extend(&added);
        (added, removed)
    }
}

fn fact(source: &str, rows: &[u64], delta: Delta, endpoint_time: Option<Timestamp>) -> Fact {
    let Fact::Rows(told) = rows_of(None, rows) else { unreachable!() };
    let source = source.to_owned();
    Fact::Rows(Rows { source, delta, endpoint_time, format: RowFormat::Lines, ..told })
}
