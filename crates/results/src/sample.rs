//! Sample rows for benchmarks and tests: osquery's `processes`, 28 columns, 572 bytes of JSON each
//! on average, the same for the same seed.
//!
//! As on real machines most of a row follows from what runs (370 programs, few of them on most
//! machines), and process numbers, times and sizes are as good as random.

use std::fmt::Write;
use std::sync::Arc;

use muster_types::{ColumnDecl, ColumnType};

use crate::table::{RowClass, TableSpec};

const TEXTS: [&str; 7] = ["name", "path", "cmdline", "state", "cwd", "root", "cgroup_path"];
const NUMBERS: [&str; 21] = [
    "pid",
    "uid",
    "gid",
    "euid",
    "egid",
    "suid",
    "sgid",
    "on_disk",
    "wired_size",
    "resident_size",
    "total_size",
    "user_time",
    "system_time",
    "disk_bytes_read",
    "disk_bytes_written",
    "start_time",
    "parent",
    "pgroup",
    "threads",
    "nice",
    "elapsed_time",
];

/// The table of the sample.
#[must_use]
pub fn table(class: RowClass) -> Arc<TableSpec> {
    let typed = |names: &[&str], kind| -> Vec<ColumnDecl> {
        names.iter().map(|name| ColumnDecl { name: (*name).to_owned(), kind }).collect()
    };
    let columns = [typed(&NUMBERS, ColumnType::Int), typed(&TEXTS, ColumnType::Text)].concat();
    Arc::new(TableSpec { name: "sample_processes".to_owned(), class, columns, open: false })
}

/// A small generator of our own, so that the sample never changes with a dependency.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Debug)]
struct Program {
    name: String,
    path: String,
    cmdline: String,
    cgroup: String,
    uid: u64,
    threads: u64,
}

/// Generates rows of simulated machines.
#[derive(Debug)]
pub struct Processes {
    programs: Vec<Program>,
    random: Random,
}

impl Processes {
    /// The same rows for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let programs = (0..370).map(|n| program(n, &mut random)).collect();
        Self { programs, random }
    }

    /// A JSON array of `rows` rows of one machine.
    #[must_use]
    pub fn body(&mut self, rows: usize) -> Vec<u8> {
        let mut out = String::with_capacity(rows * 600 + 2);
        let booted = 1_700_000_000 + self.random.below(20_000_000);
        let now = booted + 100_000 + self.random.below(5_000_000);
        out.push('[');
        for row in 0..rows {
            if row > 0 {
                out.push(',');
            }
            self.row(&mut out, row as u64, booted, now);
        }
        out.push(']');
        out.into_bytes()
    }

    fn row(&mut self, out: &mut String, n: u64, booted: u64, now: u64) {
        let r = &mut self.random;
        // Skewed: the product of two uniform choices favours the first programs.
        let pick = (r.below(370) * r.below(370) / 370) as usize;
        let program = &self.programs[pick];
        let pid = 1 + n * 37 + r.below(37);
        let started = booted + r.below(now - booted);
        let resident = (1 + r.below(60_000)) * 4096;
        let busy = r.below(4) == 0;
        let (user, system) =
            if busy { (r.below(900_000), r.below(300_000)) } else { (r.below(90), r.below(90)) };
        let (read, written) = if busy { (r.below(1 << 30), r.below(1 << 26)) } else { (0, 0) };
        let parent = if r.below(3) == 0 { 1 + r.below(pid) } else { 1 };
        let Program { name, path, cmdline, cgroup, uid, threads } = program;
        let state = if busy { "R" } else { "S" };
        let elapsed = now - started;
        let total = resident + (1 + r.below(100)) * 1_048_576;
        write!(
            out,
            r#"{{"cgroup_path":"{cgroup}","cmdline":"{cmdline}","cwd":"/","disk_bytes_read":"{read}","disk_bytes_written":"{written}","egid":"{uid}","elapsed_time":"{elapsed}","euid":"{uid}","gid":"{uid}","name":"{name}","nice":"0","on_disk":"1","parent":"{parent}","path":"{path}","pgroup":"{pid}","pid":"{pid}","resident_size":"{resident}","root":"/","sgid":"{uid}","start_time":"{started}","state":"{state}","suid":"{uid}","system_time":"{system}","threads":"{threads}","total_size":"{total}","uid":"{uid}","user_time":"{user}","wired_size":"0"}}"#
        )
        .expect("writing to a string does not fail");
    }
}

fn program(n: u64, random: &mut Random) -> Program {
    const WORDS: [&str; 16] = [
        "system", "network", "update", "session", "journal", "storage", "crypt", "policy", "audio",
        "print", "bus", "cache", "index", "proxy", "render", "worker",
    ];
    let word = |random: &mut Random| WORDS[random.below(16) as usize];
    let name = format!("{}-{}{n}", word(random), word(random));
    let path = format!("/usr/lib/{}/{name}", word(random));
    let mut cmdline = path.clone();
    for _ in 0..random.below(4) {
        let _ = write!(cmdline, " --{}={}", word(random), word(random));
    }
    let cgroup = format!("/system.slice/{name}.service");
    let uid = if random.below(3) == 0 { 100 + random.below(900) } else { 0 };
    Program { name, path, cmdline, cgroup, uid, threads: 1 + random.below(40) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_for_the_same_seed_and_as_long_as_measured() {
        let body = Processes::new(7).body(2000);
        assert_eq!(body, Processes::new(7).body(2000));
        assert_ne!(body, Processes::new(8).body(2000));
        let each = body.len() / 2000;
        assert!((560..=585).contains(&each), "{each} bytes a row");
        let rows: Vec<std::collections::HashMap<&str, &str>> =
            serde_json::from_slice(&body).unwrap();
        assert!(rows.iter().all(|row| row.len() == 28));
    }
}
