//! Every target over samples that were changed at random, a second each. For longer:
//!
//!     MUSTER_FUZZ_SECONDS=60 cargo test -p muster-fuzz-tests --test stable
//!
//! What is found is printed with its seed and as hexadecimal text.

mod samples;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Longest input: all that a parser does can be done in this.
const BYTES_MAX: usize = 16 << 10;
/// Inputs kept as a start for others, besides the samples.
const KEPT_MAX: usize = 256;
/// Numbers that mean something to readers of lengths.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 63, 64, 127, 255, 65_535, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
const WORDS: [&str; 24] = [
    "null", "true", "-1", "1e308", "0.1", "\"\"", "[]", "{}", "[[[[", "{\"a\":", "\\u0000",
    "\\ud800", "é", "\u{202e}", "(", ")", "NOT ", " LIKE '%", "''", "&a *a", "---\n", "? ", "\t",
    "\u{feff}",
];

fn change(rng: &mut StdRng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = rng.random_range(0..=input.len());
    let end = rng.random_range(at..=input.len().min(at + 64));
    match rng.random_range(0..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let word = WORDS.choose(rng).unwrap().as_bytes();
            input.splice(at..at, word.iter().copied());
        }
        6 => {
            let other = others.choose(rng).unwrap();
            let from = rng.random_range(0..=other.len());
            let to = rng.random_range(from..=other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        7 | 8 => {
            let number =
                NUMBERS.choose(rng).unwrap().wrapping_add(rng.random_range(0..3)).wrapping_sub(1);
            let width = [1, 2, 4, 8].choose(rng).copied().unwrap().min(input.len() - at);
            input[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        _ => {
            let bytes: Vec<u8> = (0..rng.random_range(0..16)).map(|_| rng.random()).collect();
            input.splice(at..at, bytes);
        }
    }
    input.truncate(BYTES_MAX);
}

fn run(name: &str, target: fn(&[u8]), samples: Vec<Vec<u8>>) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let time = Duration::from_secs(number("MUSTER_FUZZ_SECONDS").unwrap_or(1));
    let seed = number("MUSTER_FUZZ_SEED").unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut inputs = samples;
    inputs.push(Vec::new());
    let (samples, mut count) = (inputs.len(), 0_u64);
    for input in inputs.clone() {
        target(&input);
    }
    let until = Instant::now() + time;
    while Instant::now() < until {
        let mut input = inputs.choose(&mut rng).unwrap().clone();
        for _ in 0..rng.random_range(1..6) {
            change(&mut rng, &mut input, &inputs);
        }
        count += 1;
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} with seed {seed}, input {count}: {hex}");
        }
        // Some are changed again, so that changes add up.
        if rng.random_ratio(1, 50) {
            match inputs.len() - samples < KEPT_MAX {
                true => inputs.push(input),
                false => {
                    let at = rng.random_range(samples..inputs.len());
                    inputs[at] = input;
                }
            }
        }
    }
    println!("{name}: {count} inputs, seed {seed}");
}

macro_rules! targets {
    ($($name:ident),*) => { $(
        #[test]
        fn $name() {
            run(stringify!($name), muster_fuzz_tests::$name, samples::$name());
        }
    )* };
}

targets!(
    artifacts,
    conditions,
    hunt_progress,
    log_frames,
    native_frames,
    osquery_messages,
    records,
    segments,
    shard_state
);

/// Samples are what the formats mean, so that changes begin behind the first checks.
#[test]
fn samples_are_read() {
    use bytes::Bytes;
    let texts =
        |samples: Vec<Vec<u8>>| samples.into_iter().map(|text| String::from_utf8(text).unwrap());
    for text in texts(samples::artifacts()) {
        muster_artifact::parse(&text).unwrap();
    }
    for text in texts(samples::conditions()) {
        muster_endpoints::condition::Condition::parse(&text).unwrap();
    }
    for bytes in samples::hunt_progress() {
        muster_hunts::ShardProgress::decode(&bytes).unwrap();
    }
    for bytes in samples::records() {
        muster_types::Record::decode(Bytes::from(bytes)).unwrap();
    }
    for bytes in samples::segments() {
        muster_results::read_container(&bytes).unwrap();
    }
    for bytes in samples::shard_state() {
        let mut state = muster_intake::fold::ShardState::new(muster_types::Shard::new(0).unwrap());
        state.read(&bytes).unwrap();
        assert!(state.agent_count() > 0);
    }
}
